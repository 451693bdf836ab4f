/** A thread that a test writes by hand: checkpoints of one channel, each following the one before. */
import type { RunnableConfig } from "@langchain/core/runnables";
import {
  type BaseCheckpointSaver,
  type Checkpoint,
  type CheckpointTuple,
  uuid6,
} from "@langchain/langgraph-checkpoint";

/** Where a thread, or one of its namespaces, is found. */
export function configOf(threadId: string, namespace = ""): RunnableConfig {
  return { configurable: { thread_id: threadId, checkpoint_ns: namespace } };
}

/** A checkpoint whose channel `value` has a value. Ids rise from call to call. */
export function checkpointOf(value: unknown, version = 1): Checkpoint {
  return {
    v: 4,
    id: uuid6(1),
    ts: new Date().toISOString(),
    channel_values: { value },
    channel_versions: { value: version },
    versions_seen: {},
  };
}

/** Puts a checkpoint with a value after another, or first, and returns the config that leads to it. */
export async function put(saver: BaseCheckpointSaver, after: RunnableConfig, value: unknown): Promise<RunnableConfig> {
  const checkpoint = checkpointOf(value);
  return await saver.put(after, checkpoint, { source: "loop", step: 0, parents: {} }, checkpoint.channel_versions);
}

/** The values that a thread's checkpoints have, newest first. */
export async function valuesIn(saver: BaseCheckpointSaver, config: RunnableConfig): Promise<unknown[]> {
  return (await listed(saver, config)).map(({ checkpoint }) => checkpoint.channel_values.value);
}

export async function listed(saver: BaseCheckpointSaver, config: RunnableConfig): Promise<CheckpointTuple[]> {
  const tuples: CheckpointTuple[] = [];
  for await (const tuple of saver.list(config)) {
    tuples.push(tuple);
  }
  return tuples;
}

/** The value of the checkpoint that a run would go on from. */
export async function latestValue(saver: BaseCheckpointSaver, config: RunnableConfig): Promise<unknown> {
  return (await saver.getTuple(config))?.checkpoint.channel_values.value;
}
