/** The statement that takes messages for all who ask for those of one mailbox at once. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { accessOf } from "../account/caller-statements.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { writeStatement } from "../database/statement.ts";
import { leaseColumns, type MaybeLeaseRow } from "../lease/lease-row.ts";
import { messageStates } from "./mailbox-statements.ts";

/** What a delivery takes of an answer beside what is sealed, in bytes, at most. */
const deliveryOverheadBytes = 256;

/** How many messages whose delay or hold is over are put in order at once. More than these wait for the next statement. */
const dueAtOnce = 2_000;

/** The one row of what was taken. */
export type TakenRow = MaybeLeaseRow & {
  /** Of the keys in the question, in order, with commas between them. */
  readonly accesses: string;
  readonly now: DatabaseTime;
  /** Null if nothing was taken. See `delivery-packing.ts`. */
  readonly deliveries: Buffer | null;
  /** How many were looked at to be taken. As many as were asked for: there may be more. */
  readonly locked_messages: number;
  /** How many were taken. Fewer than those looked at: the rest did not fit, or changed meanwhile. */
  readonly taken_messages: number;
  /** Whether there are messages to be buried. */
  readonly has_exhausted: boolean;
  /** How long until the next delay or hold is over, in milliseconds, of those that were there before. */
  readonly next_visible_ms: bigint | null;
};

/**
 * Takes messages of a mailbox in order of sequence, for callers in order of arrival. $1: the owner, $2: the lease, $3:
 * the keys of the callers, each once, $4: the place in $3 of each caller's key, $5: how many it wants, $6: for how long
 * it holds them, in microseconds, $7: the scope, $8: how many are taken at most, $9: how many bytes.
 *
 * Only the head of a group is ever ready or waiting, so that messages can be skipped that others have locked. Locks what
 * it takes and waits for nobody: its snapshot is good for all that it judges. Messages that were delivered as often as
 * they may be are left for `buryExhausted`.
 *
 * Leans on message_ready and message_waiting for order, and on the primary key for each message, one by one, so that no
 * more are locked than are wanted. They are updated by place: a version that came after the snapshot is not found there,
 * and left to the next statement.
 */
export const receiveMessages = writeStatement<TakenRow>(
  "receive-messages",
  `with found as materialized (
    select ${leaseColumns("l")}, b.max_deliveries, l.variant = ${Lease_Variant.MAILBOX} and l.end_time is null
      and l.due_time > statement_timestamp() as is_open
    from lease l
    left join lateral (
      select max_deliveries from mailbox where owner_id = $1::uuid and lease_id = $2::uuid offset 0
    ) as b on true
    where l.owner_id = $1::uuid and l.lease_id = $2::uuid
  ),
  allowed as materialized (
    select q.place, case when k.key_id is null then 'CREDENTIAL_INVALID' else ${accessOf("k", "a", "$7::smallint")} end as access
    from unnest($3::uuid[]) with ordinality as q(key_id, place)
    left join lateral (
      select * from api_key where owner_id = $1::uuid and key_id = q.key_id offset 0
    ) as k on true
    left join lateral (select * from account where owner_id = k.owner_id offset 0) as a on true
  ),
  asked as materialized (
    select q.ordinal, q.hold_micros, sum(q.wanted) over (order by q.ordinal) as last_place
    from unnest($4::bigint[], $5::int[], $6::bigint[]) with ordinality as q(key_place, wanted, hold_micros, ordinal)
    join allowed on allowed.place = q.key_place
    join found on found.is_open
    where allowed.access = 'OK'
  ),
  due as materialized (
    select m.sequence, m.delivery_count >= f.max_deliveries as is_exhausted
    from found f
    cross join lateral (
      select sequence, delivery_count from message
      where lease_id = $2::uuid and state = ${messageStates.waiting} and visible_time <= statement_timestamp() and f.is_open
      order by visible_time
      limit ${dueAtOnce}
    ) as m
  ),
  locked as materialized (
    select m.*
    from (
      select sequence from (
        (select sequence from message where lease_id = $2::uuid and state = ${messageStates.ready} order by sequence)
        union all
        (select sequence from due where not is_exhausted order by sequence)
      ) as receivable
      order by sequence
    ) as receivable
    cross join lateral (
      select ctid as place, sequence, octet_length(sealed) + ${deliveryOverheadBytes} as bytes from message
      where owner_id = $1::uuid and lease_id = $2::uuid and sequence = receivable.sequence and (
        state = ${messageStates.ready} or (state = ${messageStates.waiting} and visible_time <= statement_timestamp())
      )
      for no key update skip locked
    ) as m
    limit (select least(coalesce(max(last_place), 0), $8::bigint) from asked)
  ),
  dealt as materialized (
    select place, row_number() over in_order as ordinal, sum(bytes) over in_order as total_bytes
    from locked
    window in_order as (order by sequence rows unbounded preceding)
  ),
  chosen as materialized (
    select d.place, least(
      statement_timestamp() + interval '1 microsecond' * (
        (select array_agg(hold_micros order by ordinal) from asked)
      )[1 + width_bucket(d.ordinal - 1, (select array_agg(last_place order by ordinal) from asked))],
      (select due_time from found)
    ) as visible_time
    from dealt d
    where d.ordinal = 1 or d.total_bytes <= $9::bigint
  ),
  taken as (
    update message m
    set state = ${messageStates.waiting}, is_held = true, visible_time = c.visible_time,
      delivery_count = m.delivery_count + 1, hold_number = m.hold_number + 1
    from chosen c
    where m.ctid = c.place
    returning m.*
  )
  select (select string_agg(access, ',' order by place) from allowed) as accesses, statement_timestamp() as now,
    (select count(*) from locked)::int as locked_messages, packed.messages as taken_messages, packed.deliveries,
    exists (select from due where is_exhausted) as has_exhausted, next.visible_ms as next_visible_ms,
    ${leaseColumns("found")}
  from (
    select count(*)::int as messages, string_agg(
      int8send(sequence) || int4send(hold_number) || int4send(delivery_count) || uuid_send(message_id)
        || timestamptz_send(drop_time) || timestamptz_send(visible_time) || int4send(octet_length(sealed)) || sealed,
      '' order by sequence
    ) as deliveries
    from taken
  ) as packed
  left join found on true
  left join lateral (
    select ceil(extract(epoch from visible_time - statement_timestamp()) * 1000)::bigint as visible_ms
    from message
    where lease_id = $2::uuid and state = ${messageStates.waiting} and visible_time > statement_timestamp()
    order by visible_time
    limit 1
  ) as next on found.is_open`,
);
