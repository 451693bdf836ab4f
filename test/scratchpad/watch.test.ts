/** A watcher of a scratchpad gets what there is and then every change, from any server, and costs the database nothing while it waits. */
import { describe, expect, test, vi } from "vitest";
import { findChanges } from "../../src/scratchpad/entry-statements.ts";
import { findNewerVersions } from "../../src/wakeups/version-watch-statement.ts";
import { seenError, seenReason } from "../server/seen-error.ts";
import { doors, leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { letExpire, openPad, padOf, rowsOf, Worker } from "./pad.ts";
import { Replica } from "./replica.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);
const { apiKey } = tenant.account;

async function openWorkers(request: Parameters<typeof openPad>[2] = {}) {
  const leaseId = await openPad(tenant, {}, request);
  return { leaseId, worker: new Worker(leasehold, apiKey, leaseId), elsewhere: new Worker(other, apiKey, leaseId) };
}

describe.each(doors)("through the %s door", (door) => {
  test("tells what there is, and then each change made at this server or another, in order", async () => {
    const { leaseId, worker, elsewhere } = await openWorkers();
    await worker.set("b", "1");
    await worker.set("a", "2");
    await worker.delete("b");
    using watcher = new Replica(apiKey, leasehold, door, { leaseId });
    await watcher.until(3n);
    expect(watcher.told).toEqual(["SET a 2"]);
    await elsewhere.append("log", "one");
    await watcher.until(4n);
    await worker.append("log", "two");
    await watcher.until(5n);
    await elsewhere.increment("count");
    await watcher.until(6n);
    await elsewhere.delete("a");
    await watcher.until(7n);
    expect(watcher.told.slice(1)).toEqual(["SET log one", "APPENDED log two", "SET count 1", "DELETED a"]);
  });

  test("goes on behind a version without a gap, and tells of many changes of an entry once", async () => {
    const { leaseId, worker, elsewhere } = await openWorkers();
    await worker.set("kept", "x");
    await worker.append("log", "one,");
    await worker.append("log", "two,");
    const seen = await worker.set("gone", "x");
    for (let round = 0; round < 3; round++) {
      await elsewhere.set("often", `${round}`);
      await worker.append("log", `${round},`);
    }
    const last = await worker.delete("gone");
    using watcher = new Replica(apiKey, other, door, { leaseId, afterVersion: seen });
    watcher.entries.set("log", "one,two,");
    await watcher.until(last);
    expect(watcher.told).toEqual(["SET often 2", "APPENDED log 0,1,2,", "DELETED gone"]);
    expect(watcher.entries.get("log")).toBe("one,two,0,1,2,");
  });

  test("tells only of a prefix, and that nothing happened where many changes were others'", async () => {
    const { leaseId, worker } = await openWorkers();
    await worker.set("tasks/1", "x");
    using watcher = new Replica(apiKey, leasehold, door, { leaseId, prefix: "tasks/" });
    await watcher.until(1n);
    await worker.set("other", "x");
    const last = await worker.set("tasks/2", "y");
    await watcher.until(last);
    expect(watcher.told).toEqual(["SET tasks/1 x", "SET tasks/2 y"]);
  });
});

test("a log of a thousand appends is gathered into one value by the sweeper, and nobody sees a change", async () => {
  const { leaseId, worker, elsewhere } = await openWorkers();
  for (const line of ["one,", "two,", "three,"]) {
    await worker.append("log", line);
  }
  using watcher = new Replica(apiKey, leasehold, "native", { leaseId });
  await watcher.until(3n);
  // As if there were so many.
  const lease = [leaseUuid(leaseId), 998];
  await query(database, "update scratchpad_entry set append_count = append_count + $2 where lease_id = $1", lease);
  await query(database, "update lease set overhead_bytes = overhead_bytes + 128 * $2 where lease_id = $1", lease);
  await leasehold.sweep();
  expect(await rowsOf(database, leaseId)).toMatchObject({ scratchpad_append: 0 });
  expect((await padOf(tenant, leaseId)).usedBytes).toBe(BigInt(3 + 14 + 256));
  expect(await elsewhere.get("log")).toMatchObject({ version: 3n, valueBytes: 14n });
  const { version, offset } = await worker.append("log", "four");
  expect(offset).toBe(14n);
  await watcher.until(version);
  expect(watcher.told).toEqual(["SET log one,two,three,", "APPENDED log four"]);
  expect(await elsewhere.text("log")).toBe("one,two,three,four");
});

test("the end of an entry's time is told when the sweeper has removed it", async () => {
  const { leaseId, worker } = await openWorkers();
  await worker.set("key", "x", { ttl: { seconds: 60n } });
  using watcher = new Replica(apiKey, leasehold, "native", { leaseId });
  await watcher.until(1n);
  const next = watcher.next();
  await letExpire(database, leaseId, "key");
  await leasehold.sweep();
  await next;
  expect(watcher.told).toEqual(["SET key x", "EXPIRED key"]);
});

test("a watcher that has missed deletions nobody remembers is told so, and one that starts anew is not", async () => {
  const { leaseId, worker } = await openWorkers({ sizeBytes: 10_485_760n });
  const keys = Array.from({ length: 1_200 }, (_, index) => `key-${index}`);
  await Promise.all(keys.map((key) => worker.set(key, "x")));
  await Promise.all(keys.map((key) => worker.delete(key)));
  await worker.set("last", "x");
  const latest = await worker.delete("last");
  using late = new Replica(apiKey, leasehold, "native", { leaseId, afterVersion: 1_200n });
  const refused = await seenError(late.next());
  expect(refused.details.ErrorInfo).toMatchObject({
    reason: "VERSION_GONE",
    metadata: { version: "1200", latest_version: `${latest}` },
  });
  using astray = new Replica(apiKey, leasehold, "native", { leaseId, afterVersion: latest + 1n });
  expect(await seenReason(astray.next())).toBe("VERSION_GONE");
  using anew = new Replica(apiKey, leasehold, "native", { leaseId });
  await anew.until(latest);
  expect(anew.told).toEqual([]);
});

/** Does something behind the first look of a watch, which tells only some of what it found. */
function afterFirstLook(act: () => Promise<unknown>): void {
  const { run } = database;
  let isFirst = true;
  const spy = vi.spyOn(database, "run").mockImplementation(async (statement, ...asked) => {
    const isLook: boolean = statement === findChanges;
    const rows = await run.call(database, statement, ...asked);
    if (isLook && isFirst) {
      isFirst = false;
      spy.mockRestore();
      await act();
    }
    return rows;
  });
}

describe("where one look finds more than a page", () => {
  const large = "x".repeat(700_000);

  test("an entry that was set early and appended to late is told whole, and what was told is not told again", async () => {
    const { leaseId, worker } = await openWorkers({ sizeBytes: 33_554_432n });
    await worker.set("log", "base,");
    await worker.set("a", large);
    await worker.set("b", large);
    await worker.append("log", "one,");
    afterFirstLook(async () => {
      await worker.append("log", "two,");
      await worker.append("a", "more");
    });
    using watcher = new Replica(apiKey, leasehold, "native", { leaseId });
    await watcher.until(6n);
    expect(watcher.told).toEqual([`SET a ${large}`, `SET b ${large}`, "SET log base,one,two,", "APPENDED a more"]);
  });

  test("large logs that grow all the time are told as they grow, and not again and again", async () => {
    const { leaseId, worker } = await openWorkers({ sizeBytes: 33_554_432n });
    const logs = ["a", "b", "c"];
    for (const key of logs) {
      await worker.set(key, large);
    }
    const seen = 3n;
    for (const key of logs) {
      await worker.append(key, `+${key}`);
    }
    using resumed = new Replica(apiKey, leasehold, "native", { leaseId, afterVersion: seen });
    for (const key of logs) {
      resumed.entries.set(key, large);
    }
    expect((await resumed.next()).caughtUpVersion).toBe(0n);
    expect((await resumed.next()).caughtUpVersion).toBe(0n);
    expect((await resumed.next()).caughtUpVersion).toBe(6n);
    expect(resumed.told).toEqual(logs.map((key) => `APPENDED ${key} +${key}`));
  });

  test("a stream that is so slow that a deletion is forgotten before it is told ends, and says from where", async () => {
    const { leaseId, worker } = await openWorkers({ sizeBytes: 33_554_432n });
    await worker.set("a", large);
    await worker.set("b", large);
    await worker.set("c", large);
    afterFirstLook(async () => {
      const version = await worker.delete("b");
      await query(database, "delete from scratchpad_entry where lease_id = $1 and state = 2", [leaseUuid(leaseId)]);
      await query(database, "update scratchpad set forgotten_version = $2 where lease_id = $1", [
        leaseUuid(leaseId),
        version,
      ]);
    });
    using watcher = new Replica(apiKey, leasehold, "native", { leaseId });
    const refused = await seenError(watcher.until(4n));
    expect(refused.details.ErrorInfo).toMatchObject({
      reason: "VERSION_GONE",
      metadata: { oldest_version: "4", latest_version: "4" },
    });
  });

  test("the last word is that it was all, though what was left went meanwhile", async () => {
    const { leaseId, worker } = await openWorkers({ sizeBytes: 33_554_432n });
    await worker.set("a", large);
    await worker.set("b", large);
    await worker.set("c", large, { ttl: { seconds: 60n } });
    afterFirstLook(() => letExpire(database, leaseId, "c"));
    using watcher = new Replica(apiKey, leasehold, "native", { leaseId });
    await watcher.until(3n);
    expect([...watcher.entries.keys()]).toEqual(["a", "b"]);
  });
});

test("large values come page by page, and a slow watcher is waited for", async () => {
  const { leaseId, worker } = await openWorkers({ sizeBytes: 33_554_432n });
  const value = "x".repeat(700_000);
  await Promise.all(Array.from({ length: 6 }, (_, index) => worker.set(`key-${index}`, value)));
  using watcher = new Replica(apiKey, leasehold, "native", { leaseId });
  await watcher.until(6n);
  expect(watcher.entries.size).toBe(6);
  expect([...watcher.entries.values()].every((text) => text === value)).toBe(true);
});

test.each([
  ["deleted at another server", (leaseId: string) => tenant.at(other).leases.deleteLease({ leaseId })],
  ["over, with the sweeper stopped", (leaseId: string) => tenant.age(leaseId, 3_600)],
])("is cut when its lease is %s", async (_, end) => {
  const { leaseId } = await openWorkers();
  using watcher = new Replica(apiKey, leasehold, "native", { leaseId });
  await watcher.next();
  const cut = seenReason(watcher.next());
  await end(leaseId);
  expect(await cut).toBe("LEASE_ENDED");
});

test("a hundred idle watchers cost the database what one costs: a look for all, every two seconds", async () => {
  const { leaseId } = await openWorkers();
  const watchers = await Promise.all(
    Array.from({ length: 100 }, async () => {
      const watcher = new Replica(apiKey, leasehold, "native", { leaseId });
      await watcher.next();
      return watcher;
    }),
  );
  const waiting = watchers.map((watcher) => watcher.next().catch(() => undefined));
  const run = vi.spyOn(leasehold.core.database, "run");
  const looks = () => run.mock.calls.filter(([statement]) => statement === findNewerVersions).length;
  await vi.waitFor(() => expect(looks()).toBe(2), { timeout: 10_000, interval: 20 });
  expect(run.mock.calls.length).toBeLessThan(10);
  run.mockRestore();
  for (const watcher of watchers) {
    watcher[Symbol.dispose]();
  }
  await Promise.all(waiting);
});
