/** What AccountService promises: a key or account that is stopped stops at once, and lists show everything once. */
import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import {
  type AccountService,
  CreateApiKeyRequestSchema,
  GetAccountRequestSchema,
  ListApiKeysRequestSchema,
  ListLedgerEntriesRequestSchema,
  RevokeApiKeyRequestSchema,
  ApiKey_Scope as Scope,
} from "#gen/leasehold/v1/account_pb.js";
import { SuspendAccountRequestSchema } from "#gen/leasehold/v1/admin_pb.js";
import { formatId, newUuid } from "../../src/ids/ids.ts";
import { randomToken } from "../../src/secrets/secret-token.ts";
import type { Call } from "../../src/server/call.ts";
import { fakeCall } from "../support/fake-call.ts";
import { leasePriceMicros, TestHouse } from "../support/test-house.ts";
import { query } from "../support/test-query.ts";

const house = await TestHouse.open();

const keyId = formatId("key", newUuid<"key">());
const rpcs: Readonly<Record<keyof typeof AccountService.method, (call: Call) => Promise<unknown>>> = {
  getAccount: (call) => house.account.getAccount(create(GetAccountRequestSchema), call),
  listLedgerEntries: (call) => house.account.listLedgerEntries(create(ListLedgerEntriesRequestSchema), call),
  createApiKey: (call) => house.account.createApiKey(create(CreateApiKeyRequestSchema), call),
  listApiKeys: (call) => house.account.listApiKeys(create(ListApiKeysRequestSchema), call),
  revokeApiKey: (call) => house.account.revokeApiKey(create(RevokeApiKeyRequestSchema, { keyId }), call),
};
const allScopes = [Scope.READ, Scope.WRITE, Scope.CREATE, Scope.ACCOUNT];

describe("an RPC refuses", () => {
  const refused = (what: string, reason: string, callOf: () => Promise<Call>) =>
    test.each(Object.entries(rpcs))(`${what}: %s`, async (_name, rpc) => {
      await expect(rpc(await callOf())).rejects.toMatchObject({ reason });
    });

  refused("no credential", "CREDENTIAL_MISSING", async () => fakeCall());
  refused("a credential of another kind", "CREDENTIAL_INVALID", async () => fakeCall({ bearer: randomToken("claim") }));
  refused("a key that was never made", "CREDENTIAL_INVALID", async () => fakeCall({ bearer: randomToken("key") }));
  refused("a key with a typo", "CREDENTIAL_INVALID", async () => {
    const { apiKey } = await house.openAccount(0n);
    return fakeCall({ bearer: `${apiKey.slice(0, -1)}${apiKey.endsWith("0") ? "1" : "0"}` });
  });
  refused("a key that was revoked while it was in use", "CREDENTIAL_INVALID", async () => {
    const account = await house.openAccount(0n);
    const key = await house.makeKey(account.call);
    await rpcs.getAccount(key.call);
    await revoke(account.call, key.keyId);
    return key.call;
  });
  refused("a key that has expired while it was in use", "CREDENTIAL_INVALID", async () => {
    const account = await house.openAccount(0n);
    const key = await house.makeKey(account.call, { ttl: { seconds: 3600n } });
    await rpcs.getAccount(key.call);
    await query(
      house.database,
      "update api_key set expire_time = now() where owner_id = $1 and expire_time is not null",
      [account.ownerId],
    );
    return key.call;
  });
  refused("a key of an account that was suspended while it was in use", "ACCOUNT_SUSPENDED", async () => {
    const { accountId, call } = await house.openAccount(0n);
    await rpcs.getAccount(call);
    await house.admin.suspendAccount(create(SuspendAccountRequestSchema, { accountId }), house.operator);
    return call;
  });
});

test("an account is shown to its keys", async () => {
  const { accountId, call } = await house.openAccount(5n);
  const { account } = await house.account.getAccount(create(GetAccountRequestSchema), call);
  expect(account).toMatchObject({ accountId, name: "test", balanceMicros: 5n });
  expect(account?.createTime).toBeDefined();
  expect(account?.suspendTime).toBeUndefined();
});

