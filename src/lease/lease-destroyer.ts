/** Destroys what ended leases held: the content through their variants, then the record that it is done. */
import type { Database } from "../database/database.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import type { AccountUuid, LeaseUuid } from "../ids/ids.ts";
import type { LeaseSeals } from "./lease-seals.ts";
import { markDestroyed } from "./lease-statements.ts";
import type { LeaseVariants } from "./lease-variant.ts";

/** An ended lease, by what its destruction needs to know of it. */
export interface DestroyableLease {
  readonly owner_id: AccountUuid;
  readonly lease_id: LeaseUuid;
  readonly variant: number;
}

/**
 * Destroys content. Each step may be repeated, so that a crash between any two is finished by whoever comes next: the
 * end is committed before, and destroy_time only after nothing is left.
 */
export class LeaseDestroyer {
  readonly #database: Database;
  readonly #variants: LeaseVariants;
  readonly #seals: LeaseSeals;

  constructor(database: Database, variants: LeaseVariants, seals: LeaseSeals) {
    this.#database = database;
    this.#variants = variants;
    this.#seals = seals;
  }

  /** Destroys the content of ended leases. Gives the time of each lease's destruction that this call recorded. */
  async destroy(leases: readonly DestroyableLease[]): Promise<ReadonlyMap<LeaseUuid, DatabaseTime>> {
    if (leases.length === 0) {
      return new Map();
    }
    const byVariant = Map.groupBy(leases, (lease) => this.#variants.of(lease));
    for (const [variant, some] of byVariant) {
      await variant.destroy(some.map((lease) => ({ ownerId: lease.owner_id, leaseId: lease.lease_id })));
    }
    for (const lease of leases) {
      this.#seals.forget(lease.lease_id);
    }
    const rows = await this.#database.run(
      markDestroyed,
      [leases.map((lease) => lease.owner_id), leases.map((lease) => lease.lease_id)],
      { repeatable: true },
    );
    return new Map(rows.map((row) => [row.lease_id, row.destroy_time]));
  }
}
