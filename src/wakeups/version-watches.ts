/** Watches leases for later versions of their content, at no cost to the database while there are none. */
import type { Caller } from "../account/caller.ts";
import type { Database } from "../database/database.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import type { LeaseRow } from "../lease/lease-row.ts";
import type { LeaseWatch } from "../lease/lease-watch.ts";
import type { Call } from "../server/call.ts";
import { findNewerVersions } from "./version-watch-statement.ts";
import type { WaitedLease, WakeupSource, Wakeups } from "./wakeups.ts";

/** What watching needs. */
export interface VersionWatchesOptions {
  readonly database: Database;
  readonly wakeups: Wakeups;
  readonly watch: LeaseWatch;
}

/** A lease that was found for a caller, at a moment of the database's clock. */
export type WatchedPlace = LeaseRow & { readonly now: DatabaseTime; readonly askedAtMs: number };

/** One watcher of one lease. It waits from a call of `changed` to the end of that, and looks for itself otherwise. */
export interface VersionWatch {
  /** The content_version up to which nothing is of interest any more. To be kept by whoever watches. */
  seenVersion: bigint;
  /** Resolves once there may be a later version, or was since the last time. Rejects when the call is over. */
  changed(): Promise<void>;
  close(): void;
}

/** Behind every version: nothing is found for a lease of which nobody waits. */
const lastVersion = 2n ** 63n - 1n;

/** The watchers of one variant in one process. */
export class VersionWatches {
  readonly #options: VersionWatchesOptions;
  /** Those that wait. */
  readonly #waiting = new Map<LeaseUuid, Set<VersionWatch>>();
  readonly #source: WakeupSource;

  /** `name`: of the variant, for the log. */
  constructor(name: string, options: VersionWatchesOptions) {
    this.#options = options;
    this.#source = { name, look: (leases) => this.#look(leases) };
  }

  /**
   * Watches for a call, until it is closed. Look at the lease after this, not before. The call is cut when the lease
   * ends, its key is stopped or its server drains.
   */
  open(caller: Caller, place: WatchedPlace, seenVersion: bigint, call: Call): VersionWatch {
    const { wakeups, watch } = this.#options;
    const lease = { ownerId: caller.ownerId, leaseId: place.lease_id };
    const bell = new Bell();
    call.endWithDrain();
    const stopWaiting = wakeups.wait(this.#source, lease, () => bell.ring());
    const stopWatching = watch.watch({
      lease: place,
      now: place.now,
      askedAtMs: place.askedAtMs,
      cut: (error) => call.abort(error),
      caller: { caller, scope: "read" },
    });
    const opened: VersionWatch = {
      seenVersion,
      changed: async () => {
        const stop = this.#startWaiting(lease.leaseId, opened);
        try {
          await bell.rung(call.signal);
        } finally {
          stop();
        }
      },
      close: () => {
        stopWatching();
        stopWaiting();
      },
    };
    return opened;
  }

  #startWaiting(leaseId: LeaseUuid, watch: VersionWatch): () => void {
    const ofLease = this.#waiting.get(leaseId) ?? new Set();
    this.#waiting.set(leaseId, ofLease.add(watch));
    return () => {
      ofLease.delete(watch);
      if (ofLease.size === 0 && this.#waiting.get(leaseId) === ofLease) {
        this.#waiting.delete(leaseId);
      }
    };
  }

  /**
   * One query for all watchers: a lease is looked at by the one that waits and is the furthest behind. One whose caller
   * is slow would have all others woken each time, for what they have seen.
   */
  async #look(leases: readonly WaitedLease[]): Promise<readonly LeaseUuid[]> {
    const rows = await this.#options.database.run(findNewerVersions, [
      leases.map(({ ownerId }) => ownerId),
      leases.map(({ leaseId }) => leaseId),
      leases.map(({ leaseId }) => this.#leastSeen(leaseId)),
    ]);
    return rows.map((row) => row.lease_id);
  }

  #leastSeen(leaseId: LeaseUuid): bigint {
    const seen = [...(this.#waiting.get(leaseId) ?? [])].map(({ seenVersion }) => seenVersion);
    return seen.sort((a, b) => (a < b ? -1 : 1))[0] ?? lastVersion;
  }
}

/** Remembers that it was rung until somebody has listened. */
class Bell {
  #isRung = false;
  #listener: (() => void) | undefined;

  ring(): void {
    this.#isRung = true;
    this.#listener?.();
  }

  /** Resolves once it is rung, at once if it was since the last time. Rejects when the signal aborts. */
  async rung(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (!this.#isRung) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const abort = () => reject(signal.reason);
      signal.addEventListener("abort", abort, { once: true });
      this.#listener = resolve;
      try {
        await promise;
      } finally {
        this.#listener = undefined;
        signal.removeEventListener("abort", abort);
      }
    }
    this.#isRung = false;
  }
}
