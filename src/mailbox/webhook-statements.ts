/** The statements about webhook notifications: taken to be sent, what became of them, and shown to the mailbox's owner. */
import { callerAccess } from "../account/caller-statements.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import type { LeaseUuid, MessageUuid } from "../ids/ids.ts";
import { type LeaseRow, leaseColumns, type MaybeLeaseRow } from "../lease/lease-row.ts";
import type { CallerColumns } from "../lease/lease-statements.ts";
import { takenSeconds } from "../webhooks/attempt-times.ts";
import { shownSeconds } from "./webhook-schedule.ts";

/** Numbers in `webhook_delivery.state`, which are those of the proto's enum. */
const states = { pending: 1, delivered: 2, failed: 3 } as const;

/** A row of the delivery log as its owner sees it. Null where the page has none. */
export type DeliveryRow = {
  readonly message_id: MessageUuid;
  readonly sequence: bigint;
  readonly state: number;
  readonly attempt_count: number;
  readonly last_attempt_time: DatabaseTime | null;
  readonly last_status: number | null;
  readonly last_error: string | null;
  readonly next_attempt_time: DatabaseTime | null;
  readonly drop_time: DatabaseTime;
};

type MaybeDeliveryRow = DeliveryRow | { readonly [Name in keyof DeliveryRow]: null };

export function isDeliveryRow<Row extends MaybeDeliveryRow>(row: Row): row is Row & DeliveryRow {
  return row.sequence !== null;
}

/**
 * A page of a mailbox's notifications, newest first, before sequence $5 (null: from the newest). $1 to $3: the caller,
 * $4: the lease, $6: how many. Leans on the primary keys; no lock.
 */
export const listWebhookDeliveries = readStatement<
  CallerColumns & MaybeLeaseRow & { readonly webhook_disable_time: DatabaseTime | null } & MaybeDeliveryRow
>(
  "list-webhook-deliveries",
  `with ${callerAccess({ owner: 1, key: 2, scope: 3 })}
  select caller.access, statement_timestamp() as now, ${leaseColumns("l")}, b.webhook_disable_time,
    d.message_id, d.sequence, d.state, d.attempt_count, d.last_attempt_time, d.last_status, d.last_error,
    d.next_attempt_time, d.create_time as drop_time
  from caller
  left join lease l on caller.access = 'OK' and l.owner_id = $1::uuid and l.lease_id = $4::uuid
  left join mailbox b on b.owner_id = l.owner_id and b.lease_id = l.lease_id
  left join lateral (
    select * from webhook_delivery
    where owner_id = l.owner_id and lease_id = l.lease_id and sequence < coalesce($5::bigint, 9223372036854775807)
    order by sequence desc
    limit $6::int
  ) as d on true
  order by d.sequence desc`,
);

/** A notification that is due, with its lease. */
export type DueRow = {
  readonly message_id: MessageUuid;
  readonly sequence: bigint;
  readonly body_bytes: number;
  readonly drop_time: DatabaseTime;
  /** The number of the attempt that this statement began. Null if it began none: the webhook is switched off. */
  readonly attempt_count: number | null;
} & LeaseRow;

type MaybeDueRow = DueRow | { readonly [Name in keyof DueRow]: null };

export function isDueRow<Row extends MaybeDueRow>(row: Row): row is Row & DueRow {
  return row.sequence !== null;
}

/** How far a walk over the mailboxes went, beside each row. */
interface WalkColumns {
  readonly now: DatabaseTime;
  /** Null if the walk came to the last mailbox. */
  readonly next_after: LeaseUuid | null;
}

/**
 * Takes notifications that are due, by walking over the mailboxes that have any to be sent, in a circle: a mailbox with
 * many takes its share and no more, and no other's wait behind them. $1: how many, $2: the mailbox to start behind, $3:
 * how many of one mailbox, $4: how many of those mailboxes for which it is not $3, by lease, as JSON, $5: how many
 * mailboxes to visit at most.
 *
 * Locks what it takes, and skips what is locked, so that of several senders each takes others. What it takes is due
 * again when it has had time to be sent. Those of an ended lease stay, and go with it. Of a switched-off webhook one
 * comes back, not taken. Leans on webhook_delivery_due to know if there is anything, and on webhook_delivery_pending.
 */
