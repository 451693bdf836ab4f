/** The statements that settle deliveries: acknowledged, given back, held for longer, or taken back unseen. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { DeadMessage_Reason } from "#gen/leasehold/v1/mailbox_pb.js";
import { accessAfterWait, callerAccess } from "../account/caller-statements.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { writeStatement } from "../database/statement.ts";
import { leaseColumns, type MaybeLeaseRow } from "../lease/lease-row.ts";
import type { CallerColumns } from "../lease/lease-statements.ts";
import { messageStates } from "./mailbox-statements.ts";

/** The one row of what became of a batch. Sequences are in braces with commas between them; null for none. */
export type SettledRow = CallerColumns &
  MaybeLeaseRow & {
    /** Of the deliveries that were settled as asked. */
    readonly done: string | null;
    /** Of those that died instead of being given back. */
    readonly dead: string | null;
    /** Of the messages that are there, and not held by this delivery any more. */
    readonly stale: string | null;
    /** Until when extended holds last. Null if none was. */
    readonly hold_expire_time: DatabaseTime | null;
    readonly has_promoted: boolean;
  };

const parameters = { owner: 1, key: 2, scope: 3 };

/**
 * Locks the lease, then the messages in order. $1 to $3: the caller, $4: the lease, $5: the sequences, ascending and each
 * once, $6: the number of each one's hold. A delivery is `held` as long as nobody has taken the message since, also when
 * its time has just run out.
 *
 * Messages are found by full key, and the hold of each by a search in the sorted $5: a join could be planned as a read of
 * the whole mailbox, or of each pair of a batch.
 */
const lockHeld = `
  ${callerAccess(parameters)},
  locked_lease as materialized (
    select l.* from lease l
    where l.owner_id = $1::uuid and l.lease_id = $4::uuid and (select access from caller) = 'OK'
    for no key update
  ),
  clock as materialized (
    select clock_timestamp() as now, ${accessAfterWait(parameters)} from (select count(*) from locked_lease) as waited
  ),
  open_lease as materialized (
    select l.content_bytes, l.content_items, l.content_version, l.due_time, c.now
    from locked_lease l
    cross join clock c
    where c.access = 'OK' and l.variant = ${Lease_Variant.MAILBOX} and l.end_time is null and l.due_time > c.now
  ),
  locked_message as materialized (
    select m.sequence, m.state, m.body_bytes, m.delivery_count,
      m.state = ${messageStates.waiting} and m.is_held
        and m.hold_number = ($6::int[])[width_bucket(m.sequence, $5::bigint[])] as held
    from (select count(*) as leases from open_lease) as waited
    join message m on waited.leases > 0
    where m.owner_id = $1::uuid and m.lease_id = $4::uuid and m.sequence = any($5::bigint[])
    order by m.sequence
    for no key update of m
  )`;

/** The messages $5 whose sequence is in an array, by full key. The array is a scalar, which a second look at a row reuses. */
function ofMailbox(sequences: string): string {
  return `m.owner_id = $1::uuid and m.lease_id = $4::uuid and m.sequence = any(array(${sequences}))`;
}

/**
 * Gives each group of `changed` the head that is its by now: its next one (promote_group), or an earlier one that was
 * brought back during the hold (seat_redriven). Counted, since a CTE is run only as far as it is asked for.
 */
function seatGroupsOf(changed: string, by: "promote_group" | "seat_redriven"): string {
  return `
  promoted as materialized (
    select count(${by}($1::uuid, $4::uuid, g.group_hash)) as groups
    from (select distinct group_hash from ${changed} where group_hash is not null) as g
  )`;
}

/** Selects a SettledRow from CTEs with a sequence each; `done` and `dead` also have that of messages that are no more. */
function settled(columns: { done: string; dead?: string; holdExpireTime?: string; hasPromoted?: string }): string {
  const { done, dead, holdExpireTime = "null::timestamptz", hasPromoted = "false" } = columns;
  return `
  select clock.access, clock.now, (select array_agg(sequence)::text from ${done}) as done,
    ${dead === undefined ? "null" : `(select array_agg(sequence)::text from ${dead})`} as dead,
    (
      select array_agg(sequence)::text from locked_message where not held and state <> ${messageStates.kept}
    ) as stale,
    ${holdExpireTime} as hold_expire_time, ${hasPromoted} as has_promoted, ${leaseColumns("l")}
  from clock
  left join locked_lease l on true`;
}

const hasPromoted = "(select groups > 0 from promoted)";

