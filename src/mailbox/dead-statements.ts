/** The statements about dead messages: buried when their last hold is over, and brought back. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { DeadMessage_Reason } from "#gen/leasehold/v1/mailbox_pb.js";
import { accessAfterWait, callerAccess } from "../account/caller-statements.ts";
import { writeStatement } from "../database/statement.ts";
import type { MessageUuid } from "../ids/ids.ts";
import { leaseColumns, type MaybeLeaseRow } from "../lease/lease-row.ts";
import type { CallerColumns } from "../lease/lease-statements.ts";
import { messageStates } from "./mailbox-statements.ts";

/**
 * Makes messages dead that were delivered as often as they may be, and whose last hold is over: they died then. The next
 * of each group becomes its head. $1: the owner, $2: the lease, $3: how many.
 *
 * Locks the lease, then the messages, and skips those that are being acknowledged. Leans on message_waiting.
 */
export const buryExhausted = writeStatement<{ buried_messages: number; has_promoted: boolean }>(
  "bury-exhausted",
  `with locked_lease as materialized (
    select end_time from lease where owner_id = $1::uuid and lease_id = $2::uuid for no key update
  ),
  clock as materialized (
    select clock_timestamp() as now, count(*) filter (where end_time is null) as live_leases from locked_lease
  ),
  exhausted as materialized (
    select m.*
    from clock c
    cross join (select max_deliveries from mailbox where owner_id = $1::uuid and lease_id = $2::uuid) as b
    cross join lateral (
      select sequence from message
      where lease_id = $2::uuid and state = ${messageStates.waiting} and visible_time <= c.now and is_held
        and delivery_count >= b.max_deliveries and c.live_leases > 0
      order by visible_time
      limit $3::int
      for no key update skip locked
    ) as m
  ),
  buried as (
    update message m
    set state = ${messageStates.dead}, is_held = false, visible_time = null, dead_time = m.visible_time,
      dead_reason = ${DeadMessage_Reason.HOLD_ENDED}
    where m.owner_id = $1::uuid and m.lease_id = $2::uuid and m.sequence = any(array(select sequence from exhausted))
    returning m.group_hash
  ),
  promoted as materialized (
    select count(promote_group($1::uuid, $2::uuid, g.group_hash)) as groups
    from (select distinct group_hash from buried where group_hash is not null) as g
  )
  select (select count(*) from buried)::int as buried_messages,
    (select groups > 0 from promoted) as has_promoted`,
);

/**
 * Brings dead messages back with no delivery counted, oldest first. $1 to $3: the caller, $4: the lease, $5: the messages,
 * or null for every dead one, $6: how many at most.
 *
 * Locks the lease, then the messages. Those of a group come back as blocked, and then the group is given its head by what
 * is there after the wait. Leans on message_dead: $5 are searched among all dead ones of the mailbox.
 */
export const redriveMessages = writeStatement<CallerColumns & MaybeLeaseRow & { message_id: MessageUuid | null }>(
  "redrive-messages",
  `with ${callerAccess({ owner: 1, key: 2, scope: 3 })},
  locked_lease as materialized (
    select l.* from lease l
    where l.owner_id = $1::uuid and l.lease_id = $4::uuid and (select access from caller) = 'OK'
    for no key update
  ),
  clock as materialized (
    select clock_timestamp() as now, ${accessAfterWait({ owner: 1, key: 2, scope: 3 })}
    from (select count(*) from locked_lease) as waited
  ),
  dead as materialized (
    select m.*
    from locked_lease l
    cross join clock c
    cross join lateral (
      select sequence from message
      where lease_id = $4::uuid and state = ${messageStates.dead} and ($5::uuid[] is null or message_id = any($5::uuid[]))
        and c.access = 'OK' and l.variant = ${Lease_Variant.MAILBOX} and l.end_time is null and l.due_time > c.now
      order by sequence
      limit $6::int
      for no key update
    ) as m
  ),
  redriven as (
    update message m
    set state = case when m.group_hash is null then ${messageStates.ready} else ${messageStates.blocked} end,
      delivery_count = 0, dead_time = null, dead_reason = null
    where m.owner_id = $1::uuid and m.lease_id = $4::uuid and m.sequence = any(array(select sequence from dead))
    returning m.sequence, m.message_id, m.group_hash
  ),
  seated as materialized (
    select count(seat_redriven($1::uuid, $4::uuid, g.group_hash)) as groups
    from (select distinct group_hash from redriven where group_hash is not null) as g
  )
  select clock.access, clock.now, ${leaseColumns("l")}, redriven.message_id
  from clock
  cross join seated
  left join locked_lease l on true
  left join redriven on true
  order by redriven.sequence`,
);
