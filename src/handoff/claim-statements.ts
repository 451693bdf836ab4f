/** The statements that resume, advance, deliver and confirm one claim, and the one that finds claims to settle. */
import { Claim_State } from "#gen/leasehold/v1/handoff_pb.js";
import { readStatement, writeStatement } from "../database/statement.ts";
import type { AccountUuid, HandoffUuid, LeaseUuid } from "../ids/ids.ts";
import { servedSlackBytes } from "./claim-allowance.ts";
import {
  type ClaimStatementRow,
  claimIsOpen,
  dueWithLastClaim,
  endWithLastClaim,
  fromLocked,
  holdEnd,
  lockClaim,
  lockHandoff,
  shownClaim,
} from "./claim-statement-parts.ts";

/** servedLimitOf, of a locked claim. */
const servedLimit = `2 * claim.content_bytes + ${servedSlackBytes}`;

/**
 * Takes a claim over for a new stream, which cuts the earlier one. $5: the offset it starts at, $6: how much is counted
 * as sent ahead, at most, $7: the hold's length. A delivered claim's hold is not extended: the lease's end may rest on it.
 */
export const resumeClaim = writeStatement<ClaimStatementRow>(
  "resume-claim",
  `with ${lockHandoff}, ${lockClaim},
  shown as (
    update claim
    set stream_generation = a.stream_generation + 1, served_bytes = a.served_bytes + a.ahead_bytes,
      hold_expire_time = case when a.state = ${Claim_State.HELD} then greatest(a.hold_expire_time, a.extended) else a.hold_expire_time end
    from (
      select claim.*, least($6::bigint, claim.content_bytes - $5::bigint) as ahead_bytes,
        ${holdEnd("$7::bigint", "claim.hold_cap_time")} as extended
      ${fromLocked}
      where ${claimIsOpen} and $5::bigint <= claim.delivered_bytes
        and claim.served_bytes + least($6::bigint, claim.content_bytes - $5::bigint) <= ${servedLimit}
    ) as a
    where claim.owner_id = a.owner_id and claim.claim_id = a.claim_id
    returning claim.*
  )
  ${shownClaim}`,
);

/**
 * Records how far a stream has come, and lets it send more. $5: the stream's generation, $6: how far the content has
 * been handed to the transport, $7: how much more is counted as sent (less than zero: what was counted and not sent),
 * $8: the hold's length, $9: whether the stream has moved, which alone extends the hold.
 */
export const advanceClaim = writeStatement<ClaimStatementRow>(
  "advance-claim",
  `with ${lockHandoff}, ${lockClaim},
  shown as (
    update claim
    set delivered_bytes = greatest(a.delivered_bytes, $6::bigint), served_bytes = a.served_bytes + $7::bigint,
      hold_expire_time = case
        when $9::boolean and a.state = ${Claim_State.HELD} then greatest(a.hold_expire_time, a.extended)
        else a.hold_expire_time end
    from (
      select claim.*, ${holdEnd("$8::bigint", "claim.hold_cap_time")} as extended
      ${fromLocked}
      where ${claimIsOpen} and claim.stream_generation = $5::int
        and claim.served_bytes + $7::bigint <= ${servedLimit}
    ) as a
    where claim.owner_id = a.owner_id and claim.claim_id = a.claim_id
    returning claim.*
  )
  ${shownClaim}`,
);

/**
 * Spends a claim's slot, just before its last piece is handed to the transport. $5: the stream's generation, $6: the
 * hold's length. A claim that was delivered before stays as it is.
 *
 * open_claims is set to what it is, for the check beside delivered_claims: Postgres checks a new row before it finds out
 * that the old one was changed during the wait for a lock, so each column of a check must come from the locked row.
 */
export const deliverClaim = writeStatement<ClaimStatementRow>(
  "deliver-claim",
  `with ${lockHandoff}, ${lockClaim},
  shown as (
    update claim
    set state = ${Claim_State.DELIVERED}, deliver_time = coalesce(a.deliver_time, a.now), delivered_bytes = a.content_bytes,
      hold_expire_time = case when a.state = ${Claim_State.HELD} then a.extended else a.hold_expire_time end
    from (
      select claim.*, c.now, ${holdEnd("$6::bigint", "claim.hold_cap_time")} as extended
      ${fromLocked}
      where ${claimIsOpen} and claim.stream_generation = $5::int
    ) as a
    where claim.owner_id = a.owner_id and claim.claim_id = a.claim_id
    returning claim.*
  ),
  counted as (
    update handoff h
    set open_claims = locked.open_claims, delivered_claims = locked.delivered_claims + 1,
      last_hold_expire_time = greatest(locked.last_hold_expire_time, shown.hold_expire_time)
    from locked_handoff locked, shown, locked_claim
    where h.owner_id = locked.owner_id and h.handoff_id = locked.handoff_id and locked_claim.state = ${Claim_State.HELD}
    returning h.*
  ),
  ${dueWithLastClaim("counted")}
  ${shownClaim}`,
);

/**
 * Makes a delivered claim used, and ends the lease if it was the last of a delete-on-claim handoff. A claim whose hold
 * is over was used then. Also after the lease's end. `done` is false if it is not delivered, or was used before.
 */
export const confirmClaim = writeStatement<ClaimStatementRow & { ended: boolean }>(
  "confirm-claim",
  `with ${lockHandoff}, ${lockClaim},
  shown as (
    update claim
    set state = ${Claim_State.USED}, end_time = least(c.now, locked.hold_expire_time)
    from locked_claim locked
    cross join clock c
    where claim.owner_id = locked.owner_id and claim.claim_id = locked.claim_id
      and locked.state = ${Claim_State.DELIVERED}
    returning claim.*
  ),
  counted as (
    update handoff h
    set open_claims = locked.open_claims - 1, delivered_claims = locked.delivered_claims - 1,
      used_claims = locked.used_claims + 1
    from locked_handoff locked, shown
    where h.owner_id = locked.owner_id and h.handoff_id = locked.handoff_id
    returning h.*, shown.end_time as ended_at
  ),
  ${endWithLastClaim("counted")}
  select shown_claim.*, exists (select from ended) as ended from (${shownClaim}) as shown_claim`,
);

/** Handoffs with claims whose hold is over, without locking them. Leans on claim_due. $1: how many claims, at most. */
export const findOverdueHandoffs = readStatement<{
  owner_id: AccountUuid;
  lease_id: LeaseUuid;
  handoff_id: HandoffUuid;
  claims: number;
}>(
  "find-overdue-handoffs",
  `select owner_id, lease_id, handoff_id, count(*)::int as claims
  from (
    select owner_id, lease_id, handoff_id from claim
    where state in (${Claim_State.HELD}, ${Claim_State.DELIVERED}) and hold_expire_time <= statement_timestamp()
    order by hold_expire_time
    limit $1::int
  ) as overdue
  group by owner_id, lease_id, handoff_id`,
);
