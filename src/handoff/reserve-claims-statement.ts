/** The statement that reserves claims, and the one that finds a reserved claim by its request_id. */
import { Claim_State } from "#gen/leasehold/v1/handoff_pb.js";
import type { DatabaseTime } from "../database/row-types.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import { idempotencyScope } from "../idempotency/idempotency.ts";
import type { ClaimUuid } from "../ids/ids.ts";
import { type LeaseRow, leaseColumns } from "../lease/lease-row.ts";
import { dueWithLastClaims, holdEnd } from "./claim-statement-parts.ts";
import { type ClaimColumns, claimColumns, type HandoffColumns, handoffColumns } from "./handoff-row.ts";

/** What reserving returns for one claim, with the handoff as it is after all of them. Nulls where there is no handoff. */
export type ReservedRow = { outcome: ReserveOutcome; now: DatabaseTime } & LeaseRow & HandoffColumns & ClaimColumns;

/** What became of one claim. SEEN: its request_id has made one, before or in this batch. */
export type ReserveOutcome = "RESERVED" | "SEEN" | "REFUSED";

/**
 * Reserves slots of one owner's handoffs, for claims in order of arrival: one row for each, in order. $2, $3, $4, $5: the
 * lease, the handoff, the claim and the request_id of each, $6: the hold's length, $7: its cap, $8: how much is counted
 * as sent ahead, at most, $9: up to which size a claim with a request_id is delivered in this commit, since it can be
 * found again whatever becomes of the answer, $10: whether what each delivers stays readable: of what may be pushed out
 * before it is read no slot is spent yet.
 *
 * A claim delivers the handoff's content, or the lease's as it is now: both are on the locked rows, so that what it keeps
 * to is what was there.
 *
 * Locks the leases, then the handoffs, each by id. Claims get slots while used, burnt and open ones are fewer than
 * max_claims; a table check holds the same line. Slots of claims whose hold is over are still taken: settle, and ask again.
 *
 * A request_id that another server committed during the wait for the lock is not in this statement's snapshot. The
 * insert into idempotency finds it, and its place in the order is lost: a claim behind it is REFUSED although the handoff
 * is still open after, and is to be asked again.
 *
 * Measured at 64 callers with a token each on 2 cores: 285 µs of wall time a claim, and 705 with a statement a handoff.
 */
