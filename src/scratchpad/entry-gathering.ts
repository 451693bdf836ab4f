/**
 * Gathers what was appended to an entry into one value, so that reading it costs by its size and not by its history.
 */
import type { Database, Transaction } from "../database/database.ts";
import type { AccountUuid, LeaseUuid } from "../ids/ids.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import { findLongEntries, gatherAppends, readAppendedEntry } from "./entry-gathering-statements.ts";
import { openValue, sealValue } from "./entry-seals.ts";
import { lockScratchpads } from "./write-entries-statement.ts";

/** Gathers entries of live scratchpads. */
export class EntryGathering {
  readonly #database: Database;
  readonly #seals: LeaseSeals;

  constructor(database: Database, seals: LeaseSeals) {
    this.#database = database;
    this.#seals = seals;
  }

  /** Gathers entries with many appends: at most `limit`. Gives how many that were. */
  async tidy(limit: number): Promise<number> {
    let done = 0;
    for (const { owner_id, lease_id, key } of await this.#database.run(findLongEntries, [limit])) {
      done += (await this.gather(owner_id, lease_id, key)) ? 1 : 0;
    }
    return done;
  }

  /** Gathers an entry behind its lease's lock. False if there is nothing to gather. */
  async gather(ownerId: AccountUuid, leaseId: LeaseUuid, key: string): Promise<boolean> {
    return await this.#database.transaction(
      async (transaction) => {
        await transaction.run(lockScratchpads, [ownerId, [leaseId]]);
        return await this.#gatherLocked(transaction, ownerId, leaseId, key);
      },
      { repeatable: true },
    );
  }

  async #gatherLocked(
    transaction: Transaction,
    ownerId: AccountUuid,
    leaseId: LeaseUuid,
    key: string,
  ): Promise<boolean> {
    const [row] = await transaction.run(readAppendedEntry, [ownerId, leaseId, key]);
    if (row === undefined) {
      return false;
    }
    const leaseKey = await this.#seals.keyOf(row);
    const value = openValue(this.#seals, leaseKey, leaseId, row);
    const { bodyId, sealed } = sealValue(this.#seals, leaseKey, leaseId, value);
    await transaction.run(gatherAppends, [ownerId, leaseId, key, bodyId, sealed]);
    return true;
  }
}
