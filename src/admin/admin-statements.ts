/** The statements by which the operator makes, suspends and credits accounts. */
import { LedgerEntry_Kind } from "#gen/leasehold/v1/account_pb.js";
import { type AccountRow, accountColumns, type MaybeAccountRow } from "../account/account-entities.ts";
import { tokenKinds } from "../account/caller-statements.ts";
import { ledgerAccount } from "../account/ledger.ts";
import { allScopes } from "../account/scopes.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import { idempotencyScope, operatorOwnerId } from "../idempotency/idempotency.ts";
import type { KeyUuid } from "../ids/ids.ts";

/**
 * The largest balance a credit may lead to, in millionths of a US dollar: a million million dollars. It leaves a column
 * of 64 bits room for the refunds of leases that were paid for before.
 */
const maxBalanceMicros = 10n ** 18n;

const operator = `'${operatorOwnerId}'::uuid`;

/**
 * Makes an account and its first key. $1: the account, $2: its name, $3: the key, $4: its token's hash, $5: the server
 * key version of its secret or null, $6 and $7: request_id and digests or null. No row: the request_id has made one
 * before, or a twin of the call has just made it, for whose commit the primary key of `idempotency` waited.
 */
export const createAccount = writeStatement<AccountRow>(
  "create-account",
  `with clock as materialized (
    select clock_timestamp() as now
  ),
  remembered as (
    insert into idempotency (owner_id, scope, scope_id, request_id, digests, thing_id, create_time)
    select ${operator}, ${idempotencyScope.createAccount}, ${operator}, $6::uuid, $7::bytea, $1::uuid, now
    from clock
    where $6::uuid is not null
    on conflict do nothing
    returning thing_id
  ),
  won as materialized (
    select now from clock where $6::uuid is null or $1::uuid in (select thing_id from remembered)
  ),
  made as (
    insert into account (owner_id, name, create_time)
    select $1::uuid, $2::text, now from won
    returning ${accountColumns("account")}
  ),
  keyed as (
    insert into api_key (owner_id, key_id, name, scopes, create_time, token_key_version)
    select $1::uuid, $3::uuid, 'first', ${allScopes}, now, $5::int from won
  ),
  findable as (
    insert into token (token_hash, kind, owner_id, thing_id)
    select $4::bytea, ${tokenKinds.key}, $1::uuid, $3::uuid from won
  )
  select ${accountColumns("made")} from made`,
);

/** The account that a request_id made before, its first key, and the digests it was made with. No lock. */
export const findMadeAccount = readStatement<
  AccountRow & { readonly digests: Buffer; readonly key_id: KeyUuid; readonly token_key_version: number | null }
>(
  "find-made-account",
  `select seen.digests, ${accountColumns("a")}, k.key_id, k.token_key_version
  from idempotency seen
  join account a on a.owner_id = seen.thing_id
  join api_key k on k.owner_id = a.owner_id and k.maker_key_id is null
  where seen.owner_id = ${operator} and seen.scope = ${idempotencyScope.createAccount}
    and seen.scope_id = ${operator} and seen.request_id = $1::uuid`,
);

/** Stops an account, unless it is stopped: the first suspend_time stays. */
export const suspendAccount = writeStatement<AccountRow>(
  "suspend-account",
  `update account a
  set suspend_time = coalesce(a.suspend_time, clock_timestamp())
  where a.owner_id = $1::uuid
  returning ${accountColumns("a")}`,
);

/** Lets an account go on. */
export const resumeAccount = writeStatement<AccountRow>(
  "resume-account",
  `update account a
  set suspend_time = null
  where a.owner_id = $1::uuid
  returning ${accountColumns("a")}`,
);

/** The one row. No row: there is no such account. Its columns are null unless the outcome is MADE. */
export type CreditedRow = MaybeAccountRow & {
  readonly outcome: "MADE" | "SEEN" | "OUT_OF_BOUNDS";
  /** By how much the balance may still rise. */
  readonly room_micros: bigint;
};

/**
 * Credits an account. $1: the account, $2: how much, $3: the movement, $4 and $5: request_id and digests or null.
 *
 * Locks the account; the balance is judged and raised from the locked row. A twin of a request_id that named another
 * account does not meet that lock, and is met by the primary key of `idempotency`.
 */
export const creditAccount = writeStatement<CreditedRow>(
  "credit-account",
  `with locked_account as materialized (
    select owner_id, balance_micros from account where owner_id = $1::uuid for no key update
  ),
  clock as materialized (
    select clock_timestamp() as now from (select count(*) from locked_account) as waited
  ),
  judged as materialized (
    select a.*, c.now, greatest(${maxBalanceMicros} - a.balance_micros, 0) as room_micros,
      case
        when seen.request_id is not null then 'SEEN'
        when $2::bigint > ${maxBalanceMicros} - a.balance_micros then 'OUT_OF_BOUNDS'
        else 'MADE'
      end as outcome
    from locked_account a
    cross join clock c
    left join idempotency seen on seen.owner_id = ${operator} and seen.scope = ${idempotencyScope.creditAccount}
      and seen.scope_id = ${operator} and seen.request_id = $4::uuid
  ),
  remembered as (
    insert into idempotency (owner_id, scope, scope_id, request_id, digests, thing_id, create_time)
    select ${operator}, ${idempotencyScope.creditAccount}, ${operator}, $4::uuid, $5::bytea, $3::uuid, now
    from judged
    where outcome = 'MADE' and $4::uuid is not null
    on conflict do nothing
    returning thing_id
  ),
  won as materialized (
    select * from judged
    where outcome = 'MADE' and ($4::uuid is null or $3::uuid in (select thing_id from remembered))
  ),
  credited as (
    update account a
    set balance_micros = w.balance_micros + $2::bigint
    from won w
    where a.owner_id = w.owner_id
    returning ${accountColumns("a")}
  ),
  booked as (
    insert into ledger_entry
      (owner_id, entry_id, transaction_id, ledger_account, kind, amount_micros, balance_after_micros, create_time)
    select c.owner_id, uuidv7(), $3::uuid, side.ledger_account, ${LedgerEntry_Kind.CREDIT}, side.amount_micros,
      side.balance_after_micros, w.now
    from credited c
    join won w on w.owner_id = c.owner_id
    cross join lateral (
      values (${ledgerAccount.balance}, $2::bigint, c.balance_micros), (${ledgerAccount.credits}, -$2::bigint, null)
    ) as side(ledger_account, amount_micros, balance_after_micros)
  )
  select case when j.outcome = 'MADE' and c.owner_id is null then 'SEEN' else j.outcome end as outcome,
    j.room_micros, ${accountColumns("c")}
  from judged j
  left join credited c on true`,
);

/** The digests that a request_id credited with before, and the account of $2. No lock. */
export const findCredited = readStatement<{ readonly digests: Buffer } & MaybeAccountRow>(
  "find-credited",
  `select seen.digests, ${accountColumns("a")}
  from idempotency seen
  left join account a on a.owner_id = $2::uuid
  where seen.owner_id = ${operator} and seen.scope = ${idempotencyScope.creditAccount}
    and seen.scope_id = ${operator} and seen.request_id = $1::uuid`,
);
