/** A row of `lease` as statements return it, and what follows from it at a moment of the database's clock. */
import { Lease_EndReason, Lease_State, Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import type { DatabaseTime } from "../database/row-types.ts";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import type { AccountUuid, KeyUuid, LeaseUuid } from "../ids/ids.ts";

/** A row of `lease`. Its enums hold the numbers of the proto's. */
export interface LeaseRow {
  readonly owner_id: AccountUuid;
  readonly lease_id: LeaseUuid;
  readonly key_id: KeyUuid;
  readonly variant: number;
  readonly size_bytes: bigint;
  readonly duration_seconds: bigint;
  readonly expiry_behavior: number;
  readonly read_access: number;
  readonly delete_on_access: boolean;
  readonly price_micros: bigint;
  readonly labels: Readonly<Record<string, string>> | null;
  readonly create_time: DatabaseTime;
  readonly active_time: DatabaseTime | null;
  readonly expire_time: DatabaseTime;
  readonly due_time: DatabaseTime;
  readonly due_reason: Lease_EndReason;
  readonly end_time: DatabaseTime | null;
  readonly end_reason: Lease_EndReason | null;
  readonly destroy_time: DatabaseTime | null;
  readonly unrecoverable_time: DatabaseTime | null;
  readonly content_bytes: bigint;
  readonly content_items: bigint;
  readonly content_version: bigint;
  readonly overhead_bytes: bigint;
  readonly epoch_seconds: bigint;
  readonly wrapped_key: Buffer | null;
  readonly sealed_details: Buffer | null;
}

const names = [
  "owner_id",
  "lease_id",
  "key_id",
  "variant",
  "size_bytes",
  "duration_seconds",
  "expiry_behavior",
  "read_access",
  "delete_on_access",
  "price_micros",
  "labels",
  "create_time",
  "active_time",
  "expire_time",
  "due_time",
  "due_reason",
  "end_time",
  "end_reason",
  "destroy_time",
  "unrecoverable_time",
  "content_bytes",
  "content_items",
  "content_version",
  "overhead_bytes",
  "epoch_seconds",
  "wrapped_key",
  "sealed_details",
] as const satisfies readonly (keyof LeaseRow)[];

/** The select list of a LeaseRow, of a table or CTE by its alias. */
export function leaseColumns(alias: string): string {
  return names.map((name) => `${alias}.${name}`).join(", ");
}

/**
 * Whether nobody has recorded a lease's end, of one that is found by its key. Not `end_time is null`: to a plan that was
 * made while no lease lived, the indexes over live leases look empty, and it would read them whole.
 */
export function isUnended(alias: string): string {
  return `coalesce(${alias}.end_time, 'infinity') = 'infinity'`;
}

/** A joined lease that may be missing: every column is null then. */
export type MaybeLeaseRow = LeaseRow | { readonly [Name in keyof LeaseRow]: null };

export function isLeaseRow<Row extends MaybeLeaseRow>(row: Row): row is Row & LeaseRow {
  return row.lease_id !== null;
}

/** When and why a lease ended. */
export interface LeaseEnd {
  readonly time: DatabaseTime;
  readonly reason: Lease_EndReason;
}

/** The end of a lease by `now`, whether or not a sweep has recorded it. Undefined while it lives. */
export function endOf(row: LeaseRow, now: DatabaseTime): LeaseEnd | undefined {
  if (row.end_time !== null) {
    return { time: row.end_time, reason: row.end_reason ?? Lease_EndReason.UNSPECIFIED };
  }
  return row.due_time <= now ? { time: row.due_time, reason: row.due_reason } : undefined;
}

/** The state of a lease at `now`. */
export function stateOf(row: LeaseRow, now: DatabaseTime): Lease_State {
  if (endOf(row, now) !== undefined) {
    return Lease_State.EXPIRED;
  }
  return row.active_time === null ? Lease_State.CREATED : Lease_State.ACTIVE;
}

/**
 * Refuses a lease that has ended by `now`.
 *
 * @throws LeaseholdError LEASE_ENDED.
 */
export function requireLive(row: LeaseRow, now: DatabaseTime): void {
  const end = endOf(row, now);
  if (end !== undefined) {
    throw leaseEnded(end);
  }
}

/**
 * Refuses a lease that is not in a state.
 *
 * @throws LeaseholdError LEASE_ENDED or WRONG_STATE.
 */
export function requireState(row: LeaseRow, now: DatabaseTime, state: Lease_State.CREATED | Lease_State.ACTIVE): void {
  requireLive(row, now);
  const actual = stateOf(row, now);
  if (actual !== state) {
    const name = Lease_State[actual];
    throw new LeaseholdError(
      "WRONG_STATE",
      `The lease is ${name}, and the call needs it to be ${Lease_State[state]}.`,
      {
        metadata: { state: `STATE_${name}` },
      },
    );
  }
}

/**
 * Refuses a lease of another variant, which has none of what the call is about.
 *
 * @throws LeaseholdError WRONG_VARIANT.
 */
export function requireVariant(row: LeaseRow, expected: Lease_Variant, content: string): void {
  if (row.variant !== expected) {
    const variant = `VARIANT_${Lease_Variant[row.variant]}`;
    const message = `The lease is ${variant}, which has no ${content}: use the calls of its variant.`;
    throw new LeaseholdError("WRONG_VARIANT", message, { metadata: { variant } });
  }
}

/** The error of every call for the content of a lease that has ended. */
export function leaseEnded(end: LeaseEnd): LeaseholdError {
  const endTime = new Date(Number(end.time / 1000n)).toISOString();
  const endReason = `END_REASON_${Lease_EndReason[end.reason]}`;
  return new LeaseholdError("LEASE_ENDED", `The lease ended at ${endTime} (${endReason}): make a new one.`, {
    metadata: { end_time: endTime, end_reason: endReason },
  });
}
