/** A lease that is handed off, and how a test looks behind its claims and back-dates them. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { IssueHandoffRequestSchema } from "#gen/leasehold/v1/handoff_pb.js";
import type { CreateLeaseRequestSchema } from "#gen/leasehold/v1/lease_pb.js";
import type { Database } from "../../src/database/database.ts";
import { type DatabaseTime, databaseTimeParameter } from "../../src/database/row-types.ts";
import { type ClaimUuid, type HandoffUuid, parseId } from "../../src/ids/ids.ts";
import { leaseUuid, required, type Tenant } from "../support/tenant.ts";
import { query } from "../support/test-query.ts";

/** A lease with a token for it. */
export interface HandedOff {
  readonly leaseId: string;
  readonly handoffId: string;
  readonly token: string;
}

/** Stores a body and issues a token for it. */
export async function handOff(
  tenant: Tenant,
  body: Uint8Array,
  terms: MessageInitShape<typeof IssueHandoffRequestSchema> = {},
  lease: MessageInitShape<typeof CreateLeaseRequestSchema> = {},
): Promise<HandedOff> {
  const { leaseId } = await tenant.store(body, { sizeBytes: BigInt(Math.max(1, body.length)), ...lease });
  const { handoff, claimToken } = await tenant.handoffs.issueHandoff({ leaseId, ...terms });
  return { leaseId, handoffId: required(handoff).handoffId, token: claimToken };
}

/** A row of `claim`, as far as tests look at it. */
export interface StoredClaim {
  readonly claim_id: string;
  readonly state: number;
  readonly hold_expire_time: DatabaseTime;
  readonly hold_cap_time: DatabaseTime;
  readonly end_time: DatabaseTime | null;
  readonly delivered_bytes: bigint;
  readonly served_bytes: bigint;
}

/** The claims of a handoff, oldest first. */
export async function claimsOf(database: Database, { handoffId }: HandedOff): Promise<StoredClaim[]> {
  return await query(database, "select * from claim where handoff_id = $1 order by claim_id", [handoffUuid(handoffId)]);
}

/** A row of `handoff`, as far as tests look at it. */
export interface StoredHandoff {
  readonly open_claims: number;
  readonly delivered_claims: number;
  readonly used_claims: number;
  readonly burnt_claims: number;
  readonly incomplete_claims: number;
  readonly expire_time: DatabaseTime;
}

/** The row of a handoff. */
export async function handoffRow(database: Database, { handoffId }: HandedOff): Promise<StoredHandoff> {
  const [row] = await query<StoredHandoff>(database, "select * from handoff where handoff_id = $1", [
    handoffUuid(handoffId),
  ]);
  return required(row);
}

/** Ends a claim's hold some seconds ago, as if that time had passed. Gives the time it ended at. */
export async function endHold(database: Database, claimId: string, secondsAgo = 1): Promise<DatabaseTime> {
  const [row] = await query<{ hold_expire_time: DatabaseTime }>(
    database,
    `update claim set hold_expire_time = clock_timestamp() - make_interval(secs => $2) where claim_id = $1
    returning hold_expire_time`,
    [claimUuid(claimId), secondsAgo],
  );
  return required(row).hold_expire_time;
}

/** Moves all times of a handoff, its claims and its lease's due time into the past by so many seconds. */
export async function ageHandoff(
  database: Database,
  { handoffId, leaseId }: HandedOff,
  seconds: number,
): Promise<void> {
  const shift = (column: string) => `${column} = ${column} - make_interval(secs => $2)`;
  await query(
    database,
    `update claim set ${["create_time", "hold_expire_time", "hold_cap_time", "deliver_time", "end_time"].map(shift).join(", ")}
    where handoff_id = $1`,
    [handoffUuid(handoffId), seconds],
  );
  await query(
    database,
    `update handoff set ${["create_time", "expire_time", "revoke_time", "last_hold_expire_time"].map(shift).join(", ")}
    where handoff_id = $1`,
    [handoffUuid(handoffId), seconds],
  );
  await query(
    database,
    `update lease set ${["create_time", "active_time", "expire_time", "due_time"].map(shift).join(", ")} where lease_id = $1`,
    [leaseUuid(leaseId), seconds],
  );
}

/** Ends a token's time a second ago, and with it the holds of its claims, which never outlast it. */
export async function endToken(database: Database, { handoffId }: HandedOff): Promise<void> {
  const [row] = await query<{ expire_time: DatabaseTime }>(
    database,
    "update handoff set expire_time = clock_timestamp() - interval '1 second' where handoff_id = $1 returning expire_time",
    [handoffUuid(handoffId)],
  );
  await query(database, "update claim set hold_expire_time = least(hold_expire_time, $2) where handoff_id = $1", [
    handoffUuid(handoffId),
    databaseTimeParameter(required(row).expire_time),
  ]);
}

/** The stored form of a handoff's id. */
export function handoffUuid(handoffId: string): HandoffUuid {
  return required(parseId("hnd", handoffId));
}

/** The stored form of a claim's id. */
export function claimUuid(claimId: string): ClaimUuid {
  return required(parseId("clm", claimId));
}