export const reserveClaims = writeStatement<ReservedRow>(
  "reserve-claims",
  `with input as materialized (
    select item.*, item.request_id is not null
      and row_number() over (partition by item.handoff_id, item.request_id order by item.ordinal) > 1 as is_twin
    from unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $10::boolean[]) with ordinality
      as item(lease_id, handoff_id, claim_id, request_id, is_lasting, ordinal)
  ),
  locked_lease as materialized (
    select l.* from lease l
    where l.owner_id = $1::uuid and l.lease_id = any($2::uuid[])
    order by l.lease_id
    for no key update
  ),
  locked_handoff as materialized (
    select h.*
    from (select count(*) as leases from locked_lease) as waited
    join handoff h on waited.leases > 0
    where h.owner_id = $1::uuid and h.handoff_id = any($3::uuid[])
    order by h.handoff_id
    for no key update of h
  ),
  clock as materialized (
    select clock_timestamp() as now from (select count(*) from locked_handoff) as waited
  ),
  known as materialized (
    select i.*, i.is_twin or seen.request_id is not null as is_known,
      l.end_time is null and l.due_time > c.now and h.revoke_time is null and h.expire_time > c.now as is_open,
      h.max_claims - h.used_claims - h.burnt_claims - h.open_claims as slots,
      coalesce(h.content_bytes, l.content_bytes) as content_bytes,
      coalesce(h.content_version, l.content_version) as content_version
    from input i
    join locked_lease l on l.lease_id = i.lease_id
    join locked_handoff h on h.handoff_id = i.handoff_id and h.lease_id = i.lease_id
    cross join clock c
    left join lateral (
      select request_id from idempotency
      where owner_id = $1::uuid and scope = ${idempotencyScope.claimHandoff} and scope_id = i.handoff_id
        and request_id = i.request_id
      offset 0
    ) as seen on true
  ),
  judged as materialized (
    select k.*,
      k.is_open and not k.is_known
        and row_number() over (partition by k.handoff_id, k.is_known order by k.ordinal) <= k.slots as has_slot
    from known k
  ),
  remembered as (
    insert into idempotency (owner_id, scope, scope_id, request_id, digests, thing_id, lease_id, create_time)
    select $1::uuid, ${idempotencyScope.claimHandoff}, j.handoff_id, j.request_id, '', j.claim_id, j.lease_id, c.now
    from judged j
    cross join clock c
    where j.has_slot and j.request_id is not null
    order by j.handoff_id, j.request_id
    on conflict do nothing
    returning thing_id
  ),
  won as materialized (
    select j.*, j.request_id is not null and j.is_lasting and j.content_bytes <= $9::bigint as deliver
    from judged j
    where j.has_slot and (j.request_id is null or j.claim_id in (select thing_id from remembered))
  ),
  made as (
    insert into claim
      (owner_id, claim_id, handoff_id, lease_id, state, stream_generation, create_time, hold_expire_time, hold_cap_time,
       deliver_time, content_bytes, content_version, delivered_bytes, served_bytes)
    select $1::uuid, w.claim_id, w.handoff_id, w.lease_id,
      case when w.deliver then ${Claim_State.DELIVERED} else ${Claim_State.HELD} end, 1, c.now,
      ${holdEnd("$6::bigint", "c.now + make_interval(secs => $7::bigint)")},
      c.now + make_interval(secs => $7::bigint), case when w.deliver then c.now end, w.content_bytes, w.content_version,
      case when w.deliver then w.content_bytes else 0 end, least(w.content_bytes, $8::bigint)
    from won w
    join locked_lease l on l.lease_id = w.lease_id
    join locked_handoff h on h.handoff_id = w.handoff_id
    cross join clock c
    returning *
  ),
  counted as (
    update handoff h
    set open_claims = locked.open_claims + n.claims,
      delivered_claims = locked.delivered_claims + n.delivered,
      last_hold_expire_time = greatest(locked.last_hold_expire_time, n.last_hold_expire_time)
    from locked_handoff locked, (
      select handoff_id, count(*)::int as claims, count(deliver_time)::int as delivered,
        max(hold_expire_time) filter (where deliver_time is not null) as last_hold_expire_time
      from made
      group by handoff_id
    ) as n
    where h.owner_id = $1::uuid and h.handoff_id = any($3::uuid[])
      and h.handoff_id = locked.handoff_id and n.handoff_id = locked.handoff_id
    returning h.*
  ),
  ${dueWithLastClaims("counted")},
  latest_handoff as (
    select * from counted
    union all
    select * from locked_handoff l where not exists (select from counted c where c.handoff_id = l.handoff_id)
  )
  select
    case when made.claim_id is not null then 'RESERVED' when j.is_known or j.has_slot then 'SEEN' else 'REFUSED' end as outcome,
    c.now, ${leaseColumns("l")}, ${handoffColumns("h")}, ${claimColumns("made")}
  from input i
  cross join clock c
  left join judged j on j.ordinal = i.ordinal
  left join locked_lease l on l.lease_id = i.lease_id
  left join latest_handoff h on h.handoff_id = i.handoff_id
  left join made on made.claim_id = i.claim_id
  order by i.ordinal`,
);

/** The claim that a request_id made before. $1: the owner, $2: the handoff, $3: the request_id. */
export const findRequestedClaim = readStatement<{ claim_id: ClaimUuid }>(
  "find-requested-claim",
  `select thing_id as claim_id from idempotency
  where owner_id = $1::uuid and scope = ${idempotencyScope.claimHandoff} and scope_id = $2::uuid and request_id = $3::uuid`,
);