/**
 * Acknowledges deliveries: their messages are deleted, or kept for claims that began before, and their room is free. The
 * next of each group becomes its head.
 */
export const ackMessages = writeStatement<SettledRow>(
  "ack-messages",
  `with ${lockHeld},
  keeping as materialized (
    select has_open_claims($1::uuid, $4::uuid) as keeps, content_version + 1 as version from open_lease
  ),
  deleted as (
    delete from message m
    where ${ofMailbox("select sequence from locked_message where held and not (select keeps from keeping)")}
    returning m.sequence, m.body_bytes, m.group_hash
  ),
  kept as (
    update message m
    set state = ${messageStates.kept}, is_held = false, visible_time = null, kept_version = k.version
    from keeping k
    where ${ofMailbox("select sequence from locked_message where held and (select keeps from keeping)")}
    returning m.sequence, m.body_bytes, m.group_hash
  ),
  acked as materialized (
    select * from deleted union all select * from kept
  ),
  freed as (
    update lease l
    set content_bytes = o.content_bytes - total.bytes, content_items = o.content_items - total.messages,
      content_version = case when k.keeps then k.version else o.content_version end
    from open_lease o
    cross join keeping k
    cross join (select count(*) as messages, sum(body_bytes)::bigint as bytes from acked) as total
    where l.owner_id = $1::uuid and l.lease_id = $4::uuid and total.messages > 0
  ),
  ${seatGroupsOf("acked", "promote_group")}
  ${settled({ done: "acked", hasPromoted })}`,
);

/**
 * Gives deliveries back, to be received again after $7 microseconds. A message that was delivered as often as it may be
 * dies, and the next of its group becomes the head; so does an earlier one that was brought back during the hold.
 */
export const nackMessages = writeStatement<SettledRow>(
  "nack-messages",
  `with ${lockHeld},
  judged as materialized (
    select m.sequence, m.delivery_count >= b.max_deliveries as dies
    from locked_message m
    cross join (select max_deliveries from mailbox where owner_id = $1::uuid and lease_id = $4::uuid) as b
    where m.held
  ),
  died as (
    update message m
    set state = ${messageStates.dead}, is_held = false, visible_time = null, dead_time = o.now,
      dead_reason = ${DeadMessage_Reason.NACKED}
    from open_lease o
    where ${ofMailbox("select sequence from judged where dies")}
    returning m.sequence, m.group_hash
  ),
  nacked as (
    update message m
    set state = case when $7::bigint > 0 then ${messageStates.waiting} else ${messageStates.ready} end, is_held = false,
      visible_time = case when $7::bigint > 0 then least(o.now + $7::bigint * interval '1 microsecond', o.due_time) end
    from open_lease o
    where ${ofMailbox("select sequence from judged where not dies")}
    returning m.sequence, m.group_hash
  ),
  returned as materialized (
    select group_hash from died union all select group_hash from nacked
  ),
  ${seatGroupsOf("returned", "seat_redriven")}
  ${settled({ done: "nacked", dead: "died", hasPromoted })}`,
);

/** Holds deliveries for $7 microseconds from now, and never past the lease's end. */
export const extendMessages = writeStatement<SettledRow>(
  "extend-messages",
  `with ${lockHeld},
  extended as (
    update message m
    set visible_time = least(o.now + $7::bigint * interval '1 microsecond', o.due_time)
    from open_lease o
    where ${ofMailbox("select sequence from locked_message where held")}
    returning m.sequence, m.visible_time
  )
  ${settled({ done: "extended", holdExpireTime: "(select max(visible_time) from extended)" })}`,
);

/**
 * Takes back deliveries that nobody has seen, as if they had not been made, except that the number of the hold stays
 * used. $1: the owner, $2: the lease, $3: the sequences, ascending and each once, $4: the number of each one's hold. A
 * delivery whose hold is over by now may be another's already, and is left alone. Only what is waiting is held: saying so
 * would let the plan read all that is waiting.
 */
export const takeBackMessages = writeStatement<{ sequence: bigint }>(
  "take-back-messages",
  `update message m
  set state = ${messageStates.ready}, is_held = false, visible_time = null, delivery_count = m.delivery_count - 1
  where m.owner_id = $1::uuid and m.lease_id = $2::uuid and m.sequence = any($3::bigint[])
    and m.is_held and m.hold_number = ($4::int[])[width_bucket(m.sequence, $3::bigint[])]
  returning m.sequence`,
);
