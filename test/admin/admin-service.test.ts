/** What AdminService promises: only the operator is served, accounts and credits are made once, a suspension acts at once. */
import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import {
  GetAccountRequestSchema,
  ListApiKeysRequestSchema,
  ApiKey_Scope as Scope,
} from "#gen/leasehold/v1/account_pb.js";
import {
  type AdminService,
  CreateAccountRequestSchema,
  CreditAccountRequestSchema,
  GetServiceStatsRequestSchema,
  ListAccountsRequestSchema,
  ResumeAccountRequestSchema,
  SetPricingRequestSchema,
  SuspendAccountRequestSchema,
} from "#gen/leasehold/v1/admin_pb.js";
import { formatId, newUuid } from "../../src/ids/ids.ts";
import type { Call } from "../../src/server/call.ts";
import { fakeCall } from "../support/fake-call.ts";
import { operatorToken, TestHouse } from "../support/test-house.ts";
import { query } from "../support/test-query.ts";

const house = await TestHouse.open();
const earliestUuid = "00000000-0000-7000-8000-000000000000";
const unknownAccount = formatId("acc", newUuid<"acc">());

describe("an RPC refuses whoever is not the operator", () => {
  const accountId = unknownAccount;
  const rpcs: Readonly<Record<keyof typeof AdminService.method, (call: Call) => Promise<unknown>>> = {
    createAccount: (call) => house.admin.createAccount(create(CreateAccountRequestSchema, { name: "a" }), call),
    listAccounts: (call) => house.admin.listAccounts(create(ListAccountsRequestSchema), call),
    suspendAccount: (call) => house.admin.suspendAccount(create(SuspendAccountRequestSchema, { accountId }), call),
    resumeAccount: (call) => house.admin.resumeAccount(create(ResumeAccountRequestSchema, { accountId }), call),
    creditAccount: (call) =>
      house.admin.creditAccount(create(CreditAccountRequestSchema, { accountId, amountMicros: 1n }), call),
    setPricing: (call) => house.admin.setPricing(create(SetPricingRequestSchema), call),
    getServiceStats: (call) => house.admin.getServiceStats(create(GetServiceStatsRequestSchema), call),
  };
  test.each(Object.entries(rpcs))("%s", async (_name, rpc) => {
    await expect(rpc(fakeCall())).rejects.toMatchObject({ reason: "CREDENTIAL_MISSING" });
    const { call } = await house.openAccount(0n);
    await expect(rpc(call)).rejects.toMatchObject({ reason: "CREDENTIAL_INVALID" });
    for (const bearer of ["", operatorToken.slice(1), `${operatorToken} `, operatorToken.toUpperCase()]) {
      await expect(rpc(fakeCall({ bearer }))).rejects.toMatchObject({ reason: "CREDENTIAL_INVALID" });
    }
  });

  test("the operator's token is no API key", async () => {
    const asKey = house.account.getAccount(create(GetAccountRequestSchema), house.operator);
    await expect(asKey).rejects.toMatchObject({ reason: "CREDENTIAL_INVALID" });
  });
});

describe("creating", () => {
  test("an account starts empty, with a key of every scope, no end and no ceiling", async () => {
    const { account, apiKey } = await createAccount("agents");
    expect(account).toMatchObject({ name: "agents", balanceMicros: 0n });
    expect(account?.accountId).toMatch(/^acc_[0-9a-hjkmnp-tv-z]{26}$/);
    const call = fakeCall({ bearer: apiKey });
    const shown = await house.account.getAccount(create(GetAccountRequestSchema), call);
    expect(shown.account).toEqual(account);
    const { keys } = await house.account.listApiKeys(create(ListApiKeysRequestSchema), call);
    expect(keys).toMatchObject([{ name: "first", scopes: [Scope.READ, Scope.WRITE, Scope.CREATE, Scope.ACCOUNT] }]);
    expect(keys?.[0]?.expireTime ?? keys?.[0]?.spendCeilingMicros).toBeUndefined();
  });

  test("32 twins of one request_id make one account and get its key", async () => {
    const requestId = randomUUID();
    const answers = await Promise.all(Array.from({ length: 32 }, () => createAccount("twin", requestId)));
    expect(new Set(answers.map((answer) => answer.account?.accountId)).size).toBe(1);
    expect(new Set(answers.map((answer) => answer.apiKey)).size).toBe(1);
    const [row] = await query<{ accounts: bigint }>(
      house.database,
      "select count(*) as accounts from account where name = 'twin'",
    );
    expect(row?.accounts).toBe(1n);
    const call = fakeCall({ bearer: answers[0]?.apiKey });
    await house.account.getAccount(create(GetAccountRequestSchema), call);
  });

  test("a repeat shows the account as it is now, and the first key also when there are others", async () => {
    const requestId = randomUUID();
    const first = await createAccount("again", requestId);
    await house.makeKey(fakeCall({ bearer: first.apiKey }), { name: "another" });
    await query(house.database, "update api_key set key_id = $1 where name = 'another'", [earliestUuid]);
    await house.credit(first.account?.accountId ?? "", 5n);
    const again = await createAccount("again", requestId);
    expect(again).toMatchObject({ apiKey: first.apiKey, account: { balanceMicros: 5n } });
  });

  test("a request_id with another name is refused", async () => {
    const requestId = randomUUID();
    await createAccount("a", requestId);
    await expect(createAccount("b", requestId)).rejects.toMatchObject({
      reason: "REQUEST_ID_REUSED",
      metadata: { field: "name" },
    });
  });
});

