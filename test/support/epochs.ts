/** Leases of past epochs, as if they had been made long ago: their keys are wrapped anew under the key of such an epoch. */
import { access } from "node:fs/promises";
import { join } from "node:path";
import { wrapLeaseKey } from "../../src/content/lease-key.ts";
import { type LeaseRow, leaseColumns } from "../../src/lease/lease-row.ts";
import { leaseUuid } from "./tenant.ts";
import type { TestLeasehold } from "./test-leasehold.ts";
import { query } from "./test-query.ts";

/** The start, in Unix seconds, of the epoch that is so many epochs before the database's present one. */
export async function epochBefore(leasehold: TestLeasehold, epochs: number): Promise<number> {
  const length = leasehold.core.keyFolder.epochLengthSeconds;
  const [row] = await query<{ seconds: bigint }>(
    leasehold.database,
    "select extract(epoch from clock_timestamp())::bigint as seconds",
  );
  return (Math.floor(Number(row?.seconds) / length) - epochs) * length;
}

/** Moves a lease to an epoch in whose last second it is due. */
export async function moveToEpoch(leasehold: TestLeasehold, leaseId: string, startSeconds: number): Promise<void> {
  const { database, keyFolder, seals } = leasehold.core;
  const row = await leaseRow(leasehold, leaseId);
  const owner = { installationId: keyFolder.installationId, leaseId: row.lease_id };
  const wrapped = wrapLeaseKey(await keyFolder.epochKey(startSeconds), await seals.keyOf(row), owner);
  const dueSeconds = startSeconds + keyFolder.epochLengthSeconds - 1;
  await query(
    database,
    `update lease set wrapped_key = $2, epoch_seconds = $3, expire_time = to_timestamp($4), due_time = to_timestamp($4),
      create_time = to_timestamp($4) - make_interval(secs => duration_seconds)
    where lease_id = $1`,
    [row.lease_id, wrapped, startSeconds, dueSeconds],
  );
}

/** A lease's row, as it is stored. */
export async function leaseRow(leasehold: TestLeasehold, leaseId: string): Promise<LeaseRow> {
  const [row] = await query<LeaseRow>(
    leasehold.database,
    `select ${leaseColumns("l")} from lease l where lease_id = $1`,
    [leaseUuid(leaseId)],
  );
  if (row === undefined) {
    throw new Error("there is no row of this lease");
  }
  return row;
}

/** Whether the key folder has the key of an epoch. */
export async function hasEpochKey(leasehold: TestLeasehold, startSeconds: number): Promise<boolean> {
  const path = join(leasehold.core.keyFolder.dir, `epoch-${startSeconds}.key`);
  return await access(path).then(
    () => true,
    () => false,
  );
}
