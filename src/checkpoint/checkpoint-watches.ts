/** Watches workflows: sends each version as it appears, and costs the database nothing of its own while there is none. */
import type { Caller } from "../account/caller.ts";
import type { Database } from "../database/database.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import type { LeaseWatch } from "../lease/lease-watch.ts";
import type { Call } from "../server/call.ts";
import type { WaitedLease, WakeupSource, Wakeups } from "../wakeups/wakeups.ts";
import {
  type CheckpointReads,
  type CheckpointTarget,
  type FoundCheckpoint,
  latestVersion,
  noVersion,
} from "./checkpoint-reads.ts";
import { isVersionRow, type KeptVersion, oldestVersion } from "./checkpoint-row.ts";
import { findNewerVersions } from "./checkpoint-statements.ts";

/** What watching needs. */
export interface CheckpointWatchesOptions {
  readonly database: Database;
  readonly reads: CheckpointReads;
  readonly wakeups: Wakeups;
  readonly watch: LeaseWatch;
}

/** One watcher: the last version it was sent, and what wakes it. */
interface Watcher {
  readonly lease: WaitedLease;
  sentVersion: bigint;
}

/** The watchers of one process. */
export class CheckpointWatches {
  readonly #options: CheckpointWatchesOptions;
  readonly #watchers = new Map<LeaseUuid, Set<Watcher>>();
  readonly #source: WakeupSource;

  constructor(options: CheckpointWatchesOptions) {
    this.#options = options;
    this.#source = { name: "checkpoint", look: (leases) => this.#look(leases) };
  }

  /**
   * The current version, or those after `afterVersion` unless that is 0, and then each newer one, as long as the call
   * lasts. Versions that are pushed out before they are asked for are left out.
   *
   * The call is cut when its lease ends, its key is stopped or its server drains.
   */
  async *watch(
    caller: Caller,
    target: CheckpointTarget,
    afterVersion: bigint,
    call: Call,
  ): AsyncGenerator<KeptVersion> {
    const { reads, watch, wakeups } = this.#options;
    call.endWithDrain();
    const place = await reads.find(caller, "read", target, noVersion);
    const lease = { ownerId: caller.ownerId, leaseId: place.lease_id };
    const watcher = { lease, sentVersion: afterVersion };
    const bell = new Bell();
    const stopWaiting = wakeups.wait(this.#source, lease, () => bell.ring());
    const forget = this.#remember(watcher);
    const stopWatching = watch.watch({
      lease: place,
      now: place.now,
      askedAtMs: place.askedAtMs,
      cut: (error) => call.abort(error),
      caller: { caller, scope: "read" },
    });
    try {
      for (;;) {
        const next = await this.#next(caller, { ...target, leaseId: place.lease_id }, watcher.sentVersion);
        if (next === undefined) {
          await bell.rung(call.signal);
        } else {
          watcher.sentVersion = next.version;
          yield next;
        }
      }
    } finally {
      stopWatching();
      forget();
      stopWaiting();
    }
  }

  /** The version to send after one that was sent: the one after it, or else the oldest that is kept behind it. */
  async #next(caller: Caller, target: CheckpointTarget, sentVersion: bigint): Promise<KeptVersion | undefined> {
    const { reads } = this.#options;
    const wanted = sentVersion === 0n ? latestVersion : sentVersion + 1n;
    let found: FoundCheckpoint = await reads.find(caller, "read", target, wanted);
    while (!isVersionRow(found) && found.content_version > sentVersion) {
      found = await reads.find(caller, "read", target, oldestVersion(found.content_version, found.retained_versions));
    }
    return isVersionRow(found) ? found : undefined;
  }

  #remember(watcher: Watcher): () => void {
    const { leaseId } = watcher.lease;
    const ofLease = this.#watchers.get(leaseId) ?? new Set();
    this.#watchers.set(leaseId, ofLease.add(watcher));
    return () => {
      ofLease.delete(watcher);
      if (ofLease.size === 0 && this.#watchers.get(leaseId) === ofLease) {
        this.#watchers.delete(leaseId);
      }
    };
  }

  /** One query for all watchers: a lease is looked at by the watcher that is the furthest behind. */
  async #look(leases: readonly WaitedLease[]): Promise<readonly LeaseUuid[]> {
    const rows = await this.#options.database.run(findNewerVersions, [
      leases.map(({ ownerId }) => ownerId),
      leases.map(({ leaseId }) => leaseId),
      leases.map(({ leaseId }) => this.#leastSent(leaseId)),
    ]);
    return rows.map((row) => row.lease_id);
  }

  #leastSent(leaseId: LeaseUuid): bigint {
    const sent = [...(this.#watchers.get(leaseId) ?? [])].map(({ sentVersion }) => sentVersion);
    return sent.sort((a, b) => (a < b ? -1 : 1))[0] ?? 0n;
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
