/** The statements that make keys and stop them. */
import { readStatement, writeStatement } from "../database/statement.ts";
import { idempotencyScope } from "../idempotency/idempotency.ts";
import { apiKeyColumns, type MaybeApiKeyRow } from "./account-entities.ts";
import { type Access, callerAccess, tokenKinds } from "./caller-statements.ts";
import { scopeBits } from "./scopes.ts";

/** What became of a call. SEEN: its request_id has made a key before, or a twin of the call has just made it. */
export type CreateKeyOutcome =
  | "MADE"
  | "SEEN"
  | "SCOPE_EXCEEDED"
  | "SPEND_CEILING"
  | "TOO_MANY"
  | Exclude<Access, "OK">;

/** How many keys an account can have, dead ones included: they are kept, since leases and keys name their makers. */
export const maxKeysPerAccount = 10_000;

/** The one row. No row: the caller's account or key is gone. */
export type CreatedKeyRow = MaybeApiKeyRow & {
  readonly outcome: CreateKeyOutcome;
  /** The scopes that were asked for and that the caller's key lacks. */
  readonly excess_scopes: number;
  /** The ceiling that was asked for, or else all that is left. Null: none. */
  readonly asked_micros: bigint | null;
  /** What the caller's key may still spend. Null: as much as the account has. */
  readonly remaining_micros: bigint | null;
};

/**
 * The account and then one or more of its keys, locked, and the clock after the wait. What a decision rests on is read
 * from these rows and from nowhere else.
 */
function lockedKeys(keys: string): string {
  return `
  locked_account as materialized (
    select owner_id, suspend_time from account where owner_id = $1::uuid for no key update
  ),
  locked_key as materialized (
    select ${apiKeyColumns("k")}
    from locked_account a
    join api_key k on k.owner_id = a.owner_id
    where k.key_id in (${keys})
    order by k.key_id
    for no key update of k
  ),
  clock as materialized (
    select clock_timestamp() as now from (select count(*) from locked_key) as waited
  ),
  caller as materialized (
    select ${apiKeyColumns("k")}, c.now,
      case
        when k.revoke_time is not null or k.expire_time <= c.now then 'CREDENTIAL_INVALID'
        when k.scopes & ${scopeBits.account} = 0 then 'SCOPE_MISSING'
        when a.suspend_time is not null then 'ACCOUNT_SUSPENDED'
        else 'OK'
      end as access
    from locked_key k
    cross join locked_account a
    cross join clock c
    where k.key_id = $2::uuid
  )`;
}

/**
 * Makes a key with no more than the caller's scopes, life and remaining ceiling. $3: the new key, $4: its name, $5: its
 * scopes or null for the caller's, $6: its life in microseconds or null, $7: its ceiling or null, $8: its token's hash,
 * $9: the server key version of its secret or null, $10 and $11: request_id and digests or null.
 *
 * Locks: the account, then the caller's key. A bounded key gives its ceiling away: what the new key may spend counts as
 * spent by the caller's in the same statement, so that both together never spend more than the caller's could. (The
 * alternative, a charge that walks up to every maker, would lock a chain of keys for each lease.)
 */
