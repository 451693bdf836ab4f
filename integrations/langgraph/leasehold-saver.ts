/** A LangGraph.js checkpoint saver that keeps each thread in a Checkpoint lease of Leasehold. */

import { isDeepStrictEqual } from "node:util";
import type { Transport } from "@connectrpc/connect";
import type { RunnableConfig } from "@langchain/core/runnables";
import {
  BaseCheckpointSaver,
  type ChannelVersions,
  type Checkpoint,
  type CheckpointListOptions,
  type CheckpointMetadata,
  type CheckpointTuple,
  type DeltaChannelHistory,
  getCheckpointId,
  type PendingWrite,
  type SerializerProtocol,
} from "@langchain/langgraph-checkpoint";
import { LRUCache } from "lru-cache";
import { packCheckpoint, packWrites } from "./checkpoint-packing.ts";
import { ThreadHistory } from "./thread-history.ts";
import { ThreadLeases, type VersionNote } from "./thread-leases.ts";
import { isWorkflowPrefix, longestPrefix } from "./thread-name.ts";
import { recordKey, type StoredThread } from "./thread-state.ts";
import { ThreadTuples } from "./thread-tuples.ts";
import { ThreadWriter } from "./thread-writer.ts";

export { ThreadEndedError } from "./thread-writer.ts";

export interface LeaseholdSaverOptions {
  /** The way to the server, which sends an API key of scopes `read`, `write` and `create` with every call. */
  readonly transport: Transport;
  /** How long the lease of a new thread lasts, from its first checkpoint. Unset: 7 days. */
  readonly durationSeconds?: number;
  /** The largest that all a thread needs to be resumed may become. Unset: 1 MiB. */
  readonly sizeBytes?: number;
  /** How many versions of a thread are kept, 1 to 100. Unset: 10, the most that are free. */
  readonly retainedVersions?: number;
  /** The most to pay for a thread. Unset: whatever the price is. */
  readonly maxPriceMicros?: bigint;
  /** What the workflow_id of every thread begins with. Savers that share an account and not their threads differ in it. */
  readonly workflowPrefix?: string;
  /** Labels of the leases. Stored in clear. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly serde?: SerializerProtocol;
}

/** How many checkpoints are remembered with their lease. */
const maxPins = 100_000;
const longestNoteCharacters = 256;

/** See README.md in this folder for what is kept, where, and for how long. */
export class LeaseholdSaver extends BaseCheckpointSaver {
  readonly #leases: ThreadLeases;
  readonly #writer: ThreadWriter;
  /** The lease of each checkpoint that was read or put here: what follows it must go to the same lease. */
  readonly #pins = new LRUCache<string, string>({ max: maxPins });

