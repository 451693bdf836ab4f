/** Owns looking for a thread's checkpoints: in the version at hand, then in the older versions that it points to. */
import {
  type CheckpointRecord,
  type PastCheckpoint,
  recordKey,
  type StoredThread,
  type ThreadState,
} from "./thread-state.ts";

/** Reads an older version of a lease. Undefined: it was pushed out. */
export type VersionReader = (leaseId: string, version: bigint) => Promise<ThreadState | undefined>;

/** The checkpoints of a thread as of one version. Each older version is read at most once. */
export class ThreadHistory {
  readonly #thread: StoredThread | undefined;
  readonly #readVersion: VersionReader;
  readonly #versions = new Map<bigint, Promise<ThreadState | undefined>>();

  /** A thread that is undefined has no checkpoints. */
  constructor(thread: StoredThread | undefined, readVersion: VersionReader) {
    this.#thread = thread;
    this.#readVersion = readVersion;
  }

  /** One checkpoint. Undefined: there never was one, or it was pushed out. */
  async find(namespace: string, checkpointId: string): Promise<CheckpointRecord | undefined> {
    const isIt = (it: CheckpointRecord | PastCheckpoint) =>
      it.namespace === namespace && it.checkpointId === checkpointId;
    const here = this.#thread?.state.records.find(isIt);
    if (here !== undefined) {
      return here;
    }
    const past = this.#thread?.state.past.find(isIt);
    return past === undefined ? undefined : await this.#fromPast(past);
  }

  /** The newest checkpoint of a namespace. */
  async latest(namespace: string): Promise<CheckpointRecord | undefined> {
    for await (const record of this.newestFirst((candidate) => candidate.namespace === namespace)) {
      return record;
    }
    return undefined;
  }

  /** All checkpoints that are kept and wanted, the newest first. Older versions are read as the caller gets to them. */
  async *newestFirst(isWanted: (candidate: CheckpointRecord | PastCheckpoint) => boolean) {
    const { records = [], past = [] } = this.#thread?.state ?? {};
    const candidates = [...records.filter(({ checkpoint }) => checkpoint !== undefined), ...past].filter(isWanted);
    candidates.sort((a, b) => (a.checkpointId < b.checkpointId ? 1 : a.checkpointId > b.checkpointId ? -1 : 0));
    for (const candidate of candidates) {
      const record = "version" in candidate ? await this.#fromPast(candidate) : candidate;
      if (record !== undefined) {
        yield record;
      }
    }
  }

  async #fromPast({ namespace, checkpointId, version }: PastCheckpoint): Promise<CheckpointRecord | undefined> {
    const key = recordKey(namespace, checkpointId);
    const state = await this.#version(version);
    return state?.records.find((record) => recordKey(record.namespace, record.checkpointId) === key);
  }

  #version(version: bigint): Promise<ThreadState | undefined> {
    const known = this.#versions.get(version);
    if (known !== undefined || this.#thread === undefined) {
      return known ?? Promise.resolve(undefined);
    }
    const reading = this.#readVersion(this.#thread.leaseId, version);
    this.#versions.set(version, reading);
    return reading;
  }
}
