/** What keys promise: none gives more than it has, a repeat finds the same key, and a revoked key stops at once. */
import { randomUUID } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import {
  type ApiKey,
  type CreateApiKeyRequestSchema,
  RevokeApiKeyRequestSchema,
  ApiKey_Scope as Scope,
} from "#gen/leasehold/v1/account_pb.js";
import { formatId, newUuid } from "../../src/ids/ids.ts";
import type { Call } from "../../src/server/call.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { type HouseAccount, leasePriceMicros, TestHouse } from "../support/test-house.ts";
import { query } from "../support/test-query.ts";

const house = await TestHouse.open();
const lockAccount = "select from account where owner_id = $1 for update";

describe("scopes", () => {
  test("a key gives the scopes that are asked for, or all of its own", async () => {
    const { call } = await house.openAccount();
    const some = await house.makeKey(call, { scopes: [Scope.ACCOUNT, Scope.READ] });
    expect(some.key.scopes).toEqual([Scope.READ, Scope.ACCOUNT]);
    const all = await house.makeKey(some.call);
    expect(all.key.scopes).toEqual([Scope.READ, Scope.ACCOUNT]);
  });

  test("a key gives no scope that it lacks, and the refusal names the first", async () => {
    const { call } = await house.openAccount();
    const some = await house.makeKey(call, { scopes: [Scope.READ, Scope.ACCOUNT] });
    const asked = { scopes: [Scope.READ, Scope.CREATE, Scope.WRITE] };
    await expect(house.makeKey(some.call, asked)).rejects.toMatchObject({
      reason: "SCOPE_MISSING",
      metadata: { scope: "write" },
    });
  });
});

describe("life", () => {
  test("a key lasts as long as is asked for, from the database's clock, but no longer than the one that made it", async () => {
    const { call } = await house.openAccount();
    const hour = await house.makeKey(call, { ttl: { seconds: 3600n, nanos: 1_500 } });
    expect(lifeMicros(hour.key)).toBe(3_600_000_002n);
    expect((await house.makeKey(hour.call, { ttl: { seconds: 60n } })).key.expireTime?.seconds).toBeLessThan(
      hour.key.expireTime?.seconds ?? 0n,
    );
    expect((await house.makeKey(hour.call, { ttl: { seconds: 7200n } })).key.expireTime).toEqual(hour.key.expireTime);
    expect((await house.makeKey(hour.call)).key.expireTime).toEqual(hour.key.expireTime);
    expect((await house.makeKey(call)).key.expireTime).toBeUndefined();
  });

  test("a life of more than ten years is out of bounds", async () => {
    const { call } = await house.openAccount();
    expect(lifeMicros((await house.makeKey(call, { ttl: { seconds: 315_576_000n } })).key)).toBe(315_576_000_000_000n);
    await expect(house.makeKey(call, { ttl: { seconds: 315_576_001n } })).rejects.toMatchObject({
      reason: "OUT_OF_BOUNDS",
      metadata: { field: "ttl", max: "315576000" },
    });
  });
});

