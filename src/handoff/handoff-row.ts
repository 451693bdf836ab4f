/** Rows of `handoff` and `claim` as statements return them, beside a lease's, and what follows from them. */
import { type Claim_State, Handoff_State } from "#gen/leasehold/v1/handoff_pb.js";
import type { DatabaseTime } from "../database/row-types.ts";
import type { AccountUuid, ClaimUuid, HandoffUuid, LeaseUuid } from "../ids/ids.ts";
import { endOf, type LeaseEnd, type LeaseRow } from "../lease/lease-row.ts";

/** A row of `handoff`. Its enums hold the numbers of the proto's. */
export interface HandoffRow {
  readonly owner_id: AccountUuid;
  readonly handoff_id: HandoffUuid;
  readonly lease_id: LeaseUuid;
  readonly token_key_version: number;
  readonly max_claims: number;
  readonly open_claims: number;
  readonly used_claims: number;
  readonly burnt_claims: number;
  readonly incomplete_claims: number;
  readonly max_incomplete_claims: number;
  readonly incomplete_claim_policy: number;
  readonly delete_on_claim: boolean;
  readonly create_time: DatabaseTime;
  readonly expire_time: DatabaseTime;
  readonly revoke_time: DatabaseTime | null;
  /** The version that every claim delivers. Null: the one there is when a claim is made. */
  readonly content_version: bigint | null;
}

/** A row of `claim`. */
export interface ClaimRow {
  readonly claim_id: ClaimUuid;
  readonly state: Claim_State;
  readonly stream_generation: number;
  readonly create_time: DatabaseTime;
  readonly hold_expire_time: DatabaseTime;
  readonly deliver_time: DatabaseTime | null;
  readonly end_time: DatabaseTime | null;
  readonly content_bytes: bigint;
  readonly content_version: bigint;
  readonly delivered_bytes: bigint;
  readonly served_bytes: bigint;
}

const handoffNames = [
  "owner_id",
  "handoff_id",
  "lease_id",
  "token_key_version",
  "max_claims",
  "open_claims",
  "used_claims",
  "burnt_claims",
  "incomplete_claims",
  "max_incomplete_claims",
  "incomplete_claim_policy",
  "delete_on_claim",
  "create_time",
  "expire_time",
  "revoke_time",
  "content_version",
] as const satisfies readonly (keyof HandoffRow)[];

const claimNames = [
  "claim_id",
  "state",
  "stream_generation",
  "create_time",
  "hold_expire_time",
  "deliver_time",
  "end_time",
  "content_bytes",
  "content_version",
  "delivered_bytes",
  "served_bytes",
] as const satisfies readonly (keyof ClaimRow)[];

/** A row whose columns are called `prefix:column`, so that they stand beside a lease's; null where it is missing. */
export type Prefixed<Prefix extends string, Row> = {
  readonly [Name in keyof Row & string as `${Prefix}:${Name}`]: Row[Name] | null;
};
export type HandoffColumns = Prefixed<"handoff", HandoffRow>;
export type ClaimColumns = Prefixed<"claim", ClaimRow>;

/** The select list of HandoffColumns. */
export function handoffColumns(alias: string): string {
  return handoffNames.map((name) => `${alias}.${name} as "handoff:${name}"`).join(", ");
}

/** The select list of ClaimColumns. */
export function claimColumns(alias: string): string {
  return claimNames.map((name) => `${alias}.${name} as "claim:${name}"`).join(", ");
}

/** The handoff among a row's columns, or undefined if there is none. */
export function handoffOf(row: HandoffColumns): HandoffRow | undefined {
  return row["handoff:handoff_id"] === null
    ? undefined
    : (unprefix("handoff", handoffNames, row) as unknown as HandoffRow);
}

/** The claim among a row's columns, or undefined if there is none. */
export function claimOf(row: ClaimColumns): ClaimRow | undefined {
  return row["claim:claim_id"] === null ? undefined : (unprefix("claim", claimNames, row) as unknown as ClaimRow);
}

function unprefix(prefix: string, names: readonly string[], row: object): Record<string, unknown> {
  return Object.fromEntries(names.map((name) => [name, Reflect.get(row, `${prefix}:${name}`)]));
}

/**
 * The state of a handoff at `now`, of a lease that has or has not ended. Where several would do, it is the one whose
 * error comes first in the catalogue.
 */
export function handoffStateOf(row: HandoffRow, leaseEnd: LeaseEnd | undefined, now: DatabaseTime): Handoff_State {
  const spent = row.used_claims + row.burnt_claims;
  if (leaseEnd !== undefined) {
    return Handoff_State.LEASE_ENDED;
  }
  if (spent >= row.max_claims) {
    return Handoff_State.EXHAUSTED;
  }
  if (row.expire_time <= now) {
    return Handoff_State.EXPIRED;
  }
  if (row.revoke_time !== null) {
    return Handoff_State.REVOKED;
  }
  return spent + row.open_claims >= row.max_claims ? Handoff_State.BUSY : Handoff_State.OPEN;
}

/** The state of the handoff among a row's columns, at the row's own moment. */
export function stateOfRow(row: LeaseRow & HandoffColumns & { readonly now: DatabaseTime }): Handoff_State | undefined {
  const handoff = handoffOf(row);
  return handoff === undefined ? undefined : handoffStateOf(handoff, endOf(row, row.now), row.now);
}

/** A time as errors and headers show it: RFC 3339, in UTC. */
export function timeText(time: DatabaseTime): string {
  return new Date(Number(time / 1000n)).toISOString();
}