export const createApiKey = writeStatement<CreatedKeyRow>(
  "create-api-key",
  `with ${lockedKeys("$2::uuid")},
  asked as materialized (
    select c.*, c.spend_ceiling_micros - c.spent_micros as remaining_micros,
      coalesce($5::smallint, c.scopes) as asked_scopes,
      coalesce($7::bigint, c.spend_ceiling_micros - c.spent_micros) as asked_micros
    from caller c
  ),
  judged as materialized (
    select a.*,
      case
        when a.access <> 'OK' then a.access
        when seen.request_id is not null then 'SEEN'
        when a.asked_scopes & ~a.scopes <> 0 then 'SCOPE_EXCEEDED'
        when a.asked_micros > a.remaining_micros then 'SPEND_CEILING'
        when (select count(*) from api_key where owner_id = $1::uuid) >= ${maxKeysPerAccount} then 'TOO_MANY'
        else 'MADE'
      end as outcome
    from asked a
    left join idempotency seen on seen.owner_id = $1::uuid and seen.scope = ${idempotencyScope.createApiKey}
      and seen.scope_id = $1::uuid and seen.request_id = $10::uuid
  ),
  remembered as (
    insert into idempotency (owner_id, scope, scope_id, request_id, digests, thing_id, create_time)
    select $1::uuid, ${idempotencyScope.createApiKey}, $1::uuid, $10::uuid, $11::bytea, $3::uuid, now
    from judged
    where outcome = 'MADE' and $10::uuid is not null
    on conflict do nothing
    returning thing_id
  ),
  won as materialized (
    select * from judged
    where outcome = 'MADE' and ($10::uuid is null or $3::uuid in (select thing_id from remembered))
  ),
  given as (
    update api_key k
    set spent_micros = w.spent_micros + w.asked_micros
    from won w
    where k.owner_id = $1::uuid and k.key_id = w.key_id and w.remaining_micros is not null
  ),
  findable as (
    insert into token (token_hash, kind, owner_id, thing_id)
    select $8::bytea, ${tokenKinds.key}, $1::uuid, $3::uuid from won
  ),
  made as (
    insert into api_key
      (owner_id, key_id, name, scopes, create_time, expire_time, spend_ceiling_micros, maker_key_id, token_key_version)
    select $1::uuid, $3::uuid, $4::text, asked_scopes, now,
      least(expire_time, now + $6::bigint * interval '1 microsecond'), asked_micros, key_id, $9::int
    from won
    returning *
  )
  select case when j.outcome = 'MADE' and made.key_id is null then 'SEEN' else j.outcome end as outcome,
    j.asked_scopes & ~j.scopes as excess_scopes, j.asked_micros, j.remaining_micros, ${apiKeyColumns("made")}
  from judged j
  left join made on true`,
);

/** The key that a request_id made before, and the digests it was made with. No lock. */
export const findMadeApiKey = readStatement<
  { readonly access: Access; readonly digests: Buffer | null } & MaybeApiKeyRow
>(
  "find-made-api-key",
  `with ${callerAccess({ owner: 1, key: 2, scope: 3 })}
  select caller.access, seen.digests, ${apiKeyColumns("k")}
  from caller
  left join idempotency seen on caller.access = 'OK' and seen.owner_id = $1::uuid
    and seen.scope = ${idempotencyScope.createApiKey} and seen.scope_id = $1::uuid and seen.request_id = $4::uuid
  left join api_key k on k.owner_id = $1::uuid and k.key_id = seen.thing_id`,
);

/**
 * Stops a key of the caller's account. $3: the key. The row's key columns are null if there is none.
 *
 * Locks: the account, then by id the caller's key, the key to stop, and its maker, to whose ceiling goes back what the
 * key had left. What is refunded to the key after that stays with it.
 */
export const revokeApiKey = writeStatement<{ readonly access: Access } & MaybeApiKeyRow>(
  "revoke-api-key",
  `with ${lockedKeys(
    "select unnest(array[$2::uuid, key_id, maker_key_id]) from api_key where owner_id = $1::uuid and key_id = $3::uuid union select $2::uuid",
  )},
  target as materialized (
    select k.*, c.now
    from locked_key k
    join caller c on c.access = 'OK'
    where k.key_id = $3::uuid
  ),
  revoked as (
    update api_key k
    set revoke_time = t.now
    from target t
    where k.owner_id = $1::uuid and k.key_id = t.key_id and t.revoke_time is null
    returning ${apiKeyColumns("k")}
  ),
  returned as (
    update api_key k
    set spent_micros = m.spent_micros - (t.spend_ceiling_micros - t.spent_micros)
    from locked_key m, target t
    where k.owner_id = $1::uuid and k.key_id = m.key_id and m.key_id = t.maker_key_id and t.revoke_time is null
      and m.spend_ceiling_micros is not null
  )
  select c.access, ${apiKeyColumns("shown")}
  from caller c
  left join (
    select ${apiKeyColumns("revoked")} from revoked
    union all
    select ${apiKeyColumns("t")} from target t where t.revoke_time is not null
  ) as shown on true`,
);