export const takeWebhookDeliveries = writeStatement<WalkColumns & MaybeDueRow>(
  "take-webhook-deliveries",
  `with recursive walk(owner_id, lease_id, visit) as (
    select * from (
      select owner_id, lease_id, 1 from webhook_delivery
      where state = ${states.pending} and lease_id > $2::uuid and statement_timestamp() >= (
        select next_attempt_time from webhook_delivery where state = ${states.pending} order by next_attempt_time limit 1
      )
      order by lease_id
      limit 1
    ) as first
    union all
    select next.owner_id, next.lease_id, walk.visit + 1
    from walk
    cross join lateral (
      select owner_id, lease_id from webhook_delivery
      where state = ${states.pending} and lease_id > walk.lease_id
      order by lease_id
      limit 1
    ) as next
    where walk.visit < $5::int
  ),
  due as materialized (
    select d.*, b.webhook_disable_time is not null as is_off
    from walk
    cross join lateral (
      select lease_id from lease
      where owner_id = walk.owner_id and lease_id = walk.lease_id and end_time is null and due_time > statement_timestamp()
      offset 0
    ) as l
    cross join lateral (
      select webhook_disable_time from mailbox where owner_id = walk.owner_id and lease_id = walk.lease_id offset 0
    ) as b
    cross join lateral (
      select ctid as place, owner_id, lease_id, sequence, message_id, body_bytes, create_time, attempt_count
      from webhook_delivery
      where state = ${states.pending} and lease_id = walk.lease_id and next_attempt_time <= statement_timestamp()
      order by next_attempt_time
      limit least(
        coalesce(($4::jsonb ->> walk.lease_id::text)::int, $3::int), case when b.webhook_disable_time is not null then 1 end
      )
      for no key update skip locked
    ) as d
    limit $1::int
  ),
  taken as (
    update webhook_delivery d
    set attempt_count = due.attempt_count + 1, last_attempt_time = statement_timestamp(),
      next_attempt_time = statement_timestamp() + interval '${takenSeconds} seconds'
    from due
    where d.ctid = due.place and not due.is_off
    returning d.lease_id, d.sequence, d.attempt_count
  ),
  shown as (
    select due.message_id, due.sequence, due.body_bytes, due.create_time as drop_time, due.owner_id, due.lease_id,
      taken.attempt_count
    from due
    left join taken on taken.lease_id = due.lease_id and taken.sequence = due.sequence
    where due.is_off or taken.attempt_count is not null
  ),
  way as (
    select
      case
        when (select count(*) from due) >= $1::int then (select lease_id from due order by lease_id desc limit 1)
        when (select count(*) from walk) >= $5::int then (select lease_id from walk order by visit desc limit 1)
      end as next_after
  )
  select statement_timestamp() as now, way.next_after, s.message_id, s.sequence, s.body_bytes, s.drop_time,
    s.attempt_count, ${leaseColumns("l")}
  from way
  left join shown s on true
  left join lateral (
    select * from lease where owner_id = s.owner_id and lease_id = s.lease_id offset 0
  ) as l on true`,
);

/**
 * Records the outcome of attempt $4 of a notification ($1 to $3). $5: whether it was delivered, $6: the status of the
 * answer or null, $7: why it failed, or null, $8: when to try again, in seconds from now, or null for never. Never past
 * the lease's end. An attempt that took so long that another has begun since is not recorded, unless it delivered.
 * Locks the notification, which is judged as it is after the wait.
 */
export const recordWebhookAttempt = writeStatement<{ state: number }>(
  "record-webhook-attempt",
  `with locked as materialized (
    select sequence from webhook_delivery
    where owner_id = $1::uuid and lease_id = $2::uuid and sequence = $3::bigint
      and ((state = ${states.pending} and attempt_count = $4::int) or (state <> ${states.delivered} and $5::boolean))
    for no key update
  ),
  chosen as materialized (
    select clock_timestamp() + make_interval(secs => $8::double precision) as retry_time
    from (select count(*) from locked) as waited
  ),
  judged as materialized (
    select locked.sequence, chosen.retry_time,
      case
        when $5::boolean then ${states.delivered}
        when chosen.retry_time < l.due_time then ${states.pending}
        else ${states.failed}
      end as state
    from locked
    cross join chosen
    cross join lateral (
      select due_time from lease where owner_id = $1::uuid and lease_id = $2::uuid offset 0
    ) as l
  )
  update webhook_delivery d
  set state = j.state, next_attempt_time = case when j.state = ${states.pending} then j.retry_time end,
    last_status = $6::int, last_error = $7::text
  from judged j
  where d.owner_id = $1::uuid and d.lease_id = $2::uuid and d.sequence = $3::bigint
  returning d.state`,
);

/** Switches a mailbox's webhook off, once. Locks the mailbox. */
export const switchWebhookOff = writeStatement<{ lease_id: LeaseUuid }>(
  "switch-webhook-off",
  `update mailbox set webhook_disable_time = clock_timestamp()
  where owner_id = $1::uuid and lease_id = $2::uuid and webhook_disable_time is null
  returning lease_id`,
);

/**
 * Gives up $4 of a mailbox's notifications that are to be sent, for the reason $3. Skips those that are locked: what is
 * left is found when it is due. Leans on webhook_delivery_pending.
 */
export const giveUpWebhookDeliveries = writeStatement<{ sequence: bigint }>(
  "give-up-webhook-deliveries",
  `with pending as materialized (
    select ctid as place from webhook_delivery
    where state = ${states.pending} and owner_id = $1::uuid and lease_id = $2::uuid
    order by next_attempt_time
    limit $4::int
    for no key update skip locked
  )
  update webhook_delivery d set state = ${states.failed}, next_attempt_time = null, last_error = $3::text
  from pending
  where d.ctid = pending.place
  returning d.sequence`,
);

/** Forgets $1 notifications that are not to be sent any more and have been shown for long enough. Leans on webhook_delivery_finished. */
export const forgetWebhookDeliveries = writeStatement<{ sequence: bigint }>(
  "forget-webhook-deliveries",
  `with old as materialized (
    select ctid as place from webhook_delivery
    where state <> ${states.pending} and create_time <= statement_timestamp() - interval '${shownSeconds} seconds'
    order by create_time
    limit $1::int
    for update skip locked
  )
  delete from webhook_delivery d using old where d.ctid = old.place
  returning d.sequence`,
);
