/** What is done of changes that fail, come late or come again, and what the refused ones learn. */
import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { expect, test, vi } from "vitest";
import { ApiKey_Scope as Scope } from "#gen/leasehold/v1/account_pb.js";
import { AppendToEntryRequestSchema, IncrementEntryRequestSchema } from "#gen/leasehold/v1/scratchpad_pb.js";
import type { Caller } from "../../src/account/caller.ts";
import type { KeyUuid } from "../../src/ids/ids.ts";
import { EntryChanges } from "../../src/scratchpad/entry-changes.ts";
import { EntryCounters } from "../../src/scratchpad/entry-counters.ts";
import { EntryReads } from "../../src/scratchpad/entry-reads.ts";
import { sealValue } from "../../src/scratchpad/entry-seals.ts";
import { type EntryWrite, EntryWrites } from "../../src/scratchpad/entry-writes.ts";
import { writeKinds } from "../../src/scratchpad/write-entries-statement.ts";
import { seenError, seenReason } from "../server/seen-error.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { leaseUuid, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { letExpire, openPad, padOf, Worker } from "./pad.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const { core, database } = leasehold;
const tenant = await Tenant.open(leasehold);
const { apiKey } = tenant.account;

async function openWorkers(...asked: Parameters<typeof openPad> extends [unknown, ...infer Rest] ? Rest : never) {
  const leaseId = await openPad(tenant, ...asked);
  return { leaseId, worker: new Worker(leasehold, apiKey, leaseId), elsewhere: new Worker(other, apiKey, leaseId) };
}

/** Changes of every kind, each with a request_id: the same calls each time. */
function repeatableCalls(): ((at: Worker) => Promise<unknown>)[] {
  const [set, remove, append, increment] = Array.from({ length: 4 }, () => ({ requestId: randomUUID() }));
  return [
    (at) => at.set("set", "x", set),
    (at) => at.delete("set", remove),
    (at) => at.append("log", "x", append),
    (at) => at.increment("count", 7n, increment),
  ];
}

test("twins of a delete that finds nothing find nothing, also if they wait for each other at two servers", async () => {
  const { leaseId, worker, elsewhere } = await openWorkers();
  await worker.set("there", "x");
  const [requestId, reused] = [randomUUID(), randomUUID()];
  const deletes = await database.transaction(async (transaction) => {
    await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(leaseId)]);
    const begun = [worker, elsewhere].map((at) => at.delete("absent", { requestId }));
    await lockWaiters(database, 2);
    return begun;
  });
  expect(await Promise.all(deletes)).toEqual([0n, 0n]);
  const others = await database.transaction(async (transaction) => {
    await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(leaseId)]);
    const first = worker.delete("absent", { requestId: reused });
    await lockWaiters(database, 1);
    const second = seenReason(elsewhere.delete("there", { requestId: reused }));
    await lockWaiters(database, 2);
    return [first, second];
  });
  expect(await Promise.all(others)).toEqual([0n, "REQUEST_ID_REUSED"]);
  expect(await worker.text("there")).toBe("x");
});

test("a repeat is refused as any other call once its key is stopped or its lease has ended, and its record is emptied", async () => {
  const { leaseId, worker, elsewhere } = await openWorkers();
  const key = await tenant.accounts.createApiKey({ name: "stopped", scopes: [Scope.READ, Scope.WRITE] });
  const stopped = new Worker(leasehold, key.apiKey, leaseId);
  const calls = repeatableCalls();
  for (const call of calls) {
    await call(stopped);
  }
  await tenant.accounts.revokeApiKey({ keyId: required(key.key).keyId });
  const refused = await Promise.all(calls.map((call) => seenReason(call(stopped))));
  expect(refused).toEqual(calls.map(() => "CREDENTIAL_INVALID"));
  for (const call of calls) {
    await call(worker);
    await call(elsewhere);
  }
  await tenant.age(leaseId, 3_601);
  const afterTheEnd = async (at: Worker) => Promise.all(calls.map((call) => seenReason(call(at))));
  expect(await afterTheEnd(worker)).toEqual(calls.map(() => "LEASE_ENDED"));
  await leasehold.sweep();
  // This server has not heard of the end, and knows the lease and its key.
  expect(await afterTheEnd(elsewhere)).toEqual(calls.map(() => "LEASE_ENDED"));
  const left = await query<{ digests: Buffer; answer: Buffer | null }>(
    database,
    "select digests, answer from idempotency where lease_id = $1 and scope >= 10",
    [leaseUuid(leaseId)],
  );
  expect(left).toEqual(calls.map(() => ({ digests: Buffer.alloc(0), answer: null })));
});

