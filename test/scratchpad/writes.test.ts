/** What a scratchpad promises those who change it together: who wins, how much fits, how long it lasts, and who may. */
import { describe, expect, test } from "vitest";
import { Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { seenError, seenReason } from "../server/seen-error.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { expireTimeOf, letExpire, openPad, padOf, rowsOf, Worker } from "./pad.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);
const { apiKey } = tenant.account;

async function openWorkers(spec: Parameters<typeof openPad>[1] = {}, request: Parameters<typeof openPad>[2] = {}) {
  const leaseId = await openPad(tenant, spec, request);
  return { leaseId, worker: new Worker(leasehold, apiKey, leaseId), elsewhere: new Worker(other, apiKey, leaseId) };
}

/** Runs work while everything that locks the lease waits, and gives what it left under way. */
async function whileLocked<Value>(leaseId: string, work: () => Promise<Value>): Promise<Value> {
  return await database.transaction(async (transaction) => {
    await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(leaseId)]);
    return await work();
  });
}

describe("expected_version", () => {
  test("lets exactly one of many writers at two servers win, who all saw the same version", async () => {
    const { worker, elsewhere } = await openWorkers();
    for (const expectedVersion of [0n, await worker.set("other", "x")]) {
      const key = expectedVersion === 0n ? "new" : "other";
      const tries = await Promise.allSettled(
        Array.from({ length: 20 }, (_, index) =>
          (index % 2 === 0 ? worker : elsewhere).set(key, `${index}`, { expectedVersion }),
        ),
      );
      expect(tries.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    }
  });

  test("tells the version that the entry is at, and 0 stands for none", async () => {
    const { worker } = await openWorkers();
    const version = await worker.set("key", "x");
    const refused = await seenError(worker.set("key", "y", { expectedVersion: 0n }));
    expect(refused.details.ErrorInfo).toMatchObject({
      reason: "VERSION_MISMATCH",
      metadata: { expected_version: "0", current_version: `${version}` },
    });
    expect(await seenReason(worker.delete("key", { expectedVersion: version + 1n }))).toBe("VERSION_MISMATCH");
    expect(await worker.delete("key", { expectedVersion: version })).toBe(version + 1n);
    expect(await worker.set("key", "z", { expectedVersion: 0n })).toBe(version + 2n);
  });
});

describe("a write that waited for the lease's lock", () => {
  test("is judged by what another server wrote meanwhile", async () => {
    const { leaseId, worker, elsewhere } = await openWorkers({}, { sizeBytes: 1_024n });
    const waiting = await whileLocked(leaseId, async () => {
      const writes = [worker, elsewhere].flatMap((at, index) => [
        at.set("made", `${index}`, { expectedVersion: 0n }),
        at.set(`large-${index}`, "x".repeat(300)),
      ]);
      await lockWaiters(database, 2);
      return writes;
    });
    const done = await Promise.allSettled(waiting);
    expect(done.filter(({ status }) => status === "fulfilled")).toHaveLength(2);
    const { entryCount, usedBytes, version } = await padOf(tenant, leaseId);
    expect({ entryCount, usedBytes, version }).toEqual({
      entryCount: 2n,
      usedBytes: 4n + 1n + 256n + 7n + 300n + 256n,
      version: 2n,
    });
  });

  test("is refused if the lease ended or the key was stopped in between", async () => {
    const { leaseId, worker } = await openWorkers();
    await worker.set("key", "before");
    const stopped = await whileLocked(leaseId, async () => {
      const writes = [seenReason(worker.set("key", "after")), seenReason(worker.append("key", "after"))];
      await lockWaiters(database, 1);
      await query(database, "update api_key set revoke_time = clock_timestamp() where owner_id = $1", [tenant.ownerId]);
      return writes;
    });
    expect(await Promise.all(stopped)).toEqual(["CREDENTIAL_INVALID", "CREDENTIAL_INVALID"]);
    await query(database, "update api_key set revoke_time = null where owner_id = $1", [tenant.ownerId]);
    const ended = await database.transaction(async (transaction) => {
      const lease = [leaseUuid(leaseId)];
      await query(transaction, "select from lease where lease_id = $1 for update", lease);
      const write = seenReason(worker.set("key", "after"));
      await lockWaiters(database, 1);
      await query(transaction, "update lease set due_time = clock_timestamp() where lease_id = $1", lease);
      return [write];
    });
    expect(await ended[0]).toBe("LEASE_ENDED");
  });
});

describe("room", () => {
  test("is exact whatever comes together: what fits is kept, what does not is told what is in use", async () => {
    const { leaseId, worker, elsewhere } = await openWorkers({}, { sizeBytes: 4_096n });
    const room = 256 + 6 + 250;
    const tries = await Promise.allSettled(
      Array.from({ length: 20 }, (_, index) =>
        (index % 2 === 0 ? worker : elsewhere).set(`key-${String(index).padStart(2, "0")}`, "x".repeat(250)),
      ),
    );
    expect(tries.filter(({ status }) => status === "fulfilled")).toHaveLength(Math.floor(4_096 / room));
    const { usedBytes } = await padOf(tenant, leaseId);
    const refused = await seenError(worker.append("key-xx", "x"));
    expect(refused.details.ErrorInfo).toMatchObject({
      reason: "SCRATCHPAD_FULL",
      metadata: { limit: "size_bytes", limit_value: "4096", value: `${usedBytes}` },
    });
  });

  test("is given back by a shorter value, a deletion and an end of time, and a smaller value always fits", async () => {
    const { leaseId, worker } = await openWorkers({}, { sizeBytes: 1_024n });
    await worker.set("key", "x".repeat(1_024 - 256 - 3));
    expect(await seenReason(worker.set("other", ""))).toBe("SCRATCHPAD_FULL");
    expect(await seenReason(worker.append("key", "x"))).toBe("SCRATCHPAD_FULL");
    await worker.set("key", "short");
    await worker.set("other", "x".repeat(490), { ttl: { seconds: 600n } });
    await letExpire(database, leaseId, "other");
    await worker.set("third", "x".repeat(490));
    expect(await padOf(tenant, leaseId)).toMatchObject({
      entryCount: 2n,
      usedBytes: BigInt(256 + 3 + 5 + 256 + 5 + 490),
    });
    await worker.delete("third");
    await worker.delete("key");
    expect(await padOf(tenant, leaseId)).toMatchObject({ entryCount: 0n, usedBytes: 0n });
  });

  test("of one entry is bounded by max_entry_bytes, also for what is appended together", async () => {
    const { worker } = await openWorkers({ maxEntryBytes: 100 });
    const refused = await seenError(worker.set("key", "x".repeat(101)));
    expect(refused.details.ErrorInfo).toMatchObject({
      reason: "BODY_TOO_LARGE",
      metadata: { limit: "max_entry_bytes", limit_bytes: "100", value_bytes: "101" },
    });
    const appends = await Promise.allSettled(Array.from({ length: 8 }, () => worker.append("log", "x".repeat(30))));
    expect(appends.filter(({ status }) => status === "fulfilled")).toHaveLength(3);
    expect(await worker.text("log")).toHaveLength(90);
  });

  test("a counter stays within 64 bits: an increment that would leave them is refused, and those beside it are done", async () => {
    const { worker } = await openWorkers();
    await worker.set("counter", `${2n ** 63n - 5n}`);
    const deltas = [1n, 10n, 2n, -1n, 100n];
    const done = await Promise.all(deltas.map((delta) => worker.increment("counter", delta).catch(() => undefined)));
    expect(done.map((answer) => answer !== undefined)).toEqual([true, false, true, true, false]);
    expect(await worker.text("counter")).toBe(`${2n ** 63n - 3n}`);
    for (const text of ["", "1.5", "0x10", " 1", "9223372036854775808", "01"]) {
      await worker.set("text", text);
      expect(await seenReason(worker.increment("text")), text).toBe("NOT_A_COUNTER");
    }
  });
});

describe("an entry's time", () => {
  test("never outlives its lease, and is the maker's: later appends and increments keep it, a set takes it anew", async () => {
    const { leaseId, worker } = await openWorkers();
    const lease = await tenant.show(leaseId);
    await worker.set("long", "x", { ttl: { seconds: 1_000_000n } });
    const end = await expireTimeOf(database, leaseId, "long");
    expect(end === null ? undefined : end / 1_000_000n).toBe(lease.expireTime?.seconds);
    await worker.append("log", "x", { ttl: { seconds: 60n } });
    await worker.increment("counter", 1n, { ttl: { seconds: 60n } });
    const [log, counter] = [
      await expireTimeOf(database, leaseId, "log"),
      await expireTimeOf(database, leaseId, "counter"),
    ];
    await worker.append("log", "y", { ttl: { seconds: 600n } });
    await worker.increment("counter");
    expect(await expireTimeOf(database, leaseId, "log")).toBe(log);
    expect(await expireTimeOf(database, leaseId, "counter")).toBe(counter);
    await worker.set("log", "z");
    expect(await expireTimeOf(database, leaseId, "log")).toBeNull();
  });

  test("once over, the entry is not there for anybody, with the sweeper stopped", async () => {
    const { leaseId, worker, elsewhere } = await openWorkers();
    await worker.set("key", "old", { ttl: { seconds: 60n } });
    await worker.increment("counter", 41n, { ttl: { seconds: 60n } });
    await letExpire(database, leaseId, "key");
    await letExpire(database, leaseId, "counter");
    expect(await seenReason(elsewhere.get("key"))).toBe("NOT_FOUND");
    expect(await elsewhere.list()).toEqual({});
    expect((await worker.increment("counter")).value).toBe(1n);
    expect(await elsewhere.set("key", "new", { expectedVersion: 0n })).toBeGreaterThan(0n);
    expect(await worker.list()).toEqual({ counter: "1", key: "new" });
  });

  test("once over, the sweeper frees its room though nobody calls", async () => {
    const { leaseId, worker } = await openWorkers();
    await worker.set("key", "x", { ttl: { seconds: 60n } });
    await worker.append("key", "more");
    await letExpire(database, leaseId, "key");
    await leasehold.sweep();
    expect(await padOf(tenant, leaseId)).toMatchObject({ entryCount: 0n, usedBytes: 0n });
    expect(await rowsOf(database, leaseId)).toMatchObject({ scratchpad_append: 0 });
  });
});

test("no more than a thousand entries that are gone are remembered, whatever was deleted", async () => {
  const { leaseId, worker } = await openWorkers({}, { sizeBytes: 10_485_760n });
  const keys = Array.from({ length: 1_300 }, (_, index) => `key-${index}`);
  await Promise.all(keys.map((key) => worker.set(key, "x")));
  await Promise.all(keys.map((key) => worker.delete(key)));
  await worker.set("last", "x");
  await worker.delete("last");
  const rows = await rowsOf(database, leaseId);
  expect(rows.scratchpad_entry).toBeGreaterThanOrEqual(1_000);
  // Those of the last batch are deleted by the statement that looked before.
  expect(rows.scratchpad_entry).toBeLessThanOrEqual(1_000 + 1);
});

test("nothing of an ended scratchpad is read or written, and nothing of it is left", async () => {
  const { leaseId, worker } = await openWorkers();
  await worker.set("key", "x");
  await worker.append("key", "y");
  await tenant.age(leaseId, 3_601);
  const calls = [worker.get("key"), worker.set("key", "z"), worker.increment("n"), worker.list(), worker.delete("key")];
  expect(new Set(await Promise.all(calls.map((call) => seenReason(call))))).toEqual(new Set(["LEASE_ENDED"]));
  await leasehold.sweep();
  expect(await rowsOf(database, leaseId)).toEqual({
    scratchpad: 0,
    scratchpad_entry: 0,
    scratchpad_append: 0,
    scratchpad_kept: 0,
  });
  const lease = await tenant.show(leaseId);
  expect(lease).toMatchObject({
    state: Lease_State.EXPIRED,
    details: { case: "scratchpad", value: { entryCount: 0n } },
  });
});

test("another tenant's scratchpad is like one that never was, for every call", async () => {
  const { leaseId, worker } = await openWorkers();
  await worker.set("key", "x");
  const stranger = await Tenant.open(leasehold);
  const outside = new Worker(leasehold, stranger.account.apiKey, leaseId);
  const unknown = new Worker(
    leasehold,
    stranger.account.apiKey,
    leaseId.replace(/.$/, leaseId.endsWith("0") ? "1" : "0"),
  );
  const calls = (at: Worker) => [
    at.get("key"),
    at.set("key", "y"),
    at.delete("key"),
    at.append("key", "y"),
    at.increment("key"),
    at.list(),
  ];
  const [seen, absent] = await Promise.all(
    [outside, unknown].map(async (at) => Promise.all(calls(at).map((call) => seenError(call)))),
  );
  expect(seen).toEqual(absent);
  expect(new Set(seen?.map(({ details }) => JSON.stringify(details)))).toHaveProperty("size", 1);
  expect(await worker.text("key")).toBe("x");
});
