/** The statement that applies the ends of holds. */
import { Claim_State, Handoff_IncompleteClaimPolicy } from "#gen/leasehold/v1/handoff_pb.js";
import { writeStatement } from "../database/statement.ts";
import type { DestroyableLease } from "../lease/lease-destroyer.ts";
import { dueWithLastClaim, endWithLastClaim, lockHandoff } from "./claim-statement-parts.ts";

/**
 * Applies the ends of a handoff's overdue holds, in the order of those ends: delivered claims become used, others give
 * their slot back while the handoff allows it, and are burnt after. A revoked token's undelivered claims are over at
 * once. Rows: the lease, if that ended it.
 *
 * A claim that the token's own end or revocation took gives its slot back whatever the policy: nobody can take the slot
 * any more, and a burnt one could end the lease, which must not end because its token did.
 *
 * Locks the lease, the handoff and its open claims by id. A claim that is not in this statement's snapshot was made
 * during the wait for the locks, and is not overdue.
 */
export const settleHandoff = writeStatement<DestroyableLease>(
  "settle-handoff",
  `with ${lockHandoff},
  locked_claim as materialized (
    select c.*
    from locked_handoff h
    join claim c on c.owner_id = h.owner_id and c.handoff_id = h.handoff_id
    where c.state in (${Claim_State.HELD}, ${Claim_State.DELIVERED})
    order by c.claim_id
    for no key update of c
  ),
  clock as materialized (
    select clock_timestamp() as now from (select count(*) from locked_claim) as waited
  ),
  overdue as materialized (
    select c.owner_id, c.claim_id, c.state = ${Claim_State.DELIVERED} as is_delivered,
      case when c.state = ${Claim_State.DELIVERED} then c.hold_expire_time else least(c.hold_expire_time, h.revoke_time) end as over_at,
      least(h.expire_time, h.revoke_time) as token_end
    from locked_claim c
    cross join locked_handoff h
    cross join clock
    where c.hold_expire_time <= clock.now or (c.state = ${Claim_State.HELD} and h.revoke_time is not null)
  ),
  judged as materialized (
    select o.*,
      case
        when o.is_delivered then ${Claim_State.USED}
        when o.over_at >= o.token_end then ${Claim_State.RETURNED}
        when h.incomplete_claim_policy <> ${Handoff_IncompleteClaimPolicy.BURN}
          and h.incomplete_claims + count(*) filter (where not o.is_delivered) over (order by o.over_at, o.claim_id)
            <= h.max_incomplete_claims
          then ${Claim_State.RETURNED}
        else ${Claim_State.BURNT}
      end as new_state
    from overdue o
    cross join locked_handoff h
  ),
  settled as (
    update claim c
    set state = j.new_state, end_time = j.over_at
    from judged j
    where c.owner_id = j.owner_id and c.claim_id = j.claim_id
  ),
  counted as (
    update handoff h
    set open_claims = locked.open_claims - n.claims,
      delivered_claims = locked.delivered_claims - n.used,
      used_claims = locked.used_claims + n.used,
      burnt_claims = locked.burnt_claims + n.burnt,
      incomplete_claims = locked.incomplete_claims + n.returned
    from locked_handoff locked, (
      select count(*)::int as claims, max(over_at) as ended_at,
        (count(*) filter (where new_state = ${Claim_State.USED}))::int as used,
        (count(*) filter (where new_state = ${Claim_State.BURNT}))::int as burnt,
        (count(*) filter (where new_state = ${Claim_State.RETURNED}))::int as returned
      from judged
    ) as n
    where h.owner_id = locked.owner_id and h.handoff_id = locked.handoff_id and n.claims > 0
    returning h.*, n.ended_at
  ),
  ${dueWithLastClaim("counted")},
  ${endWithLastClaim("counted")}
  select owner_id, lease_id, variant from ended`,
);
