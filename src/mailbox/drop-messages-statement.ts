/** The statement that keeps dropped messages: a batch for one mailbox, in one round trip and one commit. */
import { maxSealsPerKey } from "../content/sealing.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { writeStatement } from "../database/statement.ts";
import { idempotencyScope } from "../idempotency/idempotency.ts";
import type { MessageUuid } from "../ids/ids.ts";
import type { LeaseRow } from "../lease/lease-row.ts";
import { messageOverheadBytes } from "./mailbox-details.ts";
import { messageStates } from "./mailbox-statements.ts";

/**
 * What became of one drop. SEEN: its request_id has dropped one before. TWIN: another of the batch has its request_id,
 * or one that was committed while this statement waited: look again. AGAIN: it does not fit with those before it.
 */
export type DropOutcome =
  | "DROPPED"
  | "SEEN"
  | "TWIN"
  | "AGAIN"
  | "LEASE_ENDED"
  | "DROP_TOKEN_ROTATED"
  | "SIZE_BYTES"
  | "MAX_MESSAGES"
  | "SEALS_PER_LEASE";

/** One row for each drop, in order. What is not said of an outcome is null. */
export interface DroppedRow {
  readonly outcome: DropOutcome;
  /** DROPPED or SEEN: the message's place. */
  readonly sequence: bigint | null;
  /** SEEN: the message, and the digests it was dropped with. */
  readonly message_id: MessageUuid | null;
  readonly digests: Buffer | null;
  /** A refusal: what the lease's row says. */
  readonly end_time: DatabaseTime | null;
  readonly end_reason: LeaseRow["due_reason"] | null;
  readonly limit_value: bigint | null;
  readonly value: bigint | null;
}

/**
 * Keeps messages for one mailbox, in order of arrival. $1: the owner, $2: the lease, $3: the drop token's hash, or null if
 * the server itself delivers for the owner, $4: the
 * messages, $5: how they are sealed, $6: the bytes of their bodies, $7: their request_ids, $8: digests, $9: hashes of
 * their groups, $10: their delays in microseconds. Of $7 to $10 each is null if no message has one.
 *
 * Locks the lease, then the mailbox: capacity, sequence and seals are on the one, tokens and webhook on the other. The
 * idempotency key and each group are looked up by full key, the groups by a volatile function, since messages are not
 * locked and may have come or gone during the wait.
 *
 * What is large, the seals, is taken from $5 at its place in the batch: through the CTEs it would be copied at each, and
 * a join by the place is planned as 128 x 128 comparisons. All else goes from CTE to CTE without a join.
 *
 * Running sums are exact up to the first drop that does not fit: it and those behind it come again. One that would not
 * fit alone is refused. Twins take a sequence that stays unused.
 */
