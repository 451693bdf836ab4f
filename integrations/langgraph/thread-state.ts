/** Owns what a thread is to the saver: the checkpoints that a version of its lease holds, and where older ones are. */

/** A value as the serializer made it: the serializer's name for its form, and its bytes. */
export interface PackedValue {
  readonly type: string;
  readonly bytes: Uint8Array;
}

/** One write of a task, kept with the checkpoint that the task started from. */
export interface StoredWrite {
  readonly taskId: string;
  /** Orders the writes of one superstep before the task's id does. Empty: the task gave none. */
  readonly taskPath: string;
  /** Its place among the task's writes. Below 0: a special channel, of which a task has one write at a time. */
  readonly index: number;
  readonly channel: string;
  readonly value: PackedValue;
}

export type ChannelVersion = string | number;

/** A checkpoint taken apart, so that channels that did not change are shared with its parent. */
export interface StoredCheckpoint {
  /** All of the checkpoint but its channels. */
  readonly frame: PackedValue;
  readonly metadata: PackedValue;
  readonly channelVersions: ReadonlyMap<string, ChannelVersion>;
  readonly values: ReadonlyMap<string, PackedValue>;
  /** Channels whose value is made from the writes of ancestors, back to the nearest one that has a value. */
  readonly deltaChannels: readonly string[];
  /** Whether it is of a format older than 4, in which a superstep's sends are the writes of its parent. */
  readonly takesParentsSends: boolean;
}

/** A checkpoint of one namespace, with the writes of the tasks that started from it. */
export interface CheckpointRecord {
  readonly namespace: string;
  readonly checkpointId: string;
  readonly parentId: string | undefined;
  /** Undefined while only writes have come: a task's writes and its checkpoint are not saved in a fixed order. */
  readonly checkpoint: StoredCheckpoint | undefined;
  readonly writes: readonly StoredWrite[];
  /** Whether it was the last of its namespace to be changed: a run that began at an old checkpoint works on that one. */
  readonly isWorkedOn: boolean;
}

/** Where a checkpoint is that the latest version no longer holds. */
export interface PastCheckpoint {
  readonly namespace: string;
  readonly checkpointId: string;
  /** The last version that holds it. */
  readonly version: bigint;
}

/** What one version of a thread's lease holds. */
export interface ThreadState {
  readonly threadId: string;
  /** How many versions its lease keeps. */
  readonly retainedVersions: number;
  /** All that resuming any of the thread's namespaces takes. */
  readonly records: readonly CheckpointRecord[];
  readonly past: readonly PastCheckpoint[];
}

/** A version of a thread's lease, as it was read or written. */
export interface StoredThread {
  readonly leaseId: string;
  readonly version: bigint;
  /** The size of its body. */
  readonly bodyBytes: number;
  readonly state: ThreadState;
}

/** Tells checkpoints of one thread apart. */
export function recordKey(namespace: string, checkpointId: string): string {
  return `${namespace}\0${checkpointId}`;
}
