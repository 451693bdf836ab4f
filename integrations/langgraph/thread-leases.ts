/** Owns the calls to Leasehold: a thread is a Checkpoint lease, and each of its versions one state of the thread. */
import { randomUUID } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import {
  type Checkpoint,
  CheckpointService,
  type CheckpointSpecSchema,
  type GetCheckpointRequestSchema,
} from "#gen/leasehold/v1/checkpoint_pb.js";
import { type Lease, LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { bodyInParts, joined } from "./body-parts.ts";
import { refusalOf, untilAnswered } from "./repeated-call.ts";
import { decodeThread, encodeThread, threadContentType } from "./thread-body.ts";
import { workflowIdOf } from "./thread-name.ts";
import type { StoredThread, ThreadState } from "./thread-state.ts";

/** What the lease of a new thread is asked for. */
export interface ThreadTerms {
  readonly durationSeconds: number;
  readonly sizeBytes: number;
  readonly retainedVersions: number;
  readonly maxPriceMicros?: bigint | undefined;
  readonly labels: Readonly<Record<string, string>>;
}

/** What fits into a message with all that is around it, where the operator has left the limit at 4 MiB. */
const largestUnaryBytes = 3 * 1024 * 1024;

/** What `cp log` shows of a version. */
export type VersionNote = Readonly<Record<string, string>>;

/** The leases of threads, under one prefix of workflow ids. */
export class ThreadLeases {
  readonly #leases: Client<typeof LeaseService>;
  readonly #checkpoints: Client<typeof CheckpointService>;
  readonly #prefix: string;
  readonly terms: ThreadTerms;

  constructor(transport: Transport, prefix: string, terms: ThreadTerms) {
    this.#leases = createClient(LeaseService, transport);
    this.#checkpoints = createClient(CheckpointService, transport);
    this.#prefix = prefix;
    this.terms = terms;
  }

  /**
   * The latest version of a thread's current lease. Undefined: it has none.
   *
   * @throws if the workflow's lease holds something else.
   */
  async read(threadId: string): Promise<StoredThread | undefined> {
    const workflowId = this.#workflowId(threadId);
    const stored = await this.#latest({ workflowId });
    if (stored === "foreign" || (stored !== undefined && stored.state.threadId !== threadId)) {
      throw new Error(`The lease of workflow_id ${workflowId} does not hold thread ${threadId}: use another prefix.`);
    }
    return stored;
  }

  /** An older version of a lease. Undefined: it was pushed out, or the lease has ended. */
  async readVersion(leaseId: string, version: bigint): Promise<ThreadState | undefined> {
    const stored = await unlessAbsent(this.#get({ leaseId, version }), "VERSION_GONE");
    return stored === "foreign" ? undefined : stored?.state;
  }

  /**
   * Writes the version after `base`, or makes the thread's lease with its first one. Repeating it after a lost answer
   * finds the version that was written.
   *
   * @throws with VERSION_MISMATCH, LEASE_ENDED or NOT_FOUND if `base` is not the latest any more.
   */
  async write(base: StoredThread | undefined, state: ThreadState, note: VersionNote): Promise<StoredThread> {
    const body = encodeThread(state);
    const { leaseId, version } =
      base === undefined
        ? await this.#begin(state.threadId, body, note)
        : await this.#put(base.leaseId, base.version, body, note);
    return { leaseId, version, bodyBytes: body.byteLength, state };
  }

  /** Ends the lease of a thread and destroys all its versions. A thread that is not there is no failure. @throws as read. */
  async delete(threadId: string): Promise<void> {
    const stored = await this.read(threadId);
    if (stored !== undefined) {
      await untilAnswered(() => this.#leases.deleteLease({ leaseId: stored.leaseId }));
    }
  }

  /** Every thread under the prefix, those whose lease is newest first. */
  async *all(): AsyncGenerator<StoredThread> {
    for await (const { leaseId, details } of this.#listLeases()) {
      const workflowId = details.case === "checkpoint" ? details.value.workflowId : undefined;
      if (workflowId?.startsWith(this.#prefix) !== true) {
        continue;
      }
      const stored = await this.#latest({ leaseId });
      // One of a longer prefix that begins with this one is not of this saver.
      if (typeof stored === "object" && this.#workflowId(stored.state.threadId) === workflowId) {
        yield stored;
      }
    }
  }

  /** The latest version of a lease. Undefined: the lease has ended, or has no version. */
  async #latest(lease: VersionName): Promise<StoredThread | "foreign" | undefined> {
    for (;;) {
      try {
        return await unlessAbsent(this.#get(lease));
      } catch (error) {
        // A later version pushed it out while its body was on the way.
        if (refusalOf(error).reason !== "VERSION_GONE") {
          throw error;
        }
      }
    }
  }

  /** A version, which is foreign if it holds something else than a thread. */
  async #get(name: VersionName): Promise<StoredThread | "foreign"> {
    try {
      const { checkpoint } = await untilAnswered(() => this.#checkpoints.getCheckpoint(name));
      return opened(checkpoint, checkpoint?.body);
    } catch (error) {
      if (refusalOf(error).reason !== "BODY_TOO_LARGE") {
        throw error;
      }
      return await untilAnswered(() => this.#download(name));
    }
  }

  async #download(name: VersionName): Promise<StoredThread | "foreign"> {
    const parts = this.#checkpoints.downloadCheckpoint(name)[Symbol.asyncIterator]();
    const { checkpoint } = (await parts.next()).value ?? {};
    if (checkpoint?.contentType !== threadContentType) {
      await parts.return?.();
      return "foreign";
    }
    return opened(checkpoint, await joined({ [Symbol.asyncIterator]: () => parts }));
  }

  async #begin(threadId: string, body: Uint8Array, metadata: VersionNote): Promise<Written> {
    const { sizeBytes } = this.terms;
    if (body.byteLength > sizeBytes) {
      // Refused before the lease is paid for.
      throw new Error(
        `Thread ${threadId} begins with ${body.byteLength} bytes, more than the saver's sizeBytes ${sizeBytes}.`,
      );
    }
    const initial = { body, contentType: threadContentType, metadata };
    const begun = await inOneOrParts(
      body,
      () => this.#create(threadId, { initial }),
      () => this.#create(threadId, {}),
    );
    return begun.version > 0n ? begun : await this.#put(begun.leaseId, 0n, body, metadata);
  }

  /** Makes a lease, or finds that there is one, which is without a version if its maker died before the first. */
  async #create(threadId: string, first: Pick<NewCheckpointLease, "initial">): Promise<Written> {
    const { retainedVersions, durationSeconds, sizeBytes, maxPriceMicros, labels } = this.terms;
    const request = {
      requestId: randomUUID(),
      sizeBytes: BigInt(sizeBytes),
      duration: { seconds: BigInt(durationSeconds) },
      labels,
      ...(maxPriceMicros === undefined ? {} : { maxPriceMicros }),
      variant: {
        case: "checkpoint",
        value: { workflowId: this.#workflowId(threadId), retainedVersions, ...first },
      },
    } as const;
    try {
      const { lease } = await untilAnswered(() => this.#leases.createLease(request));
      return { leaseId: lease?.leaseId ?? "", version: first.initial === undefined ? 0n : 1n };
    } catch (error) {
      const { reason, metadata } = refusalOf(error);
      if (reason === "WORKFLOW_IN_USE" && metadata.lease_id !== undefined) {
        return { leaseId: metadata.lease_id, version: 0n };
      }
      throw error;
    }
  }

  /** The lease is always named, so that a worker that was thought dead cannot write into the thread's next one. */
  async #put(leaseId: string, expectedVersion: bigint, body: Uint8Array, metadata: VersionNote): Promise<Written> {
    const put = { leaseId, expectedVersion, contentType: threadContentType, metadata, requestId: randomUUID() };
    const { checkpoint } = await inOneOrParts<{ checkpoint?: Checkpoint | undefined }>(
      body,
      () => untilAnswered(() => this.#checkpoints.putCheckpoint({ ...put, body })),
      () => untilAnswered(() => this.#checkpoints.uploadCheckpoint(bodyInParts(put, body))),
    );
    return { leaseId, version: checkpoint?.version ?? 0n };
  }

  async *#listLeases(): AsyncGenerator<Lease> {
    let pageToken = "";
    do {
      const page = await untilAnswered(() => this.#leases.listLeases({ pageSize: 1000, pageToken }));
      yield* page.leases;
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }

  #workflowId(threadId: string): string {
    return workflowIdOf(this.#prefix, threadId);
  }
}

type Written = Pick<StoredThread, "leaseId" | "version">;
type NewCheckpointLease = MessageInitShape<typeof CheckpointSpecSchema>;
type VersionName = Pick<MessageInitShape<typeof GetCheckpointRequestSchema>, "leaseId" | "workflowId" | "version">;

/** Sends a body in one message, or in parts if it is larger than a message may be. */
async function inOneOrParts<Answer>(
  body: Uint8Array,
  inOne: () => Promise<Answer>,
  inParts: () => Promise<Answer>,
): Promise<Answer> {
  if (body.byteLength <= largestUnaryBytes) {
    try {
      return await inOne();
    } catch (error) {
      // An operator may have set a lower limit.
      if (refusalOf(error).metadata.limit !== "max_message_bytes") {
        throw error;
      }
    }
  }
  return await inParts();
}

function opened(checkpoint: Checkpoint | undefined, body: Uint8Array = new Uint8Array()): StoredThread | "foreign" {
  if (checkpoint?.contentType !== threadContentType) {
    return "foreign";
  }
  const { leaseId, version } = checkpoint;
  return { leaseId, version, bodyBytes: body.byteLength, state: decodeThread(body) };
}

/** An answer, or undefined if what was asked for is not there, for a reason that is always one or is named. */
async function unlessAbsent<Answer>(answer: Promise<Answer>, alsoAbsent?: string): Promise<Answer | undefined> {
  try {
    return await answer;
  } catch (error) {
    const { reason } = refusalOf(error);
    if (reason === "NOT_FOUND" || reason === "LEASE_ENDED" || (reason !== undefined && reason === alsoAbsent)) {
      return undefined;
    }
    throw error;
  }
}
