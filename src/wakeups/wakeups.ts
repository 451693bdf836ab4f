/**
 * Wakes those who wait for something to change in a lease, in this process and in others, at no cost while they wait.
 */
import type { Logger } from "pino";
import type { Database } from "../database/database.ts";
import type { AccountUuid, LeaseUuid } from "../ids/ids.ts";
import { LongTimer } from "../server/long-timer.ts";

/** A lease that somebody waits for. */
export interface WaitedLease {
  readonly ownerId: AccountUuid;
  readonly leaseId: LeaseUuid;
}

/** A variant's way to find what a lost hint would have told. */
export interface WakeupSource {
  readonly name: string;
  /** Which of these leases have something for those who wait. One query, however many there are. */
  look(leases: readonly WaitedLease[]): Promise<readonly LeaseUuid[]>;
}

interface Waiter {
  readonly lease: WaitedLease;
  readonly wake: () => void;
}

const channel = "leasehold_wakeup";
/** How often lost hints are looked for while anybody waits, in milliseconds. */
const lookIntervalMs = 2_000;
/** How long hints are gathered behind one that was sent, in milliseconds: the first goes at once. */
const hintGapMs = 5;
/** Postgres takes payloads of less than 8000 bytes. */
const idsInPayload = 200;

/**
 * A change is told to this process's waiters at once, and to other processes by NOTIFY, after its commit and coalesced:
 * NOTIFY inside the writing transaction takes a lock on the whole database at commit, which halved commits at 32
 * clients.
 *
 * Hints may be lost. One query a source finds what they would have told, every two seconds, for all waiters of the
 * process together; none is made while nobody waits.
 */
export class Wakeups {
  readonly #database: Database;
  readonly #logger: Logger;
  readonly #waiters = new Map<LeaseUuid, Set<Waiter>>();
  readonly #sources = new Map<WakeupSource, Map<Waiter, WaitedLease>>();
  readonly #hints = new Set<LeaseUuid>();
  #look: NodeJS.Timeout | undefined;
  #isLooking = false;
  #isSending = false;

  private constructor(database: Database, logger: Logger) {
    this.#database = database;
    this.#logger = logger;
  }

  static async open(database: Database, logger: Logger): Promise<Wakeups> {
    const wakeups = new Wakeups(database, logger);
    await database.notifications.listen(channel, {
      heard: (payload) => wakeups.#wakeAll(payload.split(" ") as LeaseUuid[]),
      missed: () => wakeups.#wakeAll([...wakeups.#waiters.keys()]),
    });
    return wakeups;
  }

  /**
   * Calls back whenever a lease may have changed, until the returned function is called. Look at the lease after this,
   * not before: a change in between is otherwise missed.
   */
  wait(source: WakeupSource, lease: WaitedLease, wake: () => void): () => void {
    const waiter = { lease, wake };
    const ofLease = this.#waiters.get(lease.leaseId) ?? new Set();
    this.#waiters.set(lease.leaseId, ofLease.add(waiter));
    const ofSource = this.#sources.get(source) ?? new Map();
    this.#sources.set(source, ofSource.set(waiter, lease));
    this.#look ??= setInterval(() => void this.#lookAll(), lookIntervalMs).unref();
    return () => {
      ofLease.delete(waiter);
      ofSource.delete(waiter);
      if (ofLease.size === 0 && this.#waiters.get(lease.leaseId) === ofLease) {
        this.#waiters.delete(lease.leaseId);
      }
      if (this.#waiters.size === 0) {
        clearInterval(this.#look);
        this.#look = undefined;
      }
    };
  }

  /**
   * Wakes those who wait for a lease after a time, for a delay or a hold that ends then. Gives the way to call it off.
   */
  wakeLater(leaseId: LeaseUuid, delayMs: number): () => void {
    const timer = new LongTimer(delayMs, () => this.#wakeAll([leaseId]));
    return () => timer.cancel();
  }

  /** Says that a lease has changed. Call it when the change is committed. */
  changed(leaseId: LeaseUuid): void {
    this.#wakeAll([leaseId]);
    this.#hints.add(leaseId);
    if (!this.#isSending) {
      void this.#send();
    }
  }

  #wakeAll(leaseIds: readonly LeaseUuid[]): void {
    for (const leaseId of leaseIds) {
      for (const waiter of this.#waiters.get(leaseId) ?? []) {
        waiter.wake();
      }
    }
  }

  async #send(): Promise<void> {
    this.#isSending = true;
    try {
      while (this.#hints.size > 0) {
        const leases = [...this.#hints].slice(0, idsInPayload);
        for (const leaseId of leases) {
          this.#hints.delete(leaseId);
        }
        await this.#database.notifications.notify(channel, leases.join(" "));
        await new Promise((resolve) => setTimeout(resolve, hintGapMs));
      }
    } catch (error) {
      this.#logger.warn({ err: error }, "hints were lost: those who wait elsewhere find out by themselves");
    } finally {
      this.#isSending = false;
    }
  }

  async #lookAll(): Promise<void> {
    if (this.#isLooking) {
      return;
    }
    this.#isLooking = true;
    try {
      for (const [source, waiters] of this.#sources) {
        const leases = [...new Map([...waiters.values()].map((lease) => [lease.leaseId, lease])).values()];
        if (leases.length > 0) {
          this.#wakeAll(await source.look(leases));
        }
      }
    } catch (error) {
      this.#logger.warn({ err: error }, "lost hints could not be looked for");
    } finally {
      this.#isLooking = false;
    }
  }
}
