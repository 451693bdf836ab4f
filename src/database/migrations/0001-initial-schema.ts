/** The first schema: accounts and money, leases, Storage, handoffs, idempotency, sweeping. */
import { Migration } from "@mikro-orm/migrations";

/**
 * Every tenant table has owner_id first in its key, so that it can be distributed by owner. Tokens are found through a
 * table keyed by hash. There are no foreign keys between tenant tables: an end destroys rows in batches whose order the
 * sweeper decides, and the ledger outlives what it names.
 */
export class InitialSchema extends Migration {
  override up(): void {
    this.addSql(`
      create table installation (
        singleton boolean primary key default true check (singleton),
        installation_id uuid not null,
        destroyed_through_seconds bigint not null default -1,
        create_time timestamptz not null default clock_timestamp()
      )`);
    this.addSql(`comment on column installation.destroyed_through_seconds is
      'The start, in Unix seconds, of the latest epoch whose key is destroyed, and those before it.'`);

    this.addSql(`
      create table pricing (
        pricing_version bigint primary key,
        rate_micros_per_gib_day bigint not null check (rate_micros_per_gib_day >= 0),
        min_charge_micros bigint not null check (min_charge_micros >= 0),
        min_duration_seconds bigint not null check (min_duration_seconds > 0),
        max_duration_seconds bigint not null check (max_duration_seconds >= min_duration_seconds),
        create_time timestamptz not null default clock_timestamp()
      )`);
    this.addSql(`
      create function pricing_version_in_force() returns bigint language sql volatile
      return (select max(pricing_version) from pricing)`);
    this.addSql(`comment on function pricing_version_in_force() is
      'Volatile, so that a statement which has waited for a lock sees what was committed meanwhile, and not its snapshot.'`);

    this.addSql(`
      create table account (
        owner_id uuid primary key,
        name text not null,
        balance_micros bigint not null default 0 check (balance_micros >= 0),
        create_time timestamptz not null,
        suspend_time timestamptz
      )`);

    this.addSql(`
      create table api_key (
        owner_id uuid not null,
        key_id uuid not null,
        name text not null,
        scopes smallint not null,
        create_time timestamptz not null,
        expire_time timestamptz,
        revoke_time timestamptz,
        spend_ceiling_micros bigint check (spend_ceiling_micros >= 0),
        spent_micros bigint not null default 0,
        maker_key_id uuid,
        token_key_version integer,
        primary key (owner_id, key_id)
      )`);
    this.addSql(`comment on column api_key.scopes is 'A set of bits: read 1, write 2, create 4, account 8.'`);
    this.addSql(`comment on column api_key.spent_micros is
      'What its leases cost, less refunds, and the ceilings of the keys it made: all that counts against its own ceiling.'`);
    this.addSql(
      `comment on column api_key.maker_key_id is 'The key that made it. Null: the first, which came with the account.'`,
    );
    this.addSql(`comment on column api_key.token_key_version is
      'The version of the server key from which the secret is derived. Null: it is random, and cannot be shown again.'`);

    this.addSql(`
      create function key_access(owner uuid, key uuid, scope smallint) returns text language sql volatile
      begin atomic
        select case
            when k.revoke_time is not null or k.expire_time <= clock_timestamp() then 'CREDENTIAL_INVALID'
            when k.scopes & scope = 0 then 'SCOPE_MISSING'
            when a.suspend_time is not null then 'ACCOUNT_SUSPENDED'
            else 'OK'
          end
        from api_key k
        join account a on a.owner_id = k.owner_id
        where k.owner_id = owner and k.key_id = key;
      end`);
    this.addSql(`comment on function key_access(uuid, uuid, smallint) is
      'What a key may do, seen after a wait: volatile, so that a key revoked meanwhile is found revoked.'`);

    this.addSql(`
      create table token (
        token_hash bytea primary key,
        kind smallint not null,
        owner_id uuid not null,
        thing_id uuid not null,
        lease_id uuid
      )`);
    this.addSql(`comment on column token.kind is '1: API key, 2: claim token, 3: drop token.'`);
    this.addSql(`create index token_by_lease on token (lease_id) where lease_id is not null`);

    this.addSql(`
      create table ledger_entry (
        owner_id uuid not null,
        entry_id uuid not null,
        transaction_id uuid not null,
        ledger_account smallint not null,
        kind smallint not null,
        amount_micros bigint not null,
        balance_after_micros bigint,
        lease_id uuid,
        create_time timestamptz not null,
        primary key (owner_id, entry_id),
        check ((ledger_account = 1) = (balance_after_micros is not null))
      )`);
    this.addSql(`comment on column ledger_entry.ledger_account is
      '1: the owner''s balance, 2: the operator''s revenue, 3: the operator''s credits.'`);
    this.addSql(
      `create index ledger_entry_of_balance on ledger_entry (owner_id, entry_id desc) where ledger_account = 1`,
    );

    this.addSql(`
      create table lease (
        owner_id uuid not null,
        lease_id uuid not null,
        key_id uuid not null,
        variant smallint not null,
        size_bytes bigint not null check (size_bytes > 0),
        duration_seconds bigint not null check (duration_seconds > 0),
        expiry_behavior smallint not null,
        read_access smallint not null,
        delete_on_access boolean not null,
        price_micros bigint not null,
        pricing_version bigint not null,
        labels jsonb,
        create_time timestamptz not null,
        active_time timestamptz,
        expire_time timestamptz not null,
        due_time timestamptz not null check (due_time <= expire_time),
        due_reason smallint not null,
        end_time timestamptz,
        end_reason smallint,
        destroy_time timestamptz,
        unrecoverable_time timestamptz,
        content_bytes bigint not null default 0 check (content_bytes between 0 and size_bytes),
        content_items bigint not null default 0 check (content_items >= 0),
        content_version bigint not null default 0,
        seal_count bigint not null default 0,
        handoff_count integer not null default 0,
        epoch_seconds bigint not null,
        wrapped_key bytea,
        sealed_details bytea,
        primary key (owner_id, lease_id)
      )`);
    this.addSql(`comment on column lease.due_time is
      'When the lease ends, whether or not anybody records it. Past it the lease is neither read nor written.'`);
    this.addSql(
      `comment on column lease.content_bytes is 'How much a claim made now delivers, of all items together.'`,
    );
    this.addSql(`comment on column lease.content_items is 'How many items that is, where the variant counts them.'`);
    this.addSql(`comment on column lease.content_version is
      'Rises with each change of a variant whose content changes: a claim keeps the one it was made at.'`);
    this.addSql(`comment on column lease.due_reason is 'The end_reason that due_time stands for.'`);
    this.addSql(`create index lease_live on lease (owner_id, lease_id) where end_time is null`);
    this.addSql(`create index lease_due on lease (due_time) where end_time is null`);
    this.addSql(
      `create index lease_undestroyed on lease (end_time) where destroy_time is null and end_time is not null`,
    );
    this.addSql(`create index lease_tombstone on lease (end_time) where destroy_time is not null`);
    this.addSql(`create index lease_epoch on lease (epoch_seconds) where unrecoverable_time is null`);

    this.addSql(`
      create table storage_content (
        owner_id uuid not null,
        lease_id uuid not null,
        upload_generation integer not null,
        sealed_tail bytea,
        primary key (owner_id, lease_id)
      )`);
    this.addSql(`alter table storage_content alter column sealed_tail set storage external`);
    this.addSql(`create index storage_content_by_lease on storage_content (lease_id)`);
    this.addSql(`
      create table storage_segment (
        owner_id uuid not null,
        lease_id uuid not null,
        first_chunk bigint not null,
        chunk_count bigint not null check (chunk_count > 0),
        upload_generation integer not null,
        primary key (owner_id, lease_id, first_chunk)
      )`);

    this.addSql(`
      create table handoff (
        owner_id uuid not null,
        handoff_id uuid not null,
        lease_id uuid not null,
        token_key_version integer not null,
        max_claims integer not null check (max_claims > 0),
        open_claims integer not null default 0 check (open_claims >= 0),
        delivered_claims integer not null default 0 check (delivered_claims between 0 and open_claims),
        used_claims integer not null default 0,
        burnt_claims integer not null default 0,
        incomplete_claims integer not null default 0,
        max_incomplete_claims integer not null,
        incomplete_claim_policy smallint not null,
        delete_on_claim boolean not null,
        create_time timestamptz not null,
        expire_time timestamptz not null,
        revoke_time timestamptz,
        last_hold_expire_time timestamptz,
        content_version bigint,
        content_bytes bigint,
        primary key (owner_id, handoff_id),
        check (open_claims + used_claims + burnt_claims <= max_claims)
      )`);
    this.addSql(
      `comment on column handoff.open_claims is 'Claims held or delivered; delivered_claims are some of them.'`,
    );
    this.addSql(`comment on column handoff.content_version is
      'The version that every claim delivers, and content_bytes its size. Null: the one there is when a claim is made.'`);
    this.addSql(`create index handoff_by_lease on handoff (lease_id, handoff_id)`);
    this.addSql(`
      create function has_open_claims(owner uuid, lease uuid) returns boolean language sql volatile
      return exists (select from handoff where owner_id = owner and lease_id = lease and open_claims > 0)`);
    this.addSql(`comment on function has_open_claims(uuid, uuid) is
      'Whether claims of a lease may still read its content. Volatile: seen as it is after a wait for the lease.'`);

    this.addSql(`
      create table claim (
        owner_id uuid not null,
        claim_id uuid not null,
        handoff_id uuid not null,
        lease_id uuid not null,
        state smallint not null,
        stream_generation integer not null,
        create_time timestamptz not null,
        hold_expire_time timestamptz not null,
        hold_cap_time timestamptz not null,
        deliver_time timestamptz,
        end_time timestamptz,
        content_bytes bigint not null,
        content_version bigint not null,
        delivered_bytes bigint not null default 0,
        served_bytes bigint not null default 0,
        primary key (owner_id, claim_id)
      )`);
    this.addSql(`create index claim_by_handoff on claim (handoff_id, claim_id)`);
    this.addSql(`create index claim_due on claim (hold_expire_time) where state in (1, 2)`);

    this.addSql(`
      create table idempotency (
        owner_id uuid not null,
        scope smallint not null,
        scope_id uuid not null,
        request_id uuid not null,
        digests bytea not null,
        thing_id uuid not null,
        thing_number bigint,
        lease_id uuid,
        create_time timestamptz not null,
        primary key (owner_id, scope, scope_id, request_id)
      )`);
    this.addSql(
      `comment on column idempotency.thing_number is 'What the answer needs beside thing_id, which may be gone.'`,
    );
    this.addSql(`create index idempotency_by_lease on idempotency (owner_id, lease_id) where lease_id is not null`);
    this.addSql(`create index idempotency_windowed on idempotency (create_time) where scope in (7, 8)`);
    this.addSql(`create index idempotency_unbound on idempotency (create_time) where lease_id is null`);

    this.addSql(`
      create table sweep_task (
        task text primary key,
        success_time timestamptz not null
      )`);
  }

  override down(): void {
    throw new Error("migrations only go forward: restore a backup instead");
  }
}