  /** Sends nothing. @throws if the prefix cannot begin a workflow_id. */
  constructor(options: LeaseholdSaverOptions) {
    super(options.serde);
    const { workflowPrefix = "langgraph-" } = options;
    if (!isWorkflowPrefix(workflowPrefix)) {
      throw new Error(`workflowPrefix must be at most ${longestPrefix} characters of A-Z a-z 0-9 . _ -`);
    }
    this.#leases = new ThreadLeases(options.transport, workflowPrefix, {
      durationSeconds: options.durationSeconds ?? 7 * 24 * 3600,
      sizeBytes: options.sizeBytes ?? 1024 * 1024,
      retainedVersions: options.retainedVersions ?? 10,
      maxPriceMicros: options.maxPriceMicros,
      labels: options.labels ?? {},
    });
    this.#writer = new ThreadWriter(this.#leases);
  }

  override async getTuple(config: RunnableConfig): Promise<CheckpointTuple | undefined> {
    const tuples = await this.#read(config);
    return await tuples?.get(namespaceOf(config) ?? "", getCheckpointId(config));
  }

  /** Newest first within a thread; without a thread_id all threads, those whose lease is newest first. */
  override async *list(config: RunnableConfig, options: CheckpointListOptions = {}): AsyncGenerator<CheckpointTuple> {
    let left = options.limit ?? Number.POSITIVE_INFINITY;
    const wanted = {
      namespace: namespaceOf(config),
      checkpointId: getCheckpointId(config),
      beforeId: options.before && (getCheckpointId(options.before) || undefined),
    };
    if (left <= 0) {
      return;
    }
    for await (const stored of this.#threads(config)) {
      for await (const tuple of this.#tuplesOf(stored).list(wanted)) {
        if (!matches(tuple.metadata, options.filter)) {
          continue;
        }
        yield tuple;
        left -= 1;
        if (left <= 0) {
          return;
        }
      }
    }
  }

  override async put(
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    newVersions: ChannelVersions,
  ): Promise<RunnableConfig> {
    const threadId = requireThreadId(config);
    const namespace = namespaceOf(config) ?? "";
    const parentId = getCheckpointId(config) || undefined;
    const packed = await packCheckpoint(this.serde, checkpoint, metadata, newVersions);
    const leaseId = await this.#writer.change(threadId, {
      leaseId: parentId === undefined ? undefined : this.#pins.get(pinKey(threadId, namespace, parentId)),
      note: noteOf("checkpoint", namespace, checkpoint.id),
      apply: (edit) => edit.put({ namespace, checkpointId: checkpoint.id, parentId, ...packed }),
    });
    this.#pins.set(pinKey(threadId, namespace, checkpoint.id), leaseId);
    return { configurable: { thread_id: threadId, checkpoint_ns: namespace, checkpoint_id: checkpoint.id } };
  }

  override async putWrites(
    config: RunnableConfig,
    writes: PendingWrite[],
    taskId: string,
    taskPath = "",
  ): Promise<void> {
    const threadId = requireThreadId(config);
    const namespace = namespaceOf(config) ?? "";
    const checkpointId = getCheckpointId(config);
    if (checkpointId === "") {
      throw new Error('Writes belong to a checkpoint: the config must have a "checkpoint_id" in "configurable".');
    }
    const stored = await packWrites(this.serde, writes, taskId, taskPath);
    await this.#writer.change(threadId, {
      leaseId: this.#pins.get(pinKey(threadId, namespace, checkpointId)),
      note: noteOf("writes", namespace, checkpointId),
      apply: (edit) => edit.write({ namespace, checkpointId, writes: stored }),
    });
  }

  /** Ends the thread's lease, which destroys all its versions. What was paid for it is not given back. */
  override async deleteThread(threadId: string): Promise<void> {
    await this.#leases.delete(threadId);
    this.#writer.forget(threadId);
  }

  /** Walks the ancestors in one version, rather than reading a version for each. */
  override async getDeltaChannelHistory(options: {
    config: RunnableConfig;
    channels: string[];
  }): Promise<Record<string, DeltaChannelHistory>> {
    const tuples = await this.#read(options.config);
    const snapshot = {
      getTuple: async (config: RunnableConfig) => await tuples?.get(namespaceOf(config) ?? "", getCheckpointId(config)),
    };
    return await super.getDeltaChannelHistory.call(snapshot, options);
  }

  /** Undefined: there is no such thread. */
  async #read(config: RunnableConfig): Promise<ThreadTuples | undefined> {
    const threadId = threadIdOf(config);
    const stored = threadId === undefined ? undefined : await this.#leases.read(threadId);
    return stored && this.#tuplesOf(stored);
  }

  async *#threads(config: RunnableConfig): AsyncGenerator<StoredThread> {
    const threadId = threadIdOf(config);
    if (threadId === undefined) {
      yield* this.#leases.all();
      return;
    }
    const stored = await this.#leases.read(threadId);
    if (stored !== undefined) {
      yield stored;
    }
  }

  /** What was read is what a run goes on from: it is pinned to its lease, and the writer need not read it again. */
  #tuplesOf(stored: StoredThread): ThreadTuples {
    const { leaseId, state } = stored;
    this.#writer.learn(stored);
    for (const { namespace, checkpointId } of [...state.past, ...state.records]) {
      this.#pins.set(pinKey(state.threadId, namespace, checkpointId), leaseId);
    }
    const history = new ThreadHistory(stored, (lease, version) => this.#leases.readVersion(lease, version));
    return new ThreadTuples(state.threadId, history, this);
  }
}

function threadIdOf(config: RunnableConfig): string | undefined {
  const threadId: unknown = config.configurable?.thread_id;
  return typeof threadId === "string" && threadId !== "" ? threadId : undefined;
}

function requireThreadId(config: RunnableConfig): string {
  const threadId = threadIdOf(config);
  if (threadId === undefined) {
    throw new Error(
      'A checkpoint belongs to a thread: the config must have a "thread_id" in "configurable", a string.',
    );
  }
  return threadId;
}

/** Undefined: the config names none. */
function namespaceOf(config: RunnableConfig): string | undefined {
  return config.configurable?.checkpoint_ns as string | undefined;
}

function pinKey(threadId: string, namespace: string, checkpointId: string): string {
  return `${threadId}\0${recordKey(namespace, checkpointId)}`;
}

function matches(metadata: CheckpointMetadata | undefined, filter: Readonly<Record<string, unknown>> = {}): boolean {
  const entries: Readonly<Record<string, unknown>> = metadata ?? {};
  return Object.entries(filter).every(([key, value]) => isDeepStrictEqual(entries[key], value));
}

/** For whoever lists the versions of a lease: what came with each. */
function noteOf(change: "checkpoint" | "writes", namespace: string, checkpointId: string): VersionNote {
  const shown = (text: string) => text.replaceAll("\0", "").slice(0, longestNoteCharacters);
  return { change, checkpoint_ns: shown(namespace), checkpoint_id: shown(checkpointId) };
}
