/** The statements that issue handoffs, show them and stop them. */
import { Claim_State } from "#gen/leasehold/v1/handoff_pb.js";
import { Lease_ReadAccess } from "#gen/leasehold/v1/lease_pb.js";
import { accessAfterWait, callerAccess, tokenKinds } from "../account/caller-statements.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import { idempotencyScope } from "../idempotency/idempotency.ts";
import { type LeaseRow, leaseColumns, type MaybeLeaseRow } from "../lease/lease-row.ts";
import type { CallerColumns } from "../lease/lease-statements.ts";
import { type ClaimColumns, claimColumns, type HandoffColumns, handoffColumns } from "./handoff-row.ts";

const parameters = { owner: 1, key: 2, scope: 3 };
const caller = callerAccess(parameters);
const stillAllowed = accessAfterWait(parameters);

/** How many handoffs a lease can have, ended ones included. */
export const maxHandoffsPerLease = 1_000;

/**
 * Issues a handoff. $4: the lease, $5: the handoff, $6: its token's hash, $7: the version of the server key the token
 * is derived with, $8: max_claims, $9: the ttl in seconds or null, $10: delete_on_claim or null, $11: the policy,
 * $12: max_incomplete_claims, $13: request_id or null, $14: digests, $15: the version of the content that claims deliver,
 * $16: its size; both null for what there is when a claim is made.
 *
 * Locks the lease, so that none is issued for one that ends meanwhile. No handoff comes back if the lease refuses, or if
 * the request_id issued one before.
 */
export const issueHandoff = writeStatement<
  CallerColumns & MaybeLeaseRow & HandoffColumns & { handoff_count: number | null }
>(
  "issue-handoff",
  `with ${caller},
  locked as materialized (
    select l.* from lease l
    where l.owner_id = $1::uuid and l.lease_id = $4::uuid and (select access from caller) = 'OK'
    for no key update
  ),
  clock as materialized (
    select clock_timestamp() as now, ${stillAllowed} from (select count(*) from locked) as waited
  ),
  allowed as materialized (
    select l.owner_id, l.lease_id, l.expire_time, l.delete_on_access, l.handoff_count, c.now
    from locked l
    cross join clock c
    where c.access = 'OK' and l.end_time is null and l.due_time > c.now and l.active_time is not null
      and l.read_access = ${Lease_ReadAccess.OWNER_AND_CLAIM_HOLDERS} and l.handoff_count < ${maxHandoffsPerLease}
  ),
  remembered as (
    insert into idempotency (owner_id, scope, scope_id, request_id, digests, thing_id, lease_id, create_time)
    select owner_id, ${idempotencyScope.issueHandoff}, owner_id, $13::uuid, $14::bytea, $5::uuid, lease_id, now
    from allowed
    where $13::uuid is not null
    on conflict do nothing
    returning thing_id
  ),
  won as materialized (
    select * from allowed where $13::uuid is null or exists (select from remembered)
  ),
  counted as (
    update lease l set handoff_count = w.handoff_count + 1 from won w
    where l.owner_id = w.owner_id and l.lease_id = w.lease_id
  ),
  named as (
    insert into token (token_hash, kind, owner_id, thing_id, lease_id)
    select $6::bytea, ${tokenKinds.claim}, owner_id, $5::uuid, lease_id from won
  ),
  issued as (
    insert into handoff
      (owner_id, handoff_id, lease_id, token_key_version, max_claims, max_incomplete_claims, incomplete_claim_policy,
       delete_on_claim, create_time, expire_time, content_version, content_bytes)
    select owner_id, $5::uuid, lease_id, $7::int, $8::int, $12::int, $11::smallint,
      coalesce($10::boolean, delete_on_access), now,
      least(expire_time, now + make_interval(secs => $9::bigint)), $15::bigint, $16::bigint
    from won
    returning *
  )
  select clock.access, clock.now, ${leaseColumns("l")}, l.handoff_count, ${handoffColumns("issued")}
  from clock
  left join locked l on true
  left join issued on true`,
);