describe("ceilings", () => {
  test("a key without a ceiling gives any, and loses nothing by it", async () => {
    const account = await house.openAccount();
    const bounded = await house.makeKey(account.call, { spendCeilingMicros: 5_000_000n });
    expect(bounded.key).toMatchObject({ spendCeilingMicros: 5_000_000n, spentMicros: 0n });
    expect((await house.makeKey(account.call)).key.spendCeilingMicros).toBeUndefined();
    expect(await spentOf(account, "first")).toBe(0n);
  });

  test("what a key gives away counts as spent by it", async () => {
    const account = await house.openAccount();
    const maker = await house.makeKey(account.call, { name: "maker", spendCeilingMicros: 3000n });
    await house.lease(maker.call);
    await expect(house.makeKey(maker.call, { spendCeilingMicros: 2001n })).rejects.toMatchObject({
      reason: "SPEND_CEILING",
      metadata: { price_micros: "2001", remaining_micros: "2000" },
    });
    const given = await house.makeKey(maker.call, { spendCeilingMicros: 1500n });
    expect(await spentOf(account, "maker")).toBe(2500n);
    await house.lease(given.call);
    await expect(house.lease(maker.call)).rejects.toMatchObject({ reason: "SPEND_CEILING" });
    await expect(house.lease(given.call)).rejects.toMatchObject({ reason: "SPEND_CEILING" });
  });

  test("a key that is not told how much to give gives all that it has left", async () => {
    const account = await house.openAccount();
    const maker = await house.makeKey(account.call, { name: "maker", spendCeilingMicros: 3000n });
    await house.lease(maker.call);
    expect((await house.makeKey(maker.call)).key.spendCeilingMicros).toBe(2000n);
    expect((await house.makeKey(maker.call)).key.spendCeilingMicros).toBe(0n);
    expect(await spentOf(account, "maker")).toBe(3000n);
  });

  test("however many keys are made and leases paid for at once, all together spend no more than the first ceiling", async () => {
    const account = await house.openAccount();
    const maker = await house.makeKey(account.call, { spendCeilingMicros: 10n * leasePriceMicros });
    const outcomes = await Promise.allSettled(
      Array.from({ length: 30 }, async (_, index) => {
        if (index % 2 === 0) {
          return await house.lease(maker.call);
        }
        const given = await house.makeKey(maker.call, { spendCeilingMicros: 2n * leasePriceMicros });
        return await Promise.allSettled([1, 2, 3].map(() => house.lease(given.call)));
      }),
    );
    for (const outcome of outcomes.filter((some) => some.status === "rejected")) {
      expect(outcome.reason).toMatchObject({ reason: "SPEND_CEILING" });
    }
    const [sum] = await query<{ paid: bigint }>(
      house.database,
      "select sum(price_micros)::bigint as paid from lease where owner_id = $1",
      [account.ownerId],
    );
    expect(sum?.paid).toBe(10n * leasePriceMicros);
  });

  test("a revoked key gives back what it had left, once", async () => {
    const account = await house.openAccount();
    const maker = await house.makeKey(account.call, { name: "maker", spendCeilingMicros: 5000n });
    const given = await house.makeKey(maker.call, { spendCeilingMicros: 4000n });
    await house.lease(given.call);
    await Promise.all(Array.from({ length: 8 }, () => revoke(account.call, given.keyId)));
    expect(await spentOf(account, "maker")).toBe(leasePriceMicros);
    expect((await house.makeKey(maker.call)).key.spendCeilingMicros).toBe(4000n);
  });
});

