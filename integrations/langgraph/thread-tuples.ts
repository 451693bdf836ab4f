/** Owns turning stored checkpoints back into what LangGraph reads. */
import {
  type BaseCheckpointSaver,
  type Checkpoint,
  type CheckpointMetadata,
  type CheckpointPendingWrite,
  type CheckpointTuple,
  compareWritesSortKeys,
  maxChannelVersion,
  TASKS,
  writesSortKey,
} from "@langchain/langgraph-checkpoint";
import type { ThreadHistory } from "./thread-history.ts";
import type { CheckpointRecord, PackedValue, StoredCheckpoint } from "./thread-state.ts";

/** What a saver gives to unpack with. */
type Unpacker = Pick<BaseCheckpointSaver, "serde" | "getNextVersion">;

/** Unpacks the checkpoints of one thread as of one version. */
export class ThreadTuples {
  readonly #threadId: string;
  readonly #history: ThreadHistory;
  readonly #unpacker: Unpacker;

  constructor(threadId: string, history: ThreadHistory, unpacker: Unpacker) {
    this.#threadId = threadId;
    this.#history = history;
    this.#unpacker = unpacker;
  }

  /** The checkpoint named, or the latest of its namespace. */
  async get(namespace: string, checkpointId: string): Promise<CheckpointTuple | undefined> {
    const record =
      checkpointId === "" ? await this.#history.latest(namespace) : await this.#history.find(namespace, checkpointId);
    return record?.checkpoint && (await this.#tuple(record, record.checkpoint));
  }

  /** The checkpoints named, newest first. Undefined and empty: whichever. */
  async *list(wanted: { namespace: string | undefined; checkpointId: string; beforeId: string | undefined }) {
    const records = this.#history.newestFirst(
      ({ namespace, checkpointId }) =>
        (wanted.namespace === undefined || namespace === wanted.namespace) &&
        (wanted.checkpointId === "" || checkpointId === wanted.checkpointId) &&
        (wanted.beforeId === undefined || checkpointId < wanted.beforeId),
    );
    for await (const record of records) {
      if (record.checkpoint !== undefined) {
        yield await this.#tuple(record, record.checkpoint);
      }
    }
  }

  async #tuple(record: CheckpointRecord, stored: StoredCheckpoint): Promise<CheckpointTuple> {
    const [checkpoint, metadata, pendingWrites] = await Promise.all([
      this.#checkpoint(stored),
      this.#unpack(stored.metadata) as Promise<CheckpointMetadata>,
      this.#writes(record),
    ]);
    if (stored.takesParentsSends && record.parentId !== undefined) {
      await this.#takeSends(checkpoint, record.namespace, record.parentId);
    }
    return {
      config: this.#config(record.namespace, record.checkpointId),
      checkpoint,
      metadata,
      pendingWrites,
      ...(record.parentId === undefined ? {} : { parentConfig: this.#config(record.namespace, record.parentId) }),
    };
  }

  async #checkpoint({ frame, channelVersions, values }: StoredCheckpoint): Promise<Checkpoint> {
    const unpacked = [...values].map(async ([channel, value]) => [channel, await this.#unpack(value)] as const);
    return {
      ...((await this.#unpack(frame)) as Omit<Checkpoint, "channel_versions" | "channel_values">),
      channel_versions: Object.fromEntries(channelVersions),
      channel_values: Object.fromEntries(await Promise.all(unpacked)),
    };
  }

  /** In the order in which a superstep applies them. */
  async #writes({ writes }: CheckpointRecord): Promise<CheckpointPendingWrite[]> {
    const keyed = writes.map((write) => ({ write, key: writesSortKey(write.taskPath, write.taskId, write.index) }));
    keyed.sort((a, b) => compareWritesSortKeys(a.key, b.key));
    return await Promise.all(
      keyed.map(async ({ write }): Promise<CheckpointPendingWrite> => {
        return [write.taskId, write.channel, await this.#unpack(write.value)];
      }),
    );
  }

  /** Before format 4 the sends of a superstep were no channel of its checkpoint but writes of the parent. */
  async #takeSends(checkpoint: Checkpoint, namespace: string, parentId: string): Promise<void> {
    const parent = await this.#history.find(namespace, parentId);
    if (parent === undefined) {
      return;
    }
    const sends = (await this.#writes(parent)).filter(([, channel]) => channel === TASKS).map(([, , value]) => value);
    const versions = Object.values(checkpoint.channel_versions);
    checkpoint.channel_values[TASKS] = sends;
    checkpoint.channel_versions[TASKS] =
      versions.length > 0 ? maxChannelVersion(...versions) : this.#unpacker.getNextVersion(undefined);
  }

  async #unpack({ type, bytes }: PackedValue): Promise<unknown> {
    return await this.#unpacker.serde.loadsTyped(type, bytes);
  }

  #config(namespace: string, checkpointId: string) {
    return { configurable: { thread_id: this.#threadId, checkpoint_ns: namespace, checkpoint_id: checkpointId } };
  }
}
