/** Cuts streams whose lease ends while they run: at the due time by a timer, and within seconds for an end made elsewhere. */
import type { Logger } from "pino";
import { accessRefusal, type Caller } from "../account/caller.ts";
import { type ScopeName, scopeBits } from "../account/scopes.ts";
import type { Database } from "../database/database.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import type { LeaseholdError } from "../errors/leasehold-error.ts";
import { LongTimer } from "../server/long-timer.ts";
import { endOf, type LeaseRow, leaseEnded } from "./lease-row.ts";
import { findEndedAmong, findRefusedAmong } from "./lease-statements.ts";

/** A stream that reads or writes a lease. */
export interface WatchedStream {
  readonly lease: LeaseRow;
  /** When the row was read, by the database's clock. */
  readonly now: DatabaseTime;
  /** Ends the stream. */
  readonly cut: (error: LeaseholdError) => void;
  /** When the statement that read it was sent, as `performance.now()` tells it. Undefined: just now. */
  readonly askedAtMs?: number;
  /** The key it runs under, and the scope it needs. Undefined if it needs none. */
  readonly caller?: { readonly caller: Caller; readonly scope: ScopeName };
}

/** How often ends made elsewhere are looked for while any stream runs, in milliseconds. A stream is cut within 5 s. */
const pollIntervalMs = 2_000;

/**
 * Watches the streams of one process. One query every two seconds serves them all, and none is made while there are
 * none.
 */
export class LeaseWatch {
  readonly #database: Database;
  readonly #logger: Logger;
  readonly #streams = new Set<WatchedStream>();
  #poll: NodeJS.Timeout | undefined;
  #isLooking = false;

  constructor(database: Database, logger: Logger) {
    this.#database = database;
    this.#logger = logger;
  }

  /** Watches a stream until the returned function is called. */
  watch(stream: WatchedStream): () => void {
    const spentMs = stream.askedAtMs === undefined ? 0 : performance.now() - stream.askedAtMs;
    const remainingMs = Math.max(0, Number((stream.lease.due_time - stream.now) / 1000n) - spentMs);
    const due = { time: stream.lease.due_time, reason: stream.lease.due_reason };
    const timer = new LongTimer(remainingMs, () => stream.cut(leaseEnded(due)));
    this.#streams.add(stream);
    this.#poll ??= setInterval(() => void this.#look(), pollIntervalMs).unref();
    return () => {
      timer.cancel();
      this.#streams.delete(stream);
      if (this.#streams.size === 0) {
        clearInterval(this.#poll);
        this.#poll = undefined;
      }
    };
  }

  /**
   * Cuts the streams of leases that ended and of keys that were stopped. Due times hold without it. A database that is
   * slow to answer is not asked again before it has.
   */
  async #look(): Promise<void> {
    if (this.#isLooking) {
      return;
    }
    this.#isLooking = true;
    try {
      const streams = [...this.#streams];
      await this.#cutEnded(streams);
      await this.#cutRefused(streams);
    } catch (error) {
      this.#logger.warn({ err: error }, "streams could not be checked for an end made elsewhere");
    } finally {
      this.#isLooking = false;
    }
  }

  async #cutEnded(streams: readonly WatchedStream[]): Promise<void> {
    const rows = await this.#database.run(findEndedAmong, [
      streams.map((stream) => stream.lease.owner_id),
      streams.map((stream) => stream.lease.lease_id),
    ]);
    const ended = new Map(rows.map((row) => [row.lease_id, endOf(row, row.now)]));
    for (const stream of streams) {
      const end = ended.get(stream.lease.lease_id);
      if (end !== undefined) {
        stream.cut(leaseEnded(end));
      }
    }
  }

  async #cutRefused(streams: readonly WatchedStream[]): Promise<void> {
    const bound = streams.flatMap((stream) => (stream.caller === undefined ? [] : [{ stream, ...stream.caller }]));
    if (bound.length === 0) {
      return;
    }
    const rows = await this.#database.run(findRefusedAmong, [
      bound.map((_, index) => index),
      bound.map(({ caller }) => caller.ownerId),
      bound.map(({ caller }) => caller.keyId),
      bound.map(({ scope }) => scopeBits[scope]),
    ]);
    for (const row of rows) {
      const refused = bound[row.ordinal];
      if (refused !== undefined) {
        refused.stream.cut(accessRefusal(row.access, refused.scope));
      }
    }
  }
}