describe("repeats", () => {
  test("32 twins of one request_id make one key and get one secret", async () => {
    const account = await house.openAccount();
    const maker = await house.makeKey(account.call, { name: "maker", spendCeilingMicros: 5000n });
    const request = { name: "twin", requestId: randomUUID(), spendCeilingMicros: 4000n };
    const answers = await Promise.all(Array.from({ length: 32 }, () => house.makeKey(maker.call, request)));
    expect(new Set(answers.map((answer) => answer.apiKey)).size).toBe(1);
    expect(new Set(answers.map((answer) => answer.keyId)).size).toBe(1);
    expect(await spentOf(account, "maker")).toBe(4000n);
    const [count] = await query<{ keys: bigint }>(
      house.database,
      "select count(*) as keys from api_key where owner_id = $1 and name = 'twin'",
      [account.ownerId],
    );
    expect(count?.keys).toBe(1n);
    await house.lease(answers[0]?.call ?? account.call);
  });

  test("a repeat is shown the key as it is now, and its secret", async () => {
    const { call } = await house.openAccount();
    const requestId = randomUUID();
    const first = await house.makeKey(call, { name: "a", requestId });
    await house.lease(first.call);
    const again = await house.makeKey(call, { name: "a", requestId: requestId.toUpperCase() });
    expect(again).toMatchObject({ keyId: first.keyId, apiKey: first.apiKey, key: { spentMicros: leasePriceMicros } });
  });

  test.each<[string, MessageInitShape<typeof CreateApiKeyRequestSchema>]>([
    ["name", { name: "b" }],
    ["scopes", { name: "a", scopes: [Scope.READ] }],
    ["ttl", { name: "a", ttl: { seconds: 5n } }],
    ["spend_ceiling_micros", { name: "a", spendCeilingMicros: 0n }],
  ])("a request_id with another %s is refused by that name", async (field, other) => {
    const { call } = await house.openAccount();
    const requestId = randomUUID();
    await house.makeKey(call, { name: "a", requestId });
    await expect(house.makeKey(call, { ...other, requestId })).rejects.toMatchObject({
      reason: "REQUEST_ID_REUSED",
      metadata: { field },
    });
  });

  test("a request without any field but request_id is told from another", async () => {
    const { call } = await house.openAccount();
    const requestId = randomUUID();
    await house.makeKey(call, { requestId });
    await expect(house.makeKey(call, { requestId, name: "b" })).rejects.toMatchObject({ reason: "REQUEST_ID_REUSED" });
  });

  test("another key of the account does not get the secret by repeating the request", async () => {
    const { call } = await house.openAccount();
    const lesser = await house.makeKey(call, { scopes: [Scope.ACCOUNT] });
    const requestId = randomUUID();
    await house.makeKey(call, { requestId });
    await expect(house.makeKey(lesser.call, { requestId })).rejects.toMatchObject({
      reason: "REQUEST_ID_REUSED",
      metadata: { field: "authorization" },
    });
  });

  test("accounts do not share request_ids", async () => {
    const [one, other] = [await house.openAccount(), await house.openAccount()];
    const requestId = randomUUID();
    const first = await house.makeKey(one.call, { requestId });
    expect((await house.makeKey(other.call, { requestId })).keyId).not.toBe(first.keyId);
  });

  test("a refusal is not remembered", async () => {
    const { call } = await house.openAccount();
    const maker = await house.makeKey(call, { spendCeilingMicros: 1000n });
    const request = { requestId: randomUUID(), spendCeilingMicros: 1000n };
    const leaseId = await house.lease(maker.call);
    await expect(house.makeKey(maker.call, request)).rejects.toMatchObject({ reason: "SPEND_CEILING" });
    await house.refund(call, leaseId);
    expect((await house.makeKey(maker.call, request)).key.spendCeilingMicros).toBe(1000n);
  });

  test("a repeat is answered although the maker's ceiling is given away and the key is revoked", async () => {
    const { call } = await house.openAccount();
    const maker = await house.makeKey(call, { spendCeilingMicros: 1000n });
    const request = { requestId: randomUUID(), spendCeilingMicros: 1000n };
    const first = await house.makeKey(maker.call, request);
    expect((await house.makeKey(maker.call, request)).apiKey).toBe(first.apiKey);
    await revoke(call, first.keyId);
    expect((await house.makeKey(maker.call, request)).key.revokeTime).toBeDefined();
  });
});