test("an increment is refused for its range by the counter as it is, and nobody else learns of it", async () => {
  const { leaseId, worker, elsewhere } = await openWorkers();
  const most = 2n ** 63n - 1n;
  expect((await worker.increment("count", most)).value).toBe(most);
  const reader = await tenant.accounts.createApiKey({ name: "reader", scopes: [Scope.READ] });
  const refused = await seenReason(new Worker(leasehold, reader.apiKey, leaseId).increment("count"));
  expect(refused).toBe("SCOPE_MISSING");
  await elsewhere.set("count", "41");
  expect((await worker.increment("count")).value).toBe(42n);
  await elsewhere.set("count", "not a number");
  expect(await seenReason(worker.increment("count", most))).toBe("NOT_A_COUNTER");
  await worker.set("count", "0");
  await worker.increment("count", most);
  const error = await seenError(worker.increment("count"));
  expect(error.details.ErrorInfo).toMatchObject({ reason: "OUT_OF_BOUNDS", metadata: { field: "delta", max: "0" } });
  await tenant.age(leaseId, 3_601);
  expect(await seenReason(worker.increment("count"))).toBe("LEASE_ENDED");
});

test("what a batch has done is not done again because what came behind it failed", async () => {
  const [waits, done] = await twoOfOneLane();
  await new Worker(leasehold, apiKey, waits).set("old", "x", { ttl: { seconds: 60n } });
  await letExpire(database, waits, "old");
  const { write, writes } = await insideWriter();
  const asked = [await write(done, "opens", "x"), await write(waits, "key", "x"), await write(done, "log", "x")];
  const fault = vi.spyOn(core.expiry, "expire").mockRejectedValue(new Error("a fault of the statement's own"));
  // The first goes at once, and the others gather behind it.
  const outcomes = await Promise.allSettled(asked.map((each) => writes.write(each))).finally(() => fault.mockRestore());
  expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(await new Worker(leasehold, apiKey, done).list()).toEqual({ opens: "x", log: "x" });
  expect(await padOf(tenant, done)).toMatchObject({ entryCount: 2n, version: 2n });
  expect(await new Worker(leasehold, apiKey, waits).set("key", "x")).toBe(3n);
});

test.each([
  ["appends", "append", "1111"],
  ["increments", "increment", "4"],
] as const)(
  "%s that could not be made together are made once each, whichever of them fails",
  async (_, kind, value) => {
    const leaseId = await openPad(tenant);
    const { writes, [kind]: change } = await insideWriter();
    const requestId = randomUUID();
    await change(leaseId, requestId);
    const write = writes.write.bind(writes);
    let tries = 0;
    const spy = vi.spyOn(writes, "write").mockImplementation(async (asked) => {
      tries += 1;
      // The first opens the lane, the second is for all others, of which one was made before: they go each by itself.
      return tries === 5 ? Promise.reject(new Error("a fault of the statement's own")) : await write(asked);
    });
    const asked = [change(leaseId), change(leaseId, requestId), change(leaseId), change(leaseId)];
    const outcomes = await Promise.allSettled(asked).finally(() => spy.mockRestore());
    expect(outcomes.filter(({ status }) => status === "rejected")).toHaveLength(1);
    await change(leaseId);
    expect(await new Worker(leasehold, apiKey, leaseId).text("key")).toBe(value);
  },
);

test("a write that does not fit finds the room of every entry whose time is over, however many those are", async () => {
  const { leaseId, worker } = await openWorkers({}, { sizeBytes: 262_144n });
  const keys = Array.from({ length: 900 }, (_, index) => `key-${String(index).padStart(3, "0")}`);
  await Promise.all(keys.map((key) => worker.set(key, "", { ttl: { seconds: 600n } })));
  await query(database, "update scratchpad_entry set expire_time = update_time where lease_id = $1", [
    leaseUuid(leaseId),
  ]);
  await worker.set("large", "x".repeat(262_144 - 256 - 5));
  expect(await padOf(tenant, leaseId)).toMatchObject({ entryCount: 1n, usedBytes: 262_144n, version: 1_801n });
});

test("a key that has sealed as often as it may seals no more, and what it holds can still be deleted", async () => {
  const { leaseId, worker } = await openWorkers();
  const sealCount = async () => {
    const [row] = await query<{ seal_count: bigint }>(database, "select seal_count from lease where lease_id = $1", [
      leaseUuid(leaseId),
    ]);
    return row?.seal_count;
  };
  const before = (await sealCount()) ?? 0n;
  await worker.set("set", "x");
  await worker.append("set", "x");
  await worker.increment("count");
  await worker.increment("count", 1n, { requestId: randomUUID() });
  await worker.delete("count");
  expect(await sealCount()).toBe(before + 5n);
  await query(database, "update lease set seal_count = $2 where lease_id = $1", [leaseUuid(leaseId), 2 ** 31]);
  for (const call of [worker.set("set", "y"), worker.append("set", "y"), worker.increment("count")]) {
    const refused = await seenError(call);
    expect(refused.details.ErrorInfo).toMatchObject({
      reason: "LIMIT_REACHED",
      metadata: { limit: "seals_per_lease" },
    });
  }
  expect(await worker.text("set")).toBe("xx");
  expect(await worker.delete("set")).toBeGreaterThan(0n);
});

