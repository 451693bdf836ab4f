/** The statements that read a mailbox as it was at one version, that remove what no claim reads any more, and that destroy it. */
import type { DatabaseTime } from "../database/row-types.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import type { AccountUuid, LeaseUuid, MessageUuid } from "../ids/ids.ts";
import { messageStates } from "./mailbox-statements.ts";

/** The messages that a claim at version $3 delivers: there then, whatever became of them since. */
const atVersion = `
  m.owner_id = $1::uuid and m.lease_id = $2::uuid and m.sequence <= $3::bigint
    and (m.kept_version is null or m.kept_version > $3::bigint)`;

/** How much a mailbox held at a version. Walks its messages by the primary key; no lock. */
export const measureMessages = readStatement<{ total_bytes: bigint; item_count: bigint }>(
  "measure-messages",
  `select coalesce(sum(m.body_bytes), 0)::bigint as total_bytes, count(*) as item_count
  from message m
  where ${atVersion}`,
);

/**
 * The first message of a version whose end lies behind offset $4, and where it starts. Walks the messages before it by
 * the primary key, without their bodies; no lock.
 */
export const findMessageAtOffset = readStatement<{ sequence: bigint; start_offset: bigint }>(
  "find-message-at-offset",
  `select sequence, end_offset - body_bytes as start_offset
  from (
    select m.sequence, m.body_bytes, sum(m.body_bytes) over (order by m.sequence)::bigint as end_offset
    from message m
    where ${atVersion}
  ) as placed
  where end_offset > $4::bigint
  order by sequence
  limit 1`,
);

/** A message as a claim delivers it. */
export interface SnapshotRow {
  readonly sequence: bigint;
  readonly message_id: MessageUuid;
  readonly body_bytes: number;
  readonly drop_time: DatabaseTime;
  readonly sealed: Buffer;
}

/**
 * A page of a version's messages from sequence $4 on: at most $5, and of $6 bytes, but at least one. None once the lease
 * has ended. Leans on the primary key; no lock.
 */
export const readMessages = readStatement<SnapshotRow>(
  "read-messages",
  `select p.sequence, p.message_id, p.body_bytes, p.drop_time, p.sealed
  from (
    select o.*, sum(o.body_bytes) over (order by o.sequence) - o.body_bytes as before_bytes
    from lease l
    cross join lateral (
      select m.sequence, m.message_id, m.body_bytes, m.drop_time, m.sealed
      from message m
      where ${atVersion} and m.sequence >= $4::bigint
      order by m.sequence
      limit $5::int
    ) as o
    where l.owner_id = $1::uuid and l.lease_id = $2::uuid and l.end_time is null
      and l.due_time > statement_timestamp()
  ) as p
  where p.before_bytes + p.body_bytes <= $6::bigint or p.before_bytes = 0
  order by p.sequence`,
);

/**
 * Mailboxes that keep acknowledged messages for claims of which none is open any more: at most $1. Steps from mailbox to
 * mailbox by message_kept, however many messages each keeps.
 */
export const findIdleKept = readStatement<{ owner_id: AccountUuid; lease_id: LeaseUuid }>(
  "find-idle-kept",
  `with recursive keeper as (
    (
      select owner_id, lease_id from message where state = ${messageStates.kept} order by lease_id limit 1
    )
    union all
    select next.owner_id, next.lease_id
    from keeper k
    cross join lateral (
      select owner_id, lease_id from message
      where state = ${messageStates.kept} and lease_id > k.lease_id
      order by lease_id
      limit 1
    ) as next
  )
  select owner_id, lease_id from keeper where not has_open_claims(owner_id, lease_id) limit $1::int`,
);

/**
 * Removes acknowledged messages of a mailbox that no claim reads: at most $3. A claim that is made after this statement
 * began is of a later version than what it sees kept, and reads none of it, so nothing needs to be locked. Leans on
 * message_kept.
 */
export const deleteKept = writeStatement<{ sequence: bigint }>(
  "delete-kept",
  `delete from message
  where owner_id = $1::uuid and lease_id = $2::uuid and state = ${messageStates.kept}
    and sequence <= (
      select max(sequence) from (
        select sequence from message
        where lease_id = $2::uuid and state = ${messageStates.kept}
        order by sequence
        limit $3::int
      ) as oldest
    )
    and (select not has_open_claims($1::uuid, $2::uuid))
  returning sequence`,
);

/**
 * The next $2 mailboxes after $1, or from the first, that have delayed or held messages, and whether one of those is
 * exhausted: its last delivery's hold is over. Of each the thousand that are longest over are looked at. Steps from
 * mailbox to mailbox by message_waiting; no lock.
 */
export const findExhausted = readStatement<{ owner_id: AccountUuid; lease_id: LeaseUuid; has_exhausted: boolean }>(
  "find-exhausted",
  `with recursive waiter as (
    (
      select owner_id, lease_id, 1 as step from message
      where state = ${messageStates.waiting} and lease_id > coalesce($1::uuid, '00000000-0000-0000-0000-000000000000')
      order by lease_id
      limit 1
    )
    union all
    select next.owner_id, next.lease_id, w.step + 1
    from waiter w
    cross join lateral (
      select owner_id, lease_id from message
      where state = ${messageStates.waiting} and lease_id > w.lease_id
      order by lease_id
      limit 1
    ) as next
    where w.step < $2::int
  )
  select w.owner_id, w.lease_id,
    exists (
      select from (
        select is_held, delivery_count from message
        where lease_id = w.lease_id and state = ${messageStates.waiting} and visible_time <= statement_timestamp()
        order by visible_time
        limit 1000
      ) as over_now
      where over_now.is_held and over_now.delivery_count >= (
        select max_deliveries from mailbox where owner_id = w.owner_id and lease_id = w.lease_id
      )
    ) as has_exhausted
  from waiter w
  order by w.lease_id`,
);

/**
 * Deletes rows of one ended mailbox: at most $3 of each kind. One mailbox at a time and by its key alone, so that no
 * plan reads other mailboxes' rows, and a row that a receiver or the webhook's sender is just changing is deleted after.
 * Leans on the primary keys.
 */
export const deleteMailbox = writeStatement<{ messages: bigint; notifications: bigint }>(
  "delete-mailbox",
  `with deleted_message as (
    delete from message
    where owner_id = $1::uuid and lease_id = $2::uuid and sequence <= (
      select max(sequence) from (
        select sequence from message
        where owner_id = $1::uuid and lease_id = $2::uuid
        order by sequence
        limit $3::int
      ) as oldest
    )
    returning sequence
  ),
  deleted_notification as (
    delete from webhook_delivery
    where owner_id = $1::uuid and lease_id = $2::uuid and sequence <= (
      select max(sequence) from (
        select sequence from webhook_delivery
        where owner_id = $1::uuid and lease_id = $2::uuid
        order by sequence
        limit $3::int
      ) as oldest
    )
    returning sequence
  ),
  deleted_mailbox as (
    delete from mailbox where owner_id = $1::uuid and lease_id = $2::uuid
  )
  select (select count(*) from deleted_message) as messages, (select count(*) from deleted_notification) as notifications`,
);