describe("revoking", () => {
  test("a key stops any key of its account, and itself", async () => {
    const { call } = await house.openAccount();
    const one = await house.makeKey(call);
    const other = await house.makeKey(call, { scopes: [Scope.ACCOUNT] });
    expect((await revoke(other.call, one.keyId))?.revokeTime).toBeDefined();
    await expect(house.makeKey(one.call)).rejects.toMatchObject({ reason: "CREDENTIAL_INVALID" });
    expect((await revoke(other.call, other.keyId))?.revokeTime).toBeDefined();
    await expect(revoke(other.call, other.keyId)).rejects.toMatchObject({ reason: "CREDENTIAL_INVALID" });
  });

  test("revoking again keeps the first revoke_time", async () => {
    const { call } = await house.openAccount();
    const { keyId } = await house.makeKey(call);
    const first = await revoke(call, keyId);
    expect(await revoke(call, keyId)).toEqual(first);
  });

  test("a key of another account and one that never was give the same answer", async () => {
    const [mine, other] = [await house.openAccount(), await house.openAccount()];
    const foreign = await house.makeKey(other.call);
    const unknown = formatId("key", newUuid<"key">());
    const refusals = await Promise.all([foreign.keyId, unknown].map((keyId) => refusalOf(revoke(mine.call, keyId))));
    expect(refusals[0]).toMatchObject({ reason: "NOT_FOUND", metadata: {} });
    expect(refusals[1]).toEqual(refusals[0]);
    await house.makeKey(foreign.call);
  });

  test("a call that waited while its key was revoked does nothing", async () => {
    const account = await house.openAccount();
    const maker = await house.makeKey(account.call);
    const victim = await house.makeKey(account.call, { name: "victim" });
    const waiting = await whileLocked(account, async (run) => {
      const calls = [
        refusalOf(house.makeKey(maker.call, { name: "late" })),
        refusalOf(revoke(maker.call, victim.keyId)),
        refusalOf(house.lease(maker.call)),
      ];
      await lockWaiters(house.database, 3);
      await run(
        "update api_key set revoke_time = clock_timestamp() where owner_id = $1 and name = '' and maker_key_id is not null",
      );
      return calls;
    });
    for (const refusal of await Promise.all(waiting)) {
      expect(refusal).toMatchObject({ reason: "CREDENTIAL_INVALID" });
    }
    expect(await spentOf(account, "late")).toBeUndefined();
    await house.makeKey(victim.call);
  });

  test("a call that waited past its key's end does nothing", async () => {
    const account = await house.openAccount();
    const maker = await house.makeKey(account.call, { ttl: { seconds: 3600n } });
    const waiting = await whileLocked(account, async (run) => {
      const call = refusalOf(house.makeKey(maker.call, { name: "late" }));
      await lockWaiters(house.database, 1);
      await run("update api_key set expire_time = clock_timestamp() where owner_id = $1 and expire_time is not null");
      return [call];
    });
    expect(await waiting[0]).toMatchObject({ reason: "CREDENTIAL_INVALID" });
    expect(await spentOf(account, "late")).toBeUndefined();
  });

  test("a call that waited while its account was suspended does nothing", async () => {
    const account = await house.openAccount();
    const waiting = await whileLocked(account, async (run) => {
      const call = refusalOf(house.makeKey(account.call, { name: "late" }));
      await lockWaiters(house.database, 1);
      await run("update account set suspend_time = clock_timestamp() where owner_id = $1");
      return [call];
    });
    expect(await waiting[0]).toMatchObject({ reason: "ACCOUNT_SUSPENDED" });
    expect(await spentOf(account, "late")).toBeUndefined();
  });

  test("a key judges its ceiling by what is left after the wait", async () => {
    const account = await house.openAccount();
    const maker = await house.makeKey(account.call, { name: "maker", spendCeilingMicros: 1000n });
    const waiting = await whileLocked(account, async (run) => {
      const call = refusalOf(house.makeKey(maker.call, { spendCeilingMicros: 600n }));
      await lockWaiters(house.database, 1);
      await run("update api_key set spent_micros = 500 where owner_id = $1 and name = 'maker'");
      return [call];
    });
    expect(await waiting[0]).toMatchObject({ reason: "SPEND_CEILING", metadata: { remaining_micros: "500" } });
    expect(await spentOf(account, "maker")).toBe(500n);
  });
});

test("a secret is nowhere in the database", async () => {
  const { apiKey, call } = await house.openAccount();
  const made = await house.makeKey(call, { requestId: randomUUID() });
  const rows = await query<{ row: string }>(
    house.database,
    `select t::text as row from token t union all select k::text from api_key k union all
    select i::text from idempotency i union all select a::text from account a`,
  );
  const all = rows.map(({ row }) => row).join("\n");
  for (const secret of [apiKey, made.apiKey]) {
    expect(all).not.toContain(secret.slice("lh_key_".length, 20));
    expect(all).not.toContain(Buffer.from(secret).toString("hex").slice(20, 60));
  }
});

async function revoke(by: Call, keyId: string) {
  return (await house.account.revokeApiKey(create(RevokeApiKeyRequestSchema, { keyId }), by)).key;
}

/** What the key of this name has spent; undefined if there is none. */
async function spentOf(account: HouseAccount, name: string): Promise<bigint | undefined> {
  const [row] = await query<{ spent_micros: bigint }>(
    house.database,
    "select spent_micros from api_key where owner_id = $1 and name = $2",
    [account.ownerId, name],
  );
  return row?.spent_micros;
}

/** Runs work while the account's row is locked by another transaction, in which `run` changes the account's rows. */
async function whileLocked<Result>(
  account: HouseAccount,
  work: (run: (text: string) => Promise<unknown>) => Promise<Result>,
): Promise<Result> {
  return await house.database.transaction(async (transaction) => {
    await query(transaction, lockAccount, [account.ownerId]);
    return await work((text) => query(transaction, text, [account.ownerId]));
  });
}

async function refusalOf(answer: Promise<unknown>): Promise<unknown> {
  return await answer.then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** How long a key lasts, in microseconds of the database's clock. */
function lifeMicros(key: ApiKey): bigint {
  return microsOf(key.expireTime) - microsOf(key.createTime);
}

function microsOf(time: Timestamp | undefined): bigint {
  return (time?.seconds ?? 0n) * 1_000_000n + BigInt((time?.nanos ?? 0) / 1_000);
}
