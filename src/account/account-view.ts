/** Shows the rows of accounts, keys and ledger as the proto's messages. */
import { create } from "@bufbuild/protobuf";
import {
  type Account,
  AccountSchema,
  type ApiKey,
  ApiKeySchema,
  type LedgerEntry,
  LedgerEntrySchema,
} from "#gen/leasehold/v1/account_pb.js";
import { formatId } from "../ids/ids.ts";
import { toTimestamp } from "../proto-values/proto-time.ts";
import type { AccountRow, ApiKeyRow, LedgerEntryRow } from "./account-entities.ts";
import { scopesFromBits } from "./scopes.ts";

export function showAccount(row: AccountRow): Account {
  return create(AccountSchema, {
    accountId: formatId("acc", row.owner_id),
    name: row.name,
    balanceMicros: row.balance_micros,
    createTime: toTimestamp(row.create_time),
    suspendTime: toTimestamp(row.suspend_time),
  });
}

export function showApiKey(row: ApiKeyRow): ApiKey {
  return create(ApiKeySchema, {
    keyId: formatId("key", row.key_id),
    name: row.name,
    scopes: scopesFromBits(row.scopes),
    createTime: toTimestamp(row.create_time),
    expireTime: toTimestamp(row.expire_time),
    revokeTime: toTimestamp(row.revoke_time),
    spendCeilingMicros: row.spend_ceiling_micros ?? undefined,
    spentMicros: row.spent_micros,
  });
}

/** Shows an entry of the owner's balance. Its kinds are the proto's numbers. */
export function showLedgerEntry(row: LedgerEntryRow): LedgerEntry {
  if (row.balance_after_micros === null) {
    throw new Error("an entry of the operator's side was to be shown to an owner");
  }
  return create(LedgerEntrySchema, {
    entryId: formatId("ent", row.entry_id),
    transactionId: formatId("txn", row.transaction_id),
    kind: row.kind,
    amountMicros: row.amount_micros,
    balanceAfterMicros: row.balance_after_micros,
    leaseId: row.lease_id === null ? "" : formatId("lse", row.lease_id),
    createTime: toTimestamp(row.create_time),
  });
}
