/** The tables of Mailbox leases. */
import { Migration } from "@mikro-orm/migrations";

/** How much is stored, and the last sequence given out, are on the lease's row, which whoever changes them locks. */
export class Mailbox extends Migration {
  override up(): void {
    this.addSql(`
      create table mailbox (
        owner_id uuid not null,
        lease_id uuid not null,
        max_message_bytes integer not null,
        max_messages integer not null,
        max_deliveries integer not null,
        drop_token_hash bytea not null,
        drop_token_generation integer not null default 1,
        drop_token_key_version integer not null,
        old_token_hash bytea,
        old_token_expire_time timestamptz,
        has_webhook boolean not null,
        webhook_disable_time timestamptz,
        primary key (owner_id, lease_id)
      )`);
    this.addSql(`comment on column mailbox.drop_token_key_version is
      'The version of the server key from which every drop token and the webhook secret are derived.'`);

    this.addSql(`
      create table message (
        owner_id uuid not null,
        lease_id uuid not null,
        sequence bigint not null,
        message_id uuid not null,
        state smallint not null,
        group_hash bytea,
        body_bytes integer not null,
        drop_time timestamptz not null,
        visible_time timestamptz,
        delivery_count integer not null default 0,
        hold_number integer not null default 0,
        is_held boolean not null default false,
        dead_time timestamptz,
        dead_reason smallint,
        kept_version bigint,
        sealed bytea not null,
        primary key (owner_id, lease_id, sequence)
      )`);
    this.addSql(`alter table message alter column sealed set storage external`);
    this.addSql(`comment on column message.state is
      '1: ready, 2: waiting for visible_time (delayed, or held if is_held), 3: blocked by an earlier message of its group, 4: dead, 5: acknowledged and kept for claims that began before.'`);
    this.addSql(`comment on column message.hold_number is
      'Rises with each delivery and never falls: with the sequence it names one delivery.'`);
    this.addSql(`comment on column message.kept_version is
      'The content_version of the acknowledgement: claims made before it still deliver the message.'`);
    this.addSql(`create index message_ready on message (lease_id, sequence) where state = 1`);
    this.addSql(`create index message_waiting on message (lease_id, visible_time) where state = 2`);
    this.addSql(`create index message_of_group on message (lease_id, group_hash, sequence)
      where group_hash is not null and state in (1, 2, 3)`);
    this.addSql(`
      create function has_live_messages(lease uuid, hash bytea) returns boolean language sql volatile
      return exists (
        select from message where lease_id = lease and group_hash = hash and state in (1, 2, 3)
      )`);
    this.addSql(`comment on function has_live_messages(uuid, bytea) is
      'Whether a message of a group is before a new one. Volatile: seen as it is after a wait for the lease.'`);
    this.addSql(`
      create function promote_group(owner uuid, lease uuid, hash bytea) returns bigint language sql volatile
      begin atomic
        update message m
        set state = case when m.visible_time > clock_timestamp() then 2 else 1 end,
          visible_time = case when m.visible_time > clock_timestamp() then m.visible_time end
        where m.owner_id = owner and m.lease_id = lease and m.state = 3 and m.sequence = (
          select sequence from message where lease_id = lease and group_hash = hash and state in (1, 2, 3)
          order by sequence
          limit 1
        )
        returning m.sequence;
      end`);
    this.addSql(`comment on function promote_group(uuid, uuid, bytea) is
      'Makes the first message of a group its head, when it has none. Volatile: it sees what was dropped during a wait for the lease, and what the statement that calls it has changed.'`);
    this.addSql(`
      create function seat_redriven(owner uuid, lease uuid, hash bytea) returns bigint language sql volatile
      begin atomic
        update message m
        set state = 3, is_held = false
        where m.owner_id = owner and m.lease_id = lease and m.state in (1, 2) and m.sequence = (
          select sequence from message where lease_id = lease and group_hash = hash and state in (1, 2)
          limit 1
        ) and m.sequence > (
          select min(sequence) from message where lease_id = lease and group_hash = hash and state in (1, 2, 3)
        ) and not (m.is_held and m.visible_time > clock_timestamp());
        select promote_group(owner, lease, hash)
        where not exists (
          select from message where lease_id = lease and group_hash = hash and state in (1, 2)
        );
      end`);
    this.addSql(`comment on function seat_redriven(uuid, uuid, bytea) is
      'Gives a group the head that it has once messages were brought back as blocked: its first, unless a later one is held.'`);
    this.addSql(`create index message_dead on message (lease_id, sequence) where state = 4`);
    this.addSql(`create index message_kept on message (lease_id, sequence) where state = 5`);

    this.addSql(`
      create table webhook_delivery (
        owner_id uuid not null,
        lease_id uuid not null,
        sequence bigint not null,
        message_id uuid not null,
        body_bytes integer not null,
        state smallint not null,
        attempt_count integer not null default 0,
        last_attempt_time timestamptz,
        last_status integer,
        last_error text,
        next_attempt_time timestamptz,
        create_time timestamptz not null,
        primary key (owner_id, lease_id, sequence)
      )`);
    this.addSql(`comment on column webhook_delivery.state is '1: pending, 2: delivered, 3: failed.'`);
    this.addSql(`comment on column webhook_delivery.body_bytes is
      'The size of the message that is announced, which may be acknowledged before it is announced again.'`);
    this.addSql(`comment on column webhook_delivery.next_attempt_time is
      'While it is being sent: when it is sent again if no outcome is recorded.'`);
    this.addSql(`create index webhook_delivery_due on webhook_delivery (next_attempt_time) where state = 1`);
    this.addSql(
      `create index webhook_delivery_pending on webhook_delivery (lease_id, next_attempt_time) where state = 1`,
    );
    this.addSql(`create index webhook_delivery_finished on webhook_delivery (create_time) where state <> 1`);
  }

  override down(): void {
    throw new Error("migrations only go forward: restore a backup instead");
  }
}
