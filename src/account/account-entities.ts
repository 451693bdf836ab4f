/** The rows of `account`, `api_key` and `ledger_entry`, with their columns' names and the types that statements give them. */
import { defineEntity, type InferEntity, p } from "@mikro-orm/core";
import { DatabaseTimeType } from "../database/database-time-type.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import type { AccountUuid, EntryUuid, KeyUuid, LeaseUuid, TransactionUuid } from "../ids/ids.ts";

export const AccountEntity = defineEntity({
  name: "Account",
  tableName: "account",
  properties: {
    owner_id: p.uuid().$type<AccountUuid>().primary(),
    name: p.text(),
    balance_micros: p.bigint("bigint"),
    create_time: time(),
    suspend_time: time().strictNullable(),
  },
});

export const ApiKeyEntity = defineEntity({
  name: "ApiKey",
  tableName: "api_key",
  properties: {
    owner_id: p.uuid().$type<AccountUuid>().primary(),
    key_id: p.uuid().$type<KeyUuid>().primary(),
    name: p.text(),
    scopes: p.smallint(),
    create_time: time(),
    expire_time: time().strictNullable(),
    revoke_time: time().strictNullable(),
    spend_ceiling_micros: p.bigint("bigint").strictNullable(),
    spent_micros: p.bigint("bigint"),
    maker_key_id: p.uuid().$type<KeyUuid>().strictNullable(),
    token_key_version: p.integer().strictNullable(),
  },
});

export const LedgerEntryEntity = defineEntity({
  name: "LedgerEntry",
  tableName: "ledger_entry",
  properties: {
    owner_id: p.uuid().$type<AccountUuid>().primary(),
    entry_id: p.uuid().$type<EntryUuid>().primary(),
    transaction_id: p.uuid().$type<TransactionUuid>(),
    ledger_account: p.smallint(),
    kind: p.smallint(),
    amount_micros: p.bigint("bigint"),
    balance_after_micros: p.bigint("bigint").strictNullable(),
    lease_id: p.uuid().$type<LeaseUuid>().strictNullable(),
    create_time: time(),
  },
});

export type AccountRow = InferEntity<typeof AccountEntity>;
export type ApiKeyRow = InferEntity<typeof ApiKeyEntity>;
export type LedgerEntryRow = InferEntity<typeof LedgerEntryEntity>;

/** A joined row that may be missing: every column is null then. */
type Maybe<Row> = Row | { readonly [Name in keyof Row]: null };
export type MaybeAccountRow = Maybe<AccountRow>;
export type MaybeApiKeyRow = Maybe<ApiKeyRow>;

export function isAccountRow<Row extends MaybeAccountRow>(row: Row): row is Row & AccountRow {
  return row.owner_id !== null;
}

export function isApiKeyRow<Row extends MaybeApiKeyRow>(row: Row): row is Row & ApiKeyRow {
  return row.key_id !== null;
}

/** The select list of an AccountRow, of a table or CTE by its alias. */
export function accountColumns(alias: string): string {
  return columnsOf(AccountEntity, alias);
}

/** The select list of an ApiKeyRow, of a table or CTE by its alias. */
export function apiKeyColumns(alias: string): string {
  return columnsOf(ApiKeyEntity, alias);
}

function columnsOf(entity: { readonly properties: object }, alias: string): string {
  return Object.keys(entity.properties)
    .map((name) => `${alias}.${name}`)
    .join(", ");
}

function time() {
  return p.type(DatabaseTimeType).$type<DatabaseTime>();
}