/** The handoff that a request_id issued before, and the digests of that request. */
export const findIssued = readStatement<CallerColumns & MaybeLeaseRow & HandoffColumns & { digests: Buffer | null }>(
  "find-issued",
  `with ${caller}
  select caller.access, statement_timestamp() as now, seen.digests, ${leaseColumns("l")}, ${handoffColumns("h")}
  from caller
  left join idempotency seen on caller.access = 'OK' and seen.owner_id = $1::uuid
    and seen.scope = ${idempotencyScope.issueHandoff} and seen.scope_id = $1::uuid and seen.request_id = $4::uuid
  left join lateral (select * from handoff where owner_id = $1::uuid and handoff_id = seen.thing_id offset 0) as h on true
  left join lateral (select * from lease where owner_id = $1::uuid and lease_id = h.lease_id offset 0) as l on true`,
);

/**
 * A handoff and its lease, for the holder of its token, and whether a claim's hold is over that nobody has settled. No
 * lock: looking never consumes. Leans on claim_by_handoff.
 */
export const findHandoff = readStatement<{ now: DatabaseTime; has_overdue: boolean } & LeaseRow & HandoffColumns>(
  "find-handoff",
  `select statement_timestamp() as now, ${leaseColumns("l")}, ${handoffColumns("h")},
    h.open_claims > 0 and exists (
      select from claim c
      where c.owner_id = h.owner_id and c.handoff_id = h.handoff_id
        and c.state in (${Claim_State.HELD}, ${Claim_State.DELIVERED})
        and (c.hold_expire_time <= statement_timestamp() or (c.state = ${Claim_State.HELD} and h.revoke_time is not null))
    ) as has_overdue
  from handoff h
  cross join lateral (select * from lease where owner_id = h.owner_id and lease_id = h.lease_id offset 0) as l
  where h.owner_id = $1::uuid and h.handoff_id = $2::uuid`,
);

/** A row of a page: a handoff with one of its claims, or with none if it has none. */
export type ListedRow = CallerColumns & MaybeLeaseRow & HandoffColumns & ClaimColumns;

/**
 * A page of a lease's handoffs with their claims, oldest first, after handoff $5 and its claim $6. $7: how many rows.
 * Leans on handoff_by_lease and claim_by_handoff; no lock.
 */
export const listHandoffs = readStatement<ListedRow>(
  "list-handoffs",
  `with ${caller}
  select caller.access, statement_timestamp() as now, ${leaseColumns("l")}, ${handoffColumns("h")}, ${claimColumns("c")}
  from caller
  left join lease l on caller.access = 'OK' and l.owner_id = $1::uuid and l.lease_id = $4::uuid
  left join lateral (
    select h.handoff_id, c.claim_id
    from handoff h
    left join lateral (
      select claim_id from claim where owner_id = h.owner_id and handoff_id = h.handoff_id order by claim_id offset 0
    ) as c on true
    where h.owner_id = l.owner_id and h.lease_id = l.lease_id
      and ($5::uuid is null or h.handoff_id > $5::uuid or (h.handoff_id = $5::uuid and c.claim_id > $6::uuid))
    order by h.handoff_id, c.claim_id
    limit $7::int
  ) as page on true
  left join lateral (
    select * from handoff where owner_id = l.owner_id and handoff_id = page.handoff_id offset 0
  ) as h on true
  left join lateral (select * from claim where owner_id = l.owner_id and claim_id = page.claim_id offset 0) as c on true
  order by h.handoff_id, c.claim_id`,
);

/** Stops a handoff of the caller's, once. Locks it, and compares nothing with a clock read before. */
export const revokeHandoff = writeStatement<CallerColumns & MaybeLeaseRow & HandoffColumns>(
  "revoke-handoff",
  `with ${caller},
  locked as materialized (
    select h.* from handoff h
    where h.owner_id = $1::uuid and h.handoff_id = $4::uuid and (select access from caller) = 'OK'
    for no key update
  ),
  clock as materialized (
    select clock_timestamp() as now, ${stillAllowed} from (select count(*) from locked) as waited
  ),
  revoked as (
    update handoff h set revoke_time = coalesce(locked.revoke_time, clock.now)
    from locked
    cross join clock
    where clock.access = 'OK' and h.owner_id = locked.owner_id and h.handoff_id = locked.handoff_id
    returning h.*
  )
  select clock.access, clock.now, ${leaseColumns("l")}, ${handoffColumns("h")}
  from clock
  left join revoked h on true
  left join lease l on l.owner_id = h.owner_id and l.lease_id = h.lease_id`,
);
