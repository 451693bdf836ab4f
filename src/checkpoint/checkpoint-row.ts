/** The rows of Checkpoint leases as statements return them. */
import type { DatabaseTime } from "../database/row-types.ts";
import { LeaseholdError, notFound } from "../errors/leasehold-error.ts";
import type { LeaseRow, MaybeLeaseRow } from "../lease/lease-row.ts";

/** What `checkpoint` holds of a lease. Null where there is none. */
export interface CheckpointColumns {
  readonly workflow_id: string | null;
  readonly retained_versions: number | null;
}

/** A row of `checkpoint_version`. */
export interface VersionRow {
  readonly version: bigint;
  readonly body_id: string;
  readonly body_bytes: bigint;
  readonly put_time: DatabaseTime;
  readonly file_generation: number | null;
  readonly file_chunks: bigint;
  readonly sealed_checkpoint: Buffer;
  readonly sealed_tail: Buffer;
}

/** A joined version that may be missing: every column is null then. */
export type MaybeVersionRow = VersionRow | { readonly [Name in keyof VersionRow]: null };

/** A lease, or none, with the version of it that was asked for. */
export type FoundRow = MaybeLeaseRow & CheckpointColumns & MaybeVersionRow & { readonly now: DatabaseTime };

/** A live Checkpoint lease with one of its versions. */
export type KeptVersion = LeaseRow &
  VersionRow & { readonly workflow_id: string; readonly retained_versions: number; readonly now: DatabaseTime };

/** The select list of a MaybeVersionRow, of a table or CTE by its alias. */
export function versionColumns(alias: string): string {
  return `${alias}.version, ${alias}.body_id, ${alias}.body_bytes, ${alias}.create_time as put_time,
    ${alias}.file_generation, ${alias}.file_chunks, ${alias}.sealed_details as sealed_checkpoint, ${alias}.sealed_tail`;
}

export function isVersionRow<Row extends MaybeVersionRow>(row: Row): row is Row & VersionRow {
  return row.version !== null;
}

/** The oldest version that is kept behind a latest one. */
export function oldestVersion(latest: bigint, retainedVersions: number): bigint {
  const oldest = latest - BigInt(retainedVersions) + 1n;
  return oldest > 1n ? oldest : 1n;
}

/** The error of a version that is not there. 0 stands for the latest. */
export function missingVersion(row: LeaseRow & CheckpointColumns, version: bigint): LeaseholdError {
  const latest = row.content_version;
  if (version === 0n || version > latest) {
    return notFound("checkpoint");
  }
  const oldest = oldestVersion(latest, row.retained_versions ?? 1);
  return new LeaseholdError(
    "VERSION_GONE",
    `Version ${version} was pushed out by later ones: ${oldest} to ${latest} are kept.`,
    { metadata: { version: `${version}`, oldest_version: `${oldest}`, latest_version: `${latest}` } },
  );
}
