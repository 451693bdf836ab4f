/** What the statements about claims have in common: what they lock, how long a claim is held, and how the last one ends a lease. */
import { Claim_State } from "#gen/leasehold/v1/handoff_pb.js";
import { Lease_EndReason } from "#gen/leasehold/v1/lease_pb.js";
import type { DatabaseTime } from "../database/row-types.ts";
import { isUnended, type LeaseRow, leaseColumns } from "../lease/lease-row.ts";
import { type ClaimColumns, claimColumns, type HandoffColumns, handoffColumns } from "./handoff-row.ts";

/**
 * Locks the lease, then the handoff, so that all that a decision rests on is fresh after a wait. $1: the owner, $2: the
 * lease, $3: the handoff.
 */
export const lockHandoff = `
  locked_lease as materialized (
    select l.* from lease l where l.owner_id = $1::uuid and l.lease_id = $2::uuid for no key update
  ),
  locked_handoff as materialized (
    select h.*
    from (select count(*) as leases from locked_lease) as waited
    join handoff h on waited.leases > 0
    where h.owner_id = $1::uuid and h.handoff_id = $3::uuid
    for no key update of h
  )`;

/** Locks claim $4 of the handoff after the two, and reads the clock when all three are locked. */
export const lockClaim = `
  locked_claim as materialized (
    select c.*
    from (select count(*) as handoffs from locked_handoff) as waited
    join claim c on waited.handoffs > 0
    where c.owner_id = $1::uuid and c.claim_id = $4::uuid and c.handoff_id = $3::uuid
    for no key update of c
  ),
  clock as materialized (
    select clock_timestamp() as now from (select count(*) from locked_claim) as waited
  )`;

/** A locked claim with what it hangs on. */
export const fromLocked = `
  from locked_claim claim
  cross join locked_lease l
  cross join locked_handoff h
  cross join clock c`;

/** Whether a claim's stream may go on. */
export const claimIsOpen = `
  l.end_time is null and l.due_time > c.now and h.revoke_time is null
  and claim.state in (${Claim_State.HELD}, ${Claim_State.DELIVERED}) and claim.hold_expire_time > c.now`;

/** The end of a hold of `seconds` from now, cut to the claim's cap, the token's end and the lease's. */
export function holdEnd(seconds: string, cap: string): string {
  return `least(c.now + make_interval(secs => ${seconds}), ${cap}, h.expire_time, l.expire_time)`;
}

/** What a statement about one claim returns. The claim is as it is after, or as it was locked if nothing was `done`. */
export type ClaimStatementRow = { now: DatabaseTime; done: boolean } & LeaseRow & HandoffColumns & ClaimColumns;

/** Selects a ClaimStatementRow, where `shown` is the CTE that updated the claim. */
export const shownClaim = `
  select c.now, shown.claim_id is not null as done, ${leaseColumns("l")}, ${handoffColumns("h")},
    ${claimColumns("latest")}
  from locked_lease l
  cross join locked_handoff h
  cross join clock c
  left join shown on true
  left join lateral (
    select * from shown union all select * from locked_claim where not exists (select from shown)
  ) as latest on true`;

/**
 * Once every slot of a delete-on-claim handoff is delivered, used or burnt, the lease is due when the last hold ends, so
 * that it ends then even with no sweeper about. `counts`: a CTE of the handoff as it is after; $1, $2: its lease, by which
 * it is found however few leases there were when the plan was made.
 *
 * last_hold_expire_time also covers claims that were confirmed meanwhile, so it may be later than the hold that ends the
 * lease once it is settled. It is never earlier. Looking at the other claims instead would need all of them locked.
 */
export function dueWithLastClaim(counts: string): string {
  return dueWithLastClaims(counts, "l.lease_id = $2::uuid");
}

/** As dueWithLastClaim, for handoffs of several leases: `where` finds them by key. Of one lease's the first hold counts. */
export function dueWithLastClaims(counts: string, where = "l.lease_id = any($2::uuid[])"): string {
  return `
  due as (
    update lease l
    set due_time = least(l.due_time, n.last_hold_expire_time),
      due_reason = case when n.last_hold_expire_time < l.due_time then ${Lease_EndReason.LAST_CLAIM} else l.due_reason end
    from (
      select lease_id, min(last_hold_expire_time) as last_hold_expire_time
      from ${counts}
      where delete_on_claim and delivered_claims > 0 and used_claims + burnt_claims + delivered_claims >= max_claims
      group by lease_id
    ) as n
    where l.owner_id = $1::uuid and ${where} and l.lease_id = n.lease_id and ${isUnended("l")}
  )`;
}

/**
 * Ends a lease by its last claim, with key and sealed details gone in the same commit. `counts` as above, with
 * `ended_at`: when the latest of the claims that this statement ends was over. Holds are not always settled in the order
 * they end, so the lease ended with the latest of all. One that was due by then ended for that reason.
 */
export function endWithLastClaim(counts: string): string {
  return `
  last_claim as materialized (
    select n.owner_id, n.lease_id, greatest(n.ended_at, max(c.end_time)) as ended_at
    from ${counts} n
    left join claim c on c.owner_id = n.owner_id and c.handoff_id = n.handoff_id
      and c.state in (${Claim_State.USED}, ${Claim_State.BURNT})
    where n.delete_on_claim and n.used_claims >= 1 and n.used_claims + n.burnt_claims >= n.max_claims
    group by n.owner_id, n.lease_id, n.ended_at
  ),
  ended as (
    update lease l
    set end_time = least(n.ended_at, l.due_time),
      end_reason = case when n.ended_at < l.due_time then ${Lease_EndReason.LAST_CLAIM} else l.due_reason end,
      wrapped_key = null, sealed_details = null, labels = null
    from last_claim n
    where l.owner_id = $1::uuid and l.lease_id = $2::uuid and ${isUnended("l")}
    returning l.owner_id, l.lease_id, l.variant
  )`;
}
