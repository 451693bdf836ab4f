/** Removes entries whose time is over, and values that were kept for claims which are over. */
import type { Database } from "../database/database.ts";
import type { AccountUuid, LeaseUuid } from "../ids/ids.ts";
import type { Wakeups } from "../wakeups/wakeups.ts";
import {
  deleteKeptValues,
  type ExpiredRow,
  expireEntries,
  findExpired,
  findIdleKeptValues,
} from "./entry-expiry-statements.ts";
import { lockScratchpads } from "./write-entries-statement.ts";

/** How many entries one statement removes. */
const batchEntries = 500;

/** Removes what is over in live scratchpads. */
export class EntryExpiry {
  readonly #database: Database;
  readonly #wakeups: Wakeups;

  constructor(database: Database, wakeups: Wakeups) {
    this.#database = database;
    this.#wakeups = wakeups;
  }

  /** Removes every entry of a scratchpad whose time is over now. Gives how many that were. */
  async expire(ownerId: AccountUuid, leaseId: LeaseUuid): Promise<number> {
    let removed = 0;
    for (;;) {
      const { entries } = await this.#expireBatch(ownerId, leaseId);
      removed += entries;
      if (entries > 0) {
        this.#wakeups.changed(leaseId);
      }
      if (entries < batchEntries) {
        return removed;
      }
    }
  }

  /** Does at most `limit` of each. Gives how many entries and values that were. */
  async tidy(limit: number): Promise<number> {
    let done = 0;
    for (const { owner_id, lease_id } of await this.#database.run(findExpired, [limit])) {
      done += await this.expire(owner_id, lease_id);
    }
    for (const { owner_id, lease_id } of await this.#database.run(findIdleKeptValues, [limit])) {
      done += (await this.#database.run(deleteKeptValues, [owner_id, lease_id, limit], { repeatable: true })).length;
    }
    return done;
  }

  /** If the scratchpad changed during the wait for its lock, it is done behind the lock. */
  async #expireBatch(ownerId: AccountUuid, leaseId: LeaseUuid): Promise<Pick<ExpiredRow, "entries">> {
    const values = [ownerId, leaseId, batchEntries];
    const [row] = await this.#database.run(expireEntries, values, { repeatable: true });
    if (row?.is_stale !== true) {
      return row ?? { entries: 0 };
    }
    const [behind] = await this.#database.transaction(
      async (transaction) => {
        await transaction.run(lockScratchpads, [ownerId, [leaseId]]);
        return await transaction.run(expireEntries, values);
      },
      { repeatable: true },
    );
    return behind ?? { entries: 0 };
  }
}