test("the ledger lists what changed the balance, newest first, and nothing of another account", async () => {
  await house.openAccount(77n);
  const { accountId, call } = await house.openAccount(5000n);
  const leaseId = await house.lease(call);
  await house.refund(call, leaseId);
  await house.credit(accountId, 3n);
  const { entries, nextPageToken } = await house.account.listLedgerEntries(
    create(ListLedgerEntriesRequestSchema),
    call,
  );
  const publicLeaseId = formatId("lse", leaseId);
  expect(entries).toMatchObject([
    { kind: 1, amountMicros: 3n, balanceAfterMicros: 5003n, leaseId: "" },
    { kind: 3, amountMicros: leasePriceMicros, balanceAfterMicros: 5000n, leaseId: publicLeaseId },
    { kind: 2, amountMicros: -leasePriceMicros, balanceAfterMicros: 4000n, leaseId: publicLeaseId },
    { kind: 1, amountMicros: 5000n, balanceAfterMicros: 5000n, leaseId: "" },
  ]);
  expect(nextPageToken).toBe("");
});

test("pages of the ledger show every entry once, whatever their size", async () => {
  const { accountId, call } = await house.openAccount(0n);
  for (let credit = 1n; credit <= 7n; credit++) {
    await house.credit(accountId, credit);
  }
  for (const pageSize of [1, 3, 7, 8]) {
    const pages = await pagesOf(async (pageToken) => {
      const request = create(ListLedgerEntriesRequestSchema, { pageSize, pageToken });
      const { entries = [], nextPageToken } = await house.account.listLedgerEntries(request, call);
      return { items: entries.map((entry) => entry.amountMicros), nextPageToken };
    });
    expect(pages.flat()).toEqual([7n, 6n, 5n, 4n, 3n, 2n, 1n]);
    expect(pages).toHaveLength(Math.ceil(7 / pageSize));
  }
});

test("keys are listed newest first, without secrets, page by page", async () => {
  const { call } = await house.openAccount(0n);
  const made: string[] = [];
  for (let count = 0; count < 3; count++) {
    made.push((await house.makeKey(call, { name: `key ${count}` })).keyId);
  }
  const pages = await pagesOf(async (pageToken) => {
    const request = create(ListApiKeysRequestSchema, { pageSize: 2, pageToken });
    const { keys = [], nextPageToken } = await house.account.listApiKeys(request, call);
    return { items: keys, nextPageToken };
  });
  expect(pages.map((page) => page.length)).toEqual([2, 2]);
  expect(pages.flat().map((key) => key.name)).toEqual(["key 2", "key 1", "key 0", "first"]);
  expect(
    pages
      .flat()
      .slice(0, 3)
      .map((key) => key.keyId),
  ).toEqual(made.toReversed());
  expect(pages.flat()[3]?.scopes).toEqual(allScopes);
});

test("a page token that no list gave is refused by its field", async () => {
  const { call } = await house.openAccount(0n);
  const refusal = { reason: "INVALID_FIELD", metadata: { field: "page_token" } };
  const ledger = create(ListLedgerEntriesRequestSchema, { pageToken: keyId });
  await expect(house.account.listLedgerEntries(ledger, call)).rejects.toMatchObject(refusal);
  const keys = create(ListApiKeysRequestSchema, { pageToken: "x" });
  await expect(house.account.listApiKeys(keys, call)).rejects.toMatchObject(refusal);
});

test("a listed key shows the same times as the answer that made it", async () => {
  const { call } = await house.openAccount(0n);
  const { key } = await house.makeKey(call, { ttl: { seconds: 60n } });
  const { keys } = await house.account.listApiKeys(create(ListApiKeysRequestSchema), call);
  expect(keys?.[0]).toEqual(key);
});

async function revoke(by: Call, keyId: string): Promise<void> {
  await house.account.revokeApiKey(create(RevokeApiKeyRequestSchema, { keyId }), by);
}

async function pagesOf<Item>(
  ask: (pageToken: string) => Promise<{ items: readonly Item[]; nextPageToken?: string | undefined }>,
): Promise<(readonly Item[])[]> {
  const pages: (readonly Item[])[] = [];
  let pageToken: string | undefined = "";
  do {
    const page: Awaited<ReturnType<typeof ask>> = await ask(pageToken);
    pages.push(page.items);
    pageToken = page.nextPageToken;
  } while (pageToken !== undefined && pageToken !== "");
  return pages;
}