describe("crediting", () => {
  test("a credit raises the balance, and a suspended account's too", async () => {
    const { accountId } = await house.openAccount(0n);
    await house.credit(accountId, 5n);
    await suspend(accountId);
    expect((await house.credit(accountId, 6n)).account).toMatchObject({ accountId, balanceMicros: 11n });
  });

  test("32 twins of one request_id credit once", async () => {
    const { accountId } = await house.openAccount(0n);
    const requestId = randomUUID();
    const answers = await Promise.all(Array.from({ length: 32 }, () => house.credit(accountId, 5n, requestId)));
    expect(new Set(answers.map((answer) => answer.account?.balanceMicros))).toEqual(new Set([5n]));
  });

  test("a repeat shows the account as it is now", async () => {
    const { accountId } = await house.openAccount(0n);
    const requestId = randomUUID();
    await house.credit(accountId, 5n, requestId);
    await house.credit(accountId, 6n);
    expect((await house.credit(accountId, 5n, requestId.toUpperCase())).account?.balanceMicros).toBe(11n);
  });

  test("a request_id with another amount or account is refused by that name, also if the account is unknown", async () => {
    const [one, other] = [await house.openAccount(0n), await house.openAccount(0n)];
    const requestId = randomUUID();
    await house.credit(one.accountId, 5n, requestId);
    const reused = (field: string) => ({ reason: "REQUEST_ID_REUSED", metadata: { field } });
    await expect(house.credit(one.accountId, 6n, requestId)).rejects.toMatchObject(reused("amount_micros"));
    await expect(house.credit(other.accountId, 5n, requestId)).rejects.toMatchObject(reused("account_id"));
    await expect(house.credit(unknownAccount, 5n, requestId)).rejects.toMatchObject(reused("account_id"));
  });

  test("of twins of one request_id that name different accounts one is credited", async () => {
    const accounts = await Promise.all(Array.from({ length: 16 }, () => house.openAccount(0n)));
    const requestId = randomUUID();
    const outcomes = await Promise.allSettled(accounts.map(({ accountId }) => house.credit(accountId, 5n, requestId)));
    expect(outcomes.filter((outcome) => outcome.status === "fulfilled")).toHaveLength(1);
    for (const outcome of outcomes.filter((some) => some.status === "rejected")) {
      expect(outcome.reason).toMatchObject({ reason: "REQUEST_ID_REUSED" });
    }
  });

  test("a credit that the balance has no room for changes nothing, and says how much it has", async () => {
    const { accountId, ownerId } = await house.openAccount(5n);
    await query(house.database, "update account set balance_micros = 999999999999999990 where owner_id = $1", [
      ownerId,
    ]);
    await expect(house.credit(accountId, 11n)).rejects.toMatchObject({
      reason: "OUT_OF_BOUNDS",
      metadata: { field: "amount_micros", value: "11", min: "1", max: "10" },
    });
    const [row] = await query<{ entries: bigint }>(
      house.database,
      "select count(*) as entries from ledger_entry where owner_id = $1",
      [ownerId],
    );
    expect(row?.entries).toBe(2n);
    expect((await house.credit(accountId, 10n)).account?.balanceMicros).toBe(10n ** 18n);
    await query(house.database, "update account set balance_micros = 9223372036854775807 where owner_id = $1", [
      ownerId,
    ]);
    await expect(house.credit(accountId, 1n)).rejects.toMatchObject({
      reason: "OUT_OF_BOUNDS",
      metadata: { max: "0" },
    });
  });

  test("an unknown account is not found", async () => {
    await expect(house.credit(unknownAccount, 5n)).rejects.toMatchObject({ reason: "NOT_FOUND" });
    await expect(house.credit(unknownAccount, 5n, randomUUID())).rejects.toMatchObject({ reason: "NOT_FOUND" });
  });
});

