/** What reading a lease's content piece by piece needs, whatever its variant is. */
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

/** The largest piece that is handed out, in bytes. */
const pieceBytes = 65_536;

/** Bytes that are held, from an offset on and at most limitBytes, in pieces. */
export async function* piecesOf(bytes: Uint8Array, offset: number, limitBytes: number): AsyncGenerator<Uint8Array> {
  const end = Math.min(bytes.length, offset + limitBytes);
  for (let at = offset; at < end; at += pieceBytes) {
    yield bytes.subarray(at, Math.min(end, at + pieceBytes));
  }
}
