/**
 * Owns how a thread's next version follows from its latest: what changes put into it, what it goes on carrying because
 * resuming takes it, and what is left behind in the versions before.
 */
import type { ThreadHistory } from "./thread-history.ts";
import {
  type ChannelVersion,
  type CheckpointRecord,
  type PackedValue,
  type PastCheckpoint,
  recordKey,
  type StoredThread,
  type StoredWrite,
  type ThreadState,
} from "./thread-state.ts";

/** A checkpoint to be put. */
export interface NewCheckpoint {
  readonly namespace: string;
  readonly checkpointId: string;
  readonly parentId: string | undefined;
  readonly frame: PackedValue;
  readonly metadata: PackedValue;
  readonly channelVersions: ReadonlyMap<string, ChannelVersion>;
  /** The channels that changed. Undefined: one that has no value any more. */
  readonly changedValues: ReadonlyMap<string, PackedValue | undefined>;
  /** Packs a channel that did not change, for when the parent that had it is gone. Undefined: it has no value. */
  readonly packUnchanged: (channel: string) => Promise<PackedValue | undefined>;
  readonly deltaChannels: readonly string[];
  readonly takesParentsSends: boolean;
}

/** Writes to be kept with a checkpoint. */
export interface NewWrites {
  readonly namespace: string;
  readonly checkpointId: string;
  readonly writes: readonly StoredWrite[];
}

/** For how many checkpoints that have not come their writes are kept, the latest first: a dead worker's never come. */
const mostEarlyWrites = 16;

/** What the next version is made of. A change that fails leaves it as it was. */
export class ThreadEdit {
  readonly #base: StoredThread | undefined;
  readonly #threadId: string;
  readonly #retainedVersions: number;
  readonly #history: ThreadHistory;
  readonly #records: Map<string, CheckpointRecord>;
  readonly #touched = new Set<string>();
  readonly #retired = new Set<string>();

  /** `retainedVersions` is that of a lease yet to be made. */
  constructor(base: StoredThread | undefined, threadId: string, retainedVersions: number, history: ThreadHistory) {
    this.#base = base;
    this.#threadId = threadId;
    this.#retainedVersions = base?.state.retainedVersions ?? retainedVersions;
    this.#history = history;
    this.#records = new Map((base?.state.records ?? []).map((record) => [keyOf(record), record]));
  }

  /** A checkpoint that was there already is replaced, and keeps its writes. */
  async put(put: NewCheckpoint): Promise<void> {
    const [known, values] = await Promise.all([this.#find(put.namespace, put.checkpointId), this.#valuesOf(put)]);
    const { namespace, checkpointId, parentId, frame, metadata, channelVersions, deltaChannels } = put;
    const { takesParentsSends } = put;
    this.#touch({
      namespace,
      checkpointId,
      parentId,
      checkpoint: { frame, metadata, channelVersions, values, deltaChannels, takesParentsSends },
      writes: known?.writes ?? [],
      isWorkedOn: true,
    });
    this.#retireTasks(namespace, checkpointId);
  }