describe("suspending", () => {
  test("a suspended account creates and reads nothing, until it is resumed", async () => {
    const { accountId, call } = await house.openAccount();
    expect((await suspend(accountId)).account?.suspendTime).toBeDefined();
    await expect(house.lease(call)).rejects.toMatchObject({ reason: "ACCOUNT_SUSPENDED" });
    await expect(house.makeKey(call)).rejects.toMatchObject({ reason: "ACCOUNT_SUSPENDED" });
    const read = () => house.account.getAccount(create(GetAccountRequestSchema), call);
    await expect(read()).rejects.toMatchObject({ reason: "ACCOUNT_SUSPENDED" });
    expect((await resume(accountId)).account?.suspendTime).toBeUndefined();
    await house.lease(call);
    await read();
  });

  test("suspending again keeps the first time, and resuming again changes nothing", async () => {
    const { accountId } = await house.openAccount(0n);
    const first = await suspend(accountId);
    expect(await suspend(accountId)).toEqual(first);
    const resumed = await resume(accountId);
    expect(await resume(accountId)).toEqual(resumed);
  });

  test("an unknown account is not found", async () => {
    await expect(suspend(unknownAccount)).rejects.toMatchObject({ reason: "NOT_FOUND" });
    await expect(resume(unknownAccount)).rejects.toMatchObject({ reason: "NOT_FOUND" });
  });
});

test("accounts are listed newest first, each once, page by page", async () => {
  const made: string[] = [];
  for (let count = 0; count < 5; count++) {
    made.push((await house.openAccount(0n)).accountId);
  }
  const seen: (string | undefined)[] = [];
  let pageToken: string | undefined = "";
  do {
    const request: Parameters<typeof house.admin.listAccounts>[0] = create(ListAccountsRequestSchema, {
      pageSize: 2,
      pageToken,
    });
    const page: Awaited<ReturnType<typeof house.admin.listAccounts>> = await house.admin.listAccounts(
      request,
      house.operator,
    );
    expect(page.accounts?.length).toBeLessThanOrEqual(2);
    seen.push(...(page.accounts ?? []).map((account) => account.accountId));
    pageToken = page.nextPageToken;
  } while (pageToken !== undefined && pageToken !== "");
  expect(seen.slice(0, 5)).toEqual(made.toReversed());
  expect(new Set(seen).size).toBe(seen.length);
});

describe("pricing", () => {
  test("what is set is in force for the next lease, and what is unset stays", async () => {
    const before = await house.pricing.refresh();
    const { pricing } = await setPricing({ minChargeMicros: 1234n });
    expect(pricing).toMatchObject({
      pricingVersion: before.pricingVersion + 1n,
      minChargeMicros: 1234n,
      rateMicrosPerGibDay: before.rateMicrosPerGibDay,
      minDuration: { seconds: before.minDurationSeconds },
      maxDuration: { seconds: before.maxDurationSeconds },
    });
    const { call } = await house.openAccount(1234n);
    await house.lease(call);
    const { account } = await house.account.getAccount(create(GetAccountRequestSchema), call);
    expect(account?.balanceMicros).toBe(0n);
  });

  test("zero is a price", async () => {
    expect((await setPricing({ rateMicrosPerGibDay: 0n, minChargeMicros: 0n })).pricing).toMatchObject({
      rateMicrosPerGibDay: 0n,
      minChargeMicros: 0n,
    });
  });

  test("a shortest duration above the longest is refused, and nothing is changed", async () => {
    const before = await house.pricing.refresh();
    const inverted = { minDuration: { seconds: before.maxDurationSeconds + 1n } };
    await expect(setPricing(inverted)).rejects.toMatchObject({ reason: "OUT_OF_BOUNDS" });
    await expect(setPricing({ minDuration: { seconds: 60n, nanos: 1 } })).rejects.toMatchObject({
      reason: "INVALID_FIELD",
      metadata: { field: "min_duration" },
    });
    expect(await house.pricing.refresh()).toEqual(before);
  });

  test("changes made at once each get a version of their own", async () => {
    const rates = Array.from({ length: 12 }, (_, index) => BigInt(index));
    const answers = await Promise.all(rates.map((rate) => setPricing({ rateMicrosPerGibDay: rate })));
    expect(new Set(answers.map((answer) => answer.pricing?.pricingVersion)).size).toBe(12);
  });
});

async function createAccount(name: string, requestId = "") {
  return await house.admin.createAccount(create(CreateAccountRequestSchema, { name, requestId }), house.operator);
}

async function suspend(accountId: string) {
  return await house.admin.suspendAccount(create(SuspendAccountRequestSchema, { accountId }), house.operator);
}

async function resume(accountId: string) {
  return await house.admin.resumeAccount(create(ResumeAccountRequestSchema, { accountId }), house.operator);
}

async function setPricing(change: Parameters<typeof create<typeof SetPricingRequestSchema>>[1]) {
  return await house.admin.setPricing(create(SetPricingRequestSchema, change), house.operator);
}