test("a counter that outgrows its scratchpad's entries is told its size, and stays", async () => {
  const { worker } = await openWorkers({ maxEntryBytes: 1 });
  await worker.increment("count", 9n);
  const refused = await seenError(worker.increment("count"));
  expect(refused.details.ErrorInfo).toMatchObject({
    reason: "BODY_TOO_LARGE",
    metadata: { limit: "max_entry_bytes", limit_bytes: "1", value_bytes: "2" },
  });
  expect(await worker.text("count")).toBe("9");
});

test("whatever many workers do to few entries, what is in use is what the entries take, and no version is given twice", async () => {
  const { leaseId, worker, elsewhere } = await openWorkers({ maxEntryBytes: 200 }, { sizeBytes: 4_096n });
  const given: bigint[] = [];
  const note = ({ version }: { version: bigint }) => {
    given.push(version);
  };
  const work = async (at: Worker, seed: number) => {
    for (let step = 0; step < 40; step++) {
      const [key, turn] = [`key-${(seed * 7 + step * 3) % 9}`, (seed + step * 5) % 6];
      const requestId = step % 3 === 0 ? randomUUID() : "";
      const change = [
        async () => note({ version: await at.set(key, "x".repeat((step * 13) % 200), { requestId }) }),
        async () => note(await at.append(key, "y".repeat(1 + ((step * 7) % 50)), { requestId })),
        async () => note(await at.increment(`n-${key}`, BigInt(step * 997), { requestId, ttl: { seconds: 600n } })),
        async () => note({ version: await at.delete(key, { requestId }) }),
        async () => letExpire(database, leaseId, `n-${key}`),
        async () => note({ version: await at.set(key, "z", { ttl: { seconds: 600n }, requestId }) }),
      ][turn];
      await change?.().catch(async (error: unknown) => {
        expect(["SCRATCHPAD_FULL", "BODY_TOO_LARGE"]).toContain(await seenReason(Promise.reject(error)));
      });
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, seed) => work(seed % 2 === 0 ? worker : elsewhere, seed)));
  await leasehold.sweep();
  const versions = given.filter((version) => version > 0n);
  expect(new Set(versions).size).toBe(versions.length);
  const entries = Object.entries(await worker.list());
  const [appends] = await query<{ count: bigint }>(
    database,
    "select count(*) from scratchpad_append where lease_id = $1",
    [leaseUuid(leaseId)],
  );
  const taken = entries.reduce((bytes, [key, value]) => bytes + key.length + value.length + 256, 0);
  expect(await padOf(tenant, leaseId)).toMatchObject({
    entryCount: BigInt(entries.length),
    usedBytes: BigInt(taken) + 128n * (appends?.count ?? -1n),
  });
});

/** Two scratchpads whose writes share batches. */
async function twoOfOneLane(): Promise<[string, string]> {
  const [first, ...others] = await Promise.all(Array.from({ length: 12 }, () => openPad(tenant)));
  const parity = (leaseId: string) => Number.parseInt(leaseUuid(leaseId).slice(-1), 16) % 2;
  const second = others.find((leaseId) => parity(leaseId) === parity(required(first)));
  return [required(first), required(second)];
}

/** The part of the server that writes, so that what is asked of it in one turn is known to come together. */
async function insideWriter() {
  const [row] = await query<{ key_id: KeyUuid }>(database, "select key_id from api_key where owner_id = $1 limit 1", [
    tenant.ownerId,
  ]);
  const caller: Caller = { ownerId: tenant.ownerId, keyId: required(row).key_id };
  const reads = new EntryReads(database, core.seals);
  const { expiry, wakeups } = core;
  const digestKey = Buffer.alloc(32);
  const writes = new EntryWrites({ database, reads, expiry, wakeups, digestKey });
  const options = { reads, writes, seals: core.seals };
  const changes = new EntryChanges(options);
  const counters = new EntryCounters(options);
  const write = async (leaseId: string, key: string, text: string): Promise<EntryWrite> => {
    const pad = await reads.place(caller, leaseUuid(leaseId));
    const value = sealValue(core.seals, await core.seals.keyOf(pad), pad.lease_id, Buffer.from(text));
    const calls = [{ repeatable: undefined, step: 1, offsetBytes: 0 }];
    return {
      caller,
      pad,
      kind: writeKinds.append,
      key,
      expectedVersion: undefined,
      ttlMicros: undefined,
      value,
      calls,
    };
  };
  const append = (leaseId: string, requestId = "") =>
    changes.append(
      caller,
      create(AppendToEntryRequestSchema, { leaseId, key: "key", value: Buffer.from("1"), requestId }),
    );
  const increment = (leaseId: string, requestId = "") =>
    counters.increment(caller, create(IncrementEntryRequestSchema, { leaseId, key: "key", requestId }));
  return { write, writes, append, increment };
}
