/** Tells the end of a lease from the end of its content, for those who read it page by page. */
import type { Database } from "../database/database.ts";
import { notFound } from "../errors/leasehold-error.ts";
import { type LeaseRow, requireLive } from "./lease-row.ts";
import { findReadLease } from "./lease-statements.ts";

/**
 * Refuses a lease that has ended since it was found: nothing more is read of it, which must not look like the end of its
 * content.
 *
 * @throws LeaseholdError LEASE_ENDED, or NOT_FOUND if its tombstone is gone too.
 */
export async function requireStillLive(
  database: Database,
  lease: Pick<LeaseRow, "owner_id" | "lease_id">,
): Promise<void> {
  const [row] = await database.run(findReadLease, [lease.owner_id, lease.lease_id]);
  if (row === undefined) {
    throw notFound("lease");
  }
  requireLive(row, row.now);
}
