/**
 * Owns writing threads: the changes that wait for a thread go into its next version together, and are made anew on top
 * of the version that another worker has written meanwhile.
 */
import { setTimeout as delay } from "node:timers/promises";
import { LRUCache } from "lru-cache";
import { refusalOf } from "./repeated-call.ts";
import { ThreadEdit } from "./thread-edit.ts";
import { ThreadHistory } from "./thread-history.ts";
import type { ThreadLeases, VersionNote } from "./thread-leases.ts";
import type { StoredThread } from "./thread-state.ts";

/** A change to a thread. */
export interface ThreadChange {
  /** The lease that it must go to: that of the checkpoint it follows. Undefined: the thread's current one. */
  readonly leaseId: string | undefined;
  readonly note: VersionNote;
  readonly apply: (edit: ThreadEdit) => Promise<void>;
}

/** What a change that follows a checkpoint of an ended lease fails with. */
export class ThreadEndedError extends Error {
  override readonly name = "ThreadEndedError";

  constructor(threadId: string) {
    super(
      `The lease that held thread ${threadId} has ended, and its checkpoints with it. Start the thread anew, and give ` +
        "the saver a longer durationSeconds if it should have lasted.",
    );
  }
}

/** How often a change is made anew before others are thought to write too often. One of them succeeds each time. */
const maxAttempts = 100;
const longestDelayMs = 200;
/** How much of the latest versions of threads is kept in memory, which saves reading them again before a write. */
const maxCachedBytes = 64 * 1024 * 1024;

interface Waiting {
  readonly change: ThreadChange;
  readonly resolve: (leaseId: string) => void;
  readonly reject: (reason: unknown) => void;
}

export class ThreadWriter {
  readonly #leases: ThreadLeases;
  readonly #queues = new Map<string, Waiting[]>();
  readonly #latest = new LRUCache<string, StoredThread>({
    maxSize: maxCachedBytes,
    sizeCalculation: ({ bodyBytes }) => bodyBytes + 1,
  });

  constructor(leases: ThreadLeases) {
    this.#leases = leases;
  }

  /** Resolves to the lease once a version with the change is stored. */
  async change(threadId: string, change: ThreadChange): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const queue = this.#queues.get(threadId);
    if (queue === undefined) {
      this.#queues.set(threadId, [{ change, resolve, reject }]);
      void this.#drain(threadId);
    } else {
      queue.push({ change, resolve, reject });
    }
    return await promise;
  }

  /** Takes a version that was read as the latest one, unless a later one is known. Ids of leases rise with time. */
  learn(stored: StoredThread): void {
    const known = this.#latest.get(stored.state.threadId);
    const isLater =
      known === undefined ||
      stored.leaseId > known.leaseId ||
      (stored.leaseId === known.leaseId && stored.version > known.version);
    if (isLater) {
      this.#latest.set(stored.state.threadId, stored);
    }
  }

  forget(threadId: string): void {
    this.#latest.delete(threadId);
  }

  /** Never fails: each change is told. */
  async #drain(threadId: string): Promise<void> {
    const queue = this.#queues.get(threadId) ?? [];
    while (queue.length > 0) {
      await this.#commit(threadId, queue.splice(0));
    }
    this.#queues.delete(threadId);
  }

  async #commit(threadId: string, batch: readonly Waiting[]): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.#attempt(threadId, batch);
        return;
      } catch (error) {
        this.#latest.delete(threadId);
        if (!isOvertaken(error) || attempt === maxAttempts) {
          for (const { reject } of batch) {
            reject(error);
          }
          return;
        }
        await delay(Math.random() * Math.min(2 ** attempt, longestDelayMs));
      }
    }
  }

  /** Tells every change of the batch. @throws if the version was not written; none that could be made is told then. */
  async #attempt(threadId: string, batch: readonly Waiting[]): Promise<void> {
    const base = await this.#base(threadId, batch);
    const history = new ThreadHistory(base, (leaseId, version) => this.#leases.readVersion(leaseId, version));
    const edit = new ThreadEdit(base, threadId, this.#leases.terms.retainedVersions, history);
    const made: Waiting[] = [];
    for (const waiting of batch) {
      const { leaseId } = waiting.change;
      if (leaseId !== undefined && leaseId !== base?.leaseId) {
        waiting.reject(new ThreadEndedError(threadId));
        continue;
      }
      await waiting.change.apply(edit);
      made.push(waiting);
    }
    const note = made.at(-1)?.change.note;
    if (note === undefined) {
      return;
    }
    const stored = await this.#leases.write(base, await edit.next(), note);
    this.#latest.set(threadId, stored);
    for (const { resolve } of made) {
      resolve(stored.leaseId);
    }
  }

  /** The latest version that is known, unless a change tells that it is of an ended lease. */
  async #base(threadId: string, batch: readonly Waiting[]): Promise<StoredThread | undefined> {
    const known = this.#latest.get(threadId);
    const isCurrent = batch.every(({ change }) => change.leaseId === undefined || change.leaseId === known?.leaseId);
    return known !== undefined && isCurrent ? known : await this.#leases.read(threadId);
  }
}

/** Whether a write failed because it was not on top of the latest version of the thread's current lease. */
function isOvertaken(error: unknown): boolean {
  return ["VERSION_MISMATCH", "LEASE_ENDED", "NOT_FOUND"].includes(refusalOf(error).reason ?? "");
}
