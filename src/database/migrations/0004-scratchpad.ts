/** The tables of Scratchpad leases, and what changes for them in those that all leases share. */
import { Migration } from "@mikro-orm/migrations";

/** How much is stored, and the last version given out, are on the lease's row, which whoever changes them locks. */
export class Scratchpad extends Migration {
  override up(): void {
    this.addSql(`alter table lease add column overhead_bytes bigint not null default 0 check (overhead_bytes >= 0)`);
    this.addSql(`comment on column lease.overhead_bytes is
      'What the content takes of size_bytes beside content_bytes, where the variant counts that: keys, and a fixed amount for each entry.'`);

    this.addSql(`
      create table scratchpad (
        owner_id uuid not null,
        lease_id uuid not null,
        max_entry_bytes integer not null,
        forgotten_version bigint not null default 0,
        primary key (owner_id, lease_id)
      )`);
    this.addSql(`comment on column scratchpad.forgotten_version is
      'The last deletion that no row tells of any more: a watcher that has seen less cannot be told what was deleted.'`);

    this.addSql(`
      create table scratchpad_entry (
        owner_id uuid not null,
        lease_id uuid not null,
        key text collate "C" not null,
        state smallint not null,
        version bigint not null,
        base_version bigint not null,
        base_bytes integer not null,
        value_bytes integer not null,
        append_count integer not null default 0,
        body_id uuid not null,
        update_time timestamptz not null,
        expire_time timestamptz,
        sealed bytea not null,
        primary key (owner_id, lease_id, key)
      ) with (fillfactor = 80)`);
    this.addSql(`alter table scratchpad_entry alter column sealed set storage external`);
    this.addSql(`comment on column scratchpad_entry.state is '1: live, 2: deleted, 3: its time was over.'`);
    this.addSql(`comment on column scratchpad_entry.base_version is
      'The version of the value that is sealed here. Later ones are in scratchpad_append.'`);
    this.addSql(`comment on column scratchpad_entry.body_id is 'What the seal is bound to.'`);
    // Partial by what every row is: only a statement that says so can use it, and none that looks for a key reads a whole
    // lease through it because it was planned while the table was small.
    this.addSql(`create index scratchpad_entry_by_version on scratchpad_entry (lease_id, version) where version > 0`);
    this.addSql(`create index scratchpad_entry_gone on scratchpad_entry (lease_id, version) where state <> 1`);
    this.addSql(`create index scratchpad_entry_expiring on scratchpad_entry (lease_id, expire_time)
      where state = 1 and expire_time is not null`);
    this.addSql(`create index scratchpad_entry_due on scratchpad_entry (expire_time)
      where state = 1 and expire_time is not null and version > 0`);
    this.addSql(`create index scratchpad_entry_long on scratchpad_entry (lease_id) where append_count >= 1000`);

    this.addSql(`
      create table scratchpad_append (
        owner_id uuid not null,
        lease_id uuid not null,
        version bigint not null,
        key text collate "C" not null,
        offset_bytes integer not null,
        body_bytes integer not null,
        body_id uuid not null,
        gone_version bigint,
        sealed bytea not null,
        primary key (owner_id, lease_id, key, version)
      )`);
    this.addSql(`alter table scratchpad_append alter column sealed set storage external`);
    this.addSql(`comment on column scratchpad_append.gone_version is
      'The version that replaced or deleted its entry, of one that is kept for claims made before.'`);

    this.addSql(`
      create table scratchpad_kept (
        owner_id uuid not null,
        lease_id uuid not null,
        base_version bigint not null,
        gone_version bigint not null,
        key text collate "C" not null,
        base_bytes integer not null,
        body_id uuid not null,
        update_time timestamptz not null,
        sealed bytea not null,
        primary key (owner_id, lease_id, key, base_version)
      )`);
    this.addSql(`alter table scratchpad_kept alter column sealed set storage external`);
    this.addSql(`comment on table scratchpad_kept is
      'Values that were replaced or deleted, kept for claims that were made before.'`);
    this.addSql(
      `create index scratchpad_kept_by_lease on scratchpad_kept (lease_id, gone_version) where base_version > 0`,
    );

    for (const [name, end] of [
      ["oldest", "min"],
      ["newest", "max"],
    ]) {
      this.addSql(`
        create function ${name}_claimed_version(owner uuid, lease uuid) returns bigint language sql volatile
        return (
          select ${end}(c.content_version)
          from handoff h
          cross join lateral (
            select content_version from claim where handoff_id = h.handoff_id and state in (1, 2) offset 0
          ) as c
          where h.owner_id = owner and h.lease_id = lease and h.open_claims > 0
        )`);
      this.addSql(`comment on function ${name}_claimed_version(uuid, uuid) is
        'The ${name} version of a lease that an open claim may still read. Null: there is none. Volatile: seen as it is after a wait for the lease.'`);
    }

    this.addSql(`alter table idempotency add column answer bytea`);
    this.addSql(`comment on column idempotency.answer is
      'What the answer needs that no row has: sealed under the key of the lease, unless it is only a place or a size.'`);
    this.addSql(`drop index idempotency_windowed`);
    this.addSql(`create index idempotency_windowed on idempotency (create_time) where scope in (7, 8) or scope >= 10`);
  }

  override down(): void {
    throw new Error("migrations only go forward: restore a backup instead");
  }
}
