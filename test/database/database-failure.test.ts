/** Design 8 and 10: what a failing database, or the way to it, means to callers, and that the process outlives it. */
import pg from "pg";
import { afterAll, expect, test } from "vitest";
import { Database } from "../../src/database/database.ts";
import { readStatement, writeStatement } from "../../src/database/statement.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { testDatabaseUrl } from "../support/test-database.ts";
import { WayToPostgres } from "../support/way-to-postgres.ts";

const url = await testDatabaseUrl();
const database = await Database.connect({ url, poolSize: 4, lockTimeoutMs: 50 });
const patient = await Database.connect({ url, poolSize: 4, lockTimeoutMs: 60_000 });
const operator = new pg.Client({ connectionString: url });
await operator.connect();
afterAll(async () => {
  await Promise.all([database.close(), patient.close(), operator.end()]);
});

await operator.query("create table thing (id int primary key, value int not null check (value >= 0))");
await operator.query("insert into thing values (1, 0)");

const readThing = readStatement<{ value: number }>("read-thing", "select value from thing where id = 1");
const raiseThing = writeStatement<{ value: number }>(
  "raise-thing",
  "update thing set value = value + 1 where id = 1 returning value",
);
const spoilThing = writeStatement<never>("spoil-thing", "update thing set value = -1 where id = 1");
const lookUnderLock = readStatement<{ value: number }>(
  "look-under-lock",
  "select value from thing where id = 1 for share",
);

/** Runs work while the row is locked elsewhere, and lets the lock go after it. */
async function whileLocked<Result>(work: () => Promise<Result>): Promise<Result> {
  await operator.query("begin");
  await operator.query("select from thing for update");
  try {
    return await work();
  } finally {
    await operator.query("rollback");
  }
}

/** Ends every connection that waits for a lock, as a crash of its backend would. */
async function breakWaiting(): Promise<void> {
  await lockWaiters(database, 1);
  await operator.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
  );
}

test("a lock that is not given in time is UNAVAILABLE with a delay to retry after, as nothing was done", async () => {
  const raised = whileLocked(() => database.run(raiseThing, []));
  await expect(raised).rejects.toMatchObject({ reason: "DATABASE_UNAVAILABLE", retryAfterMs: 500 });
  expect(await database.run(readThing, [])).toEqual([{ value: 0 }]);
});

test("a connection that breaks under a write leaves the outcome unknown, with nothing to retry after", async () => {
  const raised = whileLocked(async () => {
    const running = patient.run(raiseThing, []);
    await Promise.all([
      breakWaiting(),
      expect(running).rejects.toMatchObject({ reason: "OUTCOME_UNKNOWN", retryAfterMs: undefined }),
    ]);
  });
  await raised;
});

test.each([
  ["a write that can be found again", () => patient.run(raiseThing, [], { repeatable: true })],
  ["a read", () => patient.run(lookUnderLock, [])],
])("a connection that breaks under %s is UNAVAILABLE", async (_, work) => {
  await whileLocked(async () => {
    await Promise.all([
      breakWaiting(),
      expect(work()).rejects.toMatchObject({ reason: "DATABASE_UNAVAILABLE", retryAfterMs: 500 }),
    ]);
  });
});

test("a transaction whose connection breaks is rolled back, and the next one has a sound connection", async () => {
  await whileLocked(async () => {
    const work = patient.transaction(async (transaction) => {
      await transaction.run(raiseThing, []);
    });
    await Promise.all([breakWaiting(), expect(work).rejects.toMatchObject({ reason: "OUTCOME_UNKNOWN" })]);
  });
  expect(await patient.transaction((transaction) => transaction.run(readThing, []))).toEqual([{ value: 0 }]);
});

test("a transaction that fails leaves nothing behind on its connection", async () => {
  const failing = database.transaction(async (transaction) => {
    await transaction.run(raiseThing, []);
    await transaction.run(spoilThing, []);
  });
  await expect(failing).rejects.toMatchObject({ code: "23514" });
  const [row] = await Promise.all([database.run(readThing, [])]);
  expect(row).toEqual([{ value: 0 }]);
});

test("connections that are ended while idle, as by a restart of Postgres, are replaced without a failed call", async () => {
  await Promise.all([database.run(readThing, []), database.run(readThing, [])]);
  await operator.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'leasehold'",
  );
  const idle =
    "select count(*)::int as open from pg_stat_activity where datname = current_database() and application_name = 'leasehold'";
  await expect.poll(async () => (await operator.query(idle)).rows).toEqual([{ open: 0 }]);
  await expect.poll(() => database.run(readThing, []).catch(() => "away")).toEqual([{ value: 0 }]);
});

test("a Postgres that cannot be reached is UNAVAILABLE to reads and to writes, and is used again once it is back", async () => {
  const way = await WayToPostgres.open(url);
  const distant = await Database.connect({ url: way.url, poolSize: 1 });
  way.close();
  await expect
    .poll(() => distant.run(readThing, []).catch((error: unknown) => error))
    .toMatchObject({
      reason: "DATABASE_UNAVAILABLE",
      cause: { code: "ECONNREFUSED" },
    });
  await expect(distant.run(raiseThing, [])).rejects.toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
  await way.reopen();
  expect(await distant.run(readThing, [])).toEqual([{ value: 0 }]);
  await distant.close();
  way.close();
});

test("a call that gets no connection in time is UNAVAILABLE", async () => {
  const narrow = await Database.connect({ url, poolSize: 1, acquireTimeoutMs: 20 });
  const refused = narrow.transaction(async () => {
    await expect(narrow.run(raiseThing, [])).rejects.toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
  });
  await refused;
  await narrow.close();
});

test("a statement's own fault is thrown as it is, for the server to report as one", async () => {
  await expect(database.run(spoilThing, [])).rejects.toMatchObject({ code: "23514" });
});