  /** A task's write stays as it was first kept, but for a special channel's, of which the last counts. */
  async write({ namespace, checkpointId, writes }: NewWrites): Promise<void> {
    const known = await this.#find(namespace, checkpointId);
    const kept = new Map((known?.writes ?? []).map((write) => [writeKey(write), write]));
    for (const write of writes) {
      if (write.index < 0 || !kept.has(writeKey(write))) {
        kept.set(writeKey(write), write);
      }
    }
    this.#touch({
      namespace,
      checkpointId,
      parentId: known?.parentId,
      checkpoint: known?.checkpoint,
      writes: [...kept.values()],
      isWorkedOn: true,
    });
  }

  /** The state that the next version holds. */
  async next(): Promise<ThreadState> {
    const carried = await this.#carried();
    const version = this.#base?.version ?? 0n;
    const left: PastCheckpoint[] = (this.#base?.state.records ?? [])
      // Writes whose checkpoint does not come are of a worker that died, and are left behind for good in the end.
      .filter((record) => record.checkpoint !== undefined && !carried.has(keyOf(record)))
      .map(({ namespace, checkpointId }) => ({ namespace, checkpointId, version }));
    const oldestKept = version + 2n - BigInt(this.#retainedVersions);
    const past = [...(this.#base?.state.past ?? []), ...left].filter(
      (entry) => entry.version >= oldestKept && !carried.has(keyOf(entry)),
    );
    return {
      threadId: this.#threadId,
      retainedVersions: this.#retainedVersions,
      records: [...carried.values()],
      past,
    };
  }

  async #find(namespace: string, checkpointId: string): Promise<CheckpointRecord | undefined> {
    return this.#records.get(recordKey(namespace, checkpointId)) ?? (await this.#history.find(namespace, checkpointId));
  }

  /** The values of a checkpoint: what changed, and for the other channels what its parent has. */
  async #valuesOf(put: NewCheckpoint): Promise<ReadonlyMap<string, PackedValue>> {
    const values = new Map(put.changedValues);
    if (put.parentId !== undefined) {
      const unchanged = [...put.channelVersions].filter(([channel]) => !put.changedValues.has(channel));
      const parent = unchanged.length === 0 ? undefined : await this.#find(put.namespace, put.parentId);
      for (const [channel, version] of unchanged) {
        values.set(channel, valueAt(parent, channel, version) ?? (await put.packUnchanged(channel)));
      }
    }
    return new Map([...values].flatMap(([channel, value]) => (value === undefined ? [] : [[channel, value]])));
  }

  #touch(record: CheckpointRecord): void {
    for (const [key, other] of this.#records) {
      if (other.namespace === record.namespace && other.isWorkedOn) {
        this.#records.set(key, { ...other, isWorkedOn: false });
      }
    }
    const key = keyOf(record);
    this.#records.set(key, record);
    this.#touched.add(key);
    this.#retired.delete(key);
  }

  /** Leaves behind the subgraphs that ran as tasks of earlier checkpoints: the new one says that the tasks are done. */
  #retireTasks(namespace: string, checkpointId: string): void {
    for (const [key, record] of this.#records) {
      // One with a higher id is of a task of the new checkpoint itself, whose own put was slower. Writes whose checkpoint
      // has not come wait for it.
      const isDone = record.checkpoint !== undefined && record.checkpointId < checkpointId;
      if (isDone && isOfTaskBelow(record.namespace, namespace)) {
        this.#retired.add(key);
      }
    }
  }

  /** What the next version holds: what was changed, what a run goes on from, and the ancestors these are made from. */
  async #carried(): Promise<Map<string, CheckpointRecord>> {
    const latest = latestIds(this.#records.values());
    const waiting = [...this.#records].filter(([, { checkpoint }]) => checkpoint === undefined).map(([key]) => key);
    const early = waiting.slice(-mostEarlyWrites);
    const carried = new Map<string, CheckpointRecord>();
    for (const [key, record] of this.#records) {
      const isLatest = record.checkpointId >= (latest.get(record.namespace) ?? "");
      const isNeeded = !this.#retired.has(key) && (record.isWorkedOn || isLatest);
      if (this.#touched.has(key) || isNeeded || early.includes(key)) {
        carried.set(key, record);
      }
    }
    for (const record of [...carried.values()]) {
      for await (const ancestor of this.#ancestorsNeeded(record)) {
        carried.set(keyOf(ancestor), ancestor);
      }
    }
    return carried;
  }

  async *#ancestorsNeeded(record: CheckpointRecord): AsyncGenerator<CheckpointRecord> {
    const lacking = new Set(record.checkpoint?.deltaChannels.filter((channel) => !hasValue(record, channel)));
    let takesParent = record.checkpoint?.takesParentsSends === true;
    let ancestor = record;
    while (ancestor.parentId !== undefined && (takesParent || lacking.size > 0)) {
      const parent = await this.#find(ancestor.namespace, ancestor.parentId);
      if (parent === undefined) {
        return;
      }
      yield parent;
      ancestor = parent;
      takesParent = false;
      for (const channel of lacking) {
        if (hasValue(ancestor, channel)) {
          lacking.delete(channel);
        }
      }
    }
  }
}

/** The highest id of a checkpoint in each namespace: ids rise with time. */
function latestIds(records: Iterable<CheckpointRecord>): Map<string, string> {
  const latest = new Map<string, string>();
  for (const { namespace, checkpointId, checkpoint } of records) {
    if (checkpoint !== undefined && checkpointId > (latest.get(namespace) ?? "")) {
      latest.set(namespace, checkpointId);
    }
  }
  return latest;
}

/**
 * Whether a namespace is of a subgraph that ran as one task of a graph above it: such names have the task's id after a
 * colon. One without a task's id is a subgraph's with a memory of its own, which goes on from task to task.
 */
function isOfTaskBelow(namespace: string, above: string): boolean {
  const prefix = above === "" ? "" : `${above}|`;
  return namespace.startsWith(prefix) && namespace.slice(prefix.length).includes(":");
}

function valueAt(
  record: CheckpointRecord | undefined,
  channel: string,
  version: ChannelVersion,
): PackedValue | undefined {
  const isThatVersion = record?.checkpoint?.channelVersions.get(channel) === version;
  return isThatVersion ? record.checkpoint.values.get(channel) : undefined;
}

function hasValue({ checkpoint }: CheckpointRecord, channel: string): boolean {
  return checkpoint?.values.has(channel) === true;
}

function writeKey({ taskId, index }: StoredWrite): string {
  return `${taskId}\0${index}`;
}

function keyOf({ namespace, checkpointId }: Pick<CheckpointRecord, "namespace" | "checkpointId">): string {
  return recordKey(namespace, checkpointId);
}