export const dropMessages = writeStatement<DroppedRow>(
  "drop-messages",
  `with input as materialized (
    select *
    from unnest($4::uuid[], $6::int[], $7::uuid[], $8::bytea[], $9::bytea[], $10::bigint[]) with ordinality
      as item(message_id, body_bytes, request_id, digests, group_hash, delay_micros, ordinal)
  ),
  locked_lease as materialized (
    select size_bytes, content_bytes, content_items, content_version, seal_count, due_time, due_reason, end_time, end_reason
    from lease
    where owner_id = $1::uuid and lease_id = $2::uuid
    for no key update
  ),
  locked_mailbox as materialized (
    select m.*
    from (select count(*) as leases from locked_lease) as waited
    join mailbox m on waited.leases > 0
    where m.owner_id = $1::uuid and m.lease_id = $2::uuid
    for no key update of m
  ),
  clock as materialized (
    select clock_timestamp() as now from (select count(*) from locked_mailbox) as waited
  ),
  terms as materialized (
    select l.*, c.now, m.max_messages, l.content_bytes + ${messageOverheadBytes} * l.content_items as used_bytes,
      m.has_webhook and m.webhook_disable_time is null as announces,
      case
        when l.end_time is not null or l.due_time <= c.now then 'LEASE_ENDED'
        when $3::bytea is null or m.drop_token_hash = $3::bytea or (m.old_token_hash = $3::bytea and m.old_token_expire_time > c.now) then null
        else 'DROP_TOKEN_ROTATED'
      end as refusal
    from locked_lease l
    cross join clock c
    left join locked_mailbox m on true
  ),
  judged as materialized (
    select i.ordinal, i.message_id, i.body_bytes, i.request_id, i.digests, i.group_hash, i.delay_micros,
      seen.thing_id as seen_id, seen.thing_number as seen_sequence, seen.digests as seen_digests,
      case
        when seen.thing_id is not null then 'SEEN'
        when t.refusal is not null then t.refusal
        when t.used_bytes + i.body_bytes + ${messageOverheadBytes} > t.size_bytes then 'SIZE_BYTES'
        when t.content_items >= t.max_messages then 'MAX_MESSAGES'
        when t.seal_count + (select count(*) from input) > ${maxSealsPerKey} then 'SEALS_PER_LEASE'
      end as refusal
    from input i
    cross join terms t
    left join lateral (
      select thing_id, thing_number, digests from idempotency
      where owner_id = $1::uuid and scope = ${idempotencyScope.dropMessage} and scope_id = $2::uuid
        and request_id = i.request_id
      offset 0
    ) as seen on true
  ),
  fitted as materialized (
    select j.*, count(*) filter (where j.refusal is null) over in_order as place,
      j.refusal is null and (
        t.used_bytes + sum(j.body_bytes + ${messageOverheadBytes}) filter (where j.refusal is null) over in_order > t.size_bytes
        or t.content_items + count(*) filter (where j.refusal is null) over in_order > t.max_messages
      ) as is_misfit
    from judged j
    cross join terms t
    window in_order as (order by j.ordinal)
  ),
  verdict as materialized (
    select f.*, t.now, t.content_version + f.place as sequence,
      case
        when f.refusal is not null then f.refusal
        when bool_or(f.is_misfit) over (order by f.ordinal) then 'AGAIN'
        else 'DROPPED'
      end as outcome
    from fitted f
    cross join terms t
  ),
  remembered as (
    insert into idempotency (owner_id, scope, scope_id, request_id, digests, thing_id, thing_number, lease_id, create_time)
    select $1::uuid, ${idempotencyScope.dropMessage}, $2::uuid, request_id, digests, message_id, sequence, $2::uuid, now
    from verdict
    where outcome = 'DROPPED' and request_id is not null
    order by request_id
    on conflict do nothing
    returning thing_id
  ),
  settled as materialized (
    select v.*,
      v.outcome = 'DROPPED' and (v.request_id is null or v.message_id in (select thing_id from remembered)) as is_won
    from verdict v
  ),
  won as materialized (
    select s.*,
      s.group_hash is null or (
        row_number() over (partition by s.group_hash order by s.ordinal) = 1
        and not has_live_messages($2::uuid, s.group_hash)
      ) as is_head
    from settled s
    where s.is_won
  ),
  added as (
    insert into message
      (owner_id, lease_id, sequence, message_id, state, group_hash, body_bytes, drop_time, visible_time, sealed)
    select $1::uuid, $2::uuid, w.sequence, w.message_id,
      case
        when not w.is_head then ${messageStates.blocked}
        when w.delay_micros > 0 then ${messageStates.waiting}
        else ${messageStates.ready}
      end,
      w.group_hash, w.body_bytes, w.now,
      case when w.delay_micros > 0 then least(w.now + w.delay_micros * interval '1 microsecond', t.due_time) end,
      ($5::bytea[])[w.ordinal]
    from won w
    cross join terms t
    order by w.sequence
  ),
  counted as (
    update lease l
    set content_bytes = t.content_bytes + total.body_bytes,
      content_items = t.content_items + total.messages,
      content_version = total.sequence,
      seal_count = t.seal_count + total.messages
    from terms t, (
      select count(*) as messages, sum(body_bytes)::bigint as body_bytes, max(sequence) as sequence from won
    ) as total
    where l.owner_id = $1::uuid and l.lease_id = $2::uuid and total.messages > 0
  ),
  announced as (
    insert into webhook_delivery
      (owner_id, lease_id, sequence, message_id, body_bytes, state, next_attempt_time, create_time)
    select $1::uuid, $2::uuid, w.sequence, w.message_id, w.body_bytes, 1, w.now, w.now
    from won w
    cross join terms t
    where t.announces
  )
  select
    case when s.outcome = 'DROPPED' and not s.is_won then 'TWIN' else s.outcome end as outcome,
    case when s.is_won then s.sequence else s.seen_sequence end as sequence,
    s.seen_id as message_id, s.seen_digests as digests,
    case s.outcome when 'LEASE_ENDED' then coalesce(t.end_time, t.due_time) end as end_time,
    case s.outcome when 'LEASE_ENDED' then coalesce(t.end_reason, t.due_reason) end as end_reason,
    case s.outcome when 'SIZE_BYTES' then t.size_bytes when 'MAX_MESSAGES' then t.max_messages end as limit_value,
    case s.outcome when 'SIZE_BYTES' then t.used_bytes when 'MAX_MESSAGES' then t.content_items when 'SEALS_PER_LEASE' then t.seal_count end as value
  from settled s
  cross join terms t
  order by s.ordinal`,
);
