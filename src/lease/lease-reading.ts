/** What reading a lease's content piece by piece needs, whatever its variant is. */
import type { Database, Statement } from "../database/database.ts";
import { notFound } from "../errors/leasehold-error.ts";
import { type LeaseRow, requireLive } from "./lease-row.ts";
import { findReadLease } from "./lease-statements.ts";
import type { LeaseContent } from "./lease-variant.ts";

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

/**
 * How much a live lease held at a version. The one it is at is measured on its row, which it was read with; an earlier one
 * by a statement of the variant, which is given the owner, the lease and the version.
 */
export async function sizeAtVersion(
  database: Database,
  lease: LeaseRow,
  version: bigint,
  measure: Statement<{ total_bytes: bigint; item_count: bigint }>,
): Promise<Pick<LeaseContent, "totalBytes" | "itemCount">> {
  if (version === lease.content_version) {
    return { totalBytes: lease.content_bytes, itemCount: lease.content_items };
  }
  const [measured] = await database.run(measure, [lease.owner_id, lease.lease_id, version]);
  return { totalBytes: measured?.total_bytes ?? 0n, itemCount: measured?.item_count ?? 0n };
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
