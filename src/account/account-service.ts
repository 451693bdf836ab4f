/** AccountService: shows the caller's account and its ledger, and manages its keys. */
import type { AccountService } from "#gen/leasehold/v1/account_pb.js";
import type { ServerKeys } from "../content/server-keys.ts";
import type { Database } from "../database/database.ts";
import { notFound } from "../errors/leasehold-error.ts";
import { parseId } from "../ids/ids.ts";
import { pageSizeOf, pageStart, toPage } from "../proto-values/paging.ts";
import type { ServiceImplementation } from "../server/service-implementation.ts";
import { ApiKeyEntity, isAccountRow, LedgerEntryEntity } from "./account-entities.ts";
import { getAccount } from "./account-statements.ts";
import { showAccount, showApiKey, showLedgerEntry } from "./account-view.ts";
import { ApiKeys } from "./api-keys.ts";
import { type Callers, requireAccess } from "./caller.ts";
import { ledgerAccount } from "./ledger.ts";
import { scopeBits } from "./scopes.ts";

/** What the service needs. */
export interface AccountServiceOptions {
  readonly database: Database;
  readonly callers: Callers;
  readonly serverKeys: ServerKeys;
  /** The key that request digests are made with. */
  readonly digestKey: Uint8Array;
}

export function accountService(options: AccountServiceOptions): ServiceImplementation<typeof AccountService> {
  const { callers, database } = options;
  const keys = new ApiKeys(options);
  return {
    async getAccount(_request, call) {
      const caller = await callers.of(call);
      const [row] = await database.run(getAccount, [caller.ownerId, caller.keyId, scopeBits.read]);
      requireAccess(row?.access, "read");
      if (row === undefined || !isAccountRow(row)) {
        throw notFound("account");
      }
      return { account: showAccount(row) };
    },

    async listLedgerEntries(request, call) {
      const caller = await callers.allowed(call, "account");
      const pageSize = pageSizeOf(request);
      const start = pageStart("ent", request);
      const rows = await database.read((entities) =>
        entities.find(
          LedgerEntryEntity,
          {
            owner_id: caller.ownerId,
            ledger_account: ledgerAccount.balance,
            ...(start === undefined ? {} : { entry_id: { $lt: start } }),
          },
          { orderBy: { entry_id: "desc" }, limit: pageSize + 1 },
        ),
      );
      const page = toPage(rows, pageSize, "ent", (row) => row.entry_id);
      return { entries: page.rows.map(showLedgerEntry), nextPageToken: page.nextPageToken };
    },

    async createApiKey(request, call) {
      const made = await keys.make(await callers.of(call), request);
      return { key: showApiKey(made.key), apiKey: made.secret };
    },

    async listApiKeys(request, call) {
      const caller = await callers.allowed(call, "account");
      const pageSize = pageSizeOf(request);
      const start = pageStart("key", request);
      const rows = await database.read((entities) =>
        entities.find(
          ApiKeyEntity,
          { owner_id: caller.ownerId, ...(start === undefined ? {} : { key_id: { $lt: start } }) },
          { orderBy: { key_id: "desc" }, limit: pageSize + 1 },
        ),
      );
      const page = toPage(rows, pageSize, "key", (row) => row.key_id);
      return { keys: page.rows.map(showApiKey), nextPageToken: page.nextPageToken };
    },

    async revokeApiKey(request, call) {
      const caller = await callers.of(call);
      const keyId = parseId("key", request.keyId);
      if (keyId === undefined) {
        throw notFound("key");
      }
      return { key: showApiKey(await keys.revoke(caller, keyId)) };
    },
  };
}
