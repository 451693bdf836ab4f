/** Owns packing what LangGraph gives: at the time of the call, as a graph may go on with the same objects. */
import {
  type ChannelVersions,
  type Checkpoint,
  type CheckpointMetadata,
  type PendingWrite,
  type SerializerProtocol,
  WRITES_IDX_MAP,
} from "@langchain/langgraph-checkpoint";
import type { NewCheckpoint } from "./thread-edit.ts";
import type { PackedValue, StoredWrite } from "./thread-state.ts";

/** The oldest format whose checkpoints have the sends of a superstep in a channel. */
const sendsChannelFormat = 4;

/** A checkpoint without its place in the thread. Of its channels only those are packed that its parent cannot have. */
export async function packCheckpoint(
  serde: SerializerProtocol,
  checkpoint: Checkpoint,
  metadata: CheckpointMetadata,
  newVersions: ChannelVersions,
): Promise<Omit<NewCheckpoint, "namespace" | "checkpointId" | "parentId">> {
  const { channel_values: values, channel_versions: versions, ...frame } = checkpoint;
  const packChannel = async (channel: string) =>
    Object.hasOwn(values, channel) ? await pack(serde, values[channel]) : undefined;
  // A channel that nothing was written to has a first value and no version.
  const unversioned = Object.keys(values).filter((channel) => !Object.hasOwn(versions, channel));
  const changed = [...new Set([...Object.keys(newVersions), ...unversioned])];
  const [packedFrame, packedMetadata, packedValues] = await Promise.all([
    pack(serde, frame),
    pack(serde, metadata),
    Promise.all(changed.map(packChannel)),
  ]);
  return {
    frame: packedFrame,
    metadata: packedMetadata,
    channelVersions: new Map(Object.entries(versions)),
    changedValues: new Map(changed.map((channel, index) => [channel, packedValues[index]])),
    packUnchanged: packChannel,
    deltaChannels: Object.keys(metadata.counters_since_delta_snapshot ?? {}),
    takesParentsSends: checkpoint.v < sendsChannelFormat,
  };
}

/** The writes of a task. */
export async function packWrites(
  serde: SerializerProtocol,
  writes: readonly PendingWrite[],
  taskId: string,
  taskPath: string,
): Promise<StoredWrite[]> {
  return await Promise.all(
    writes.map(async ([channel, value], index) => {
      const place = WRITES_IDX_MAP[channel] ?? index;
      return { taskId, taskPath, index: place, channel, value: await pack(serde, value) };
    }),
  );
}

async function pack(serde: SerializerProtocol, value: unknown): Promise<PackedValue> {
  const [type, bytes] = await serde.dumpsTyped(value);
  return { type, bytes };
}
