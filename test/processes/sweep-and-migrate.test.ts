/** Tests `leasehold migrate` and `leasehold sweep` as processes. */
import { randomUUID } from "node:crypto";
import pg from "pg";
import { afterAll, expect, inject, test } from "vitest";
import { roomForAnHour, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { leasehold, Spawned } from "./spawned.ts";
import { temporaryFolder } from "./temporary-data-dir.ts";

const house = await TestLeasehold.start();
const { dataDir } = house.core.config;
const settings = {
  DATABASE_URL: house.databaseUrl,
  LEASEHOLD_DATA_DIR: dataDir,
  LEASEHOLD_SWEEP_INTERVAL_SECONDS: "0.02",
};

test("migrate makes the schema of an empty database, and says when there is nothing to do", async () => {
  const url = await emptyDatabase();
  const first = await leasehold(["migrate"], { env: { DATABASE_URL: url } });
  expect(first).toMatchObject({ exit: 0, stderr: "" });
  expect(first.stdout).toMatch(/^0001-initial-schema\n/);
  const second = await leasehold(["migrate", "--json"], { env: { DATABASE_URL: url } });
  expect(second).toMatchObject({ exit: 0, stderr: "" });
  expect(JSON.parse(second.stdout)).toEqual({ migrations: [] });
});

test("three migrations at once run each migration once", async () => {
  const env = { DATABASE_URL: await emptyDatabase() };
  const outcomes = await Promise.all([1, 2, 3].map(() => leasehold(["migrate", "--json"], { env })));
  expect(outcomes.map(({ exit }) => exit)).toEqual([0, 0, 0]);
  const ran = outcomes.flatMap(({ stdout }) => JSON.parse(stdout).migrations);
  expect(ran).toEqual([...new Set(ran)]);
  expect(ran).toContain("0001-initial-schema");
});

test("sweep ends what is due until it is asked to stop, and then exits with 0", async () => {
  const tenant = await Tenant.open(house);
  const { leaseId } = await tenant.create(roomForAnHour);
  await tenant.age(leaseId, 7_200);
  const sweep = new Spawned(["sweep"], { env: settings });
  await sweep.says(/"task":"destroy-content","done":1/);
  sweep.process.kill("SIGTERM");
  expect(await sweep.ended()).toMatchObject({ exit: 0, stdout: "" });
  expect((await tenant.show(leaseId)).destroyTime).toBeDefined();
});

test("sweep --once does what is due and says how much it was", async () => {
  const tenant = await Tenant.open(house);
  for (let count = 0; count < 3; count++) {
    const { leaseId } = await tenant.create(roomForAnHour);
    await tenant.age(leaseId, 7_200);
  }
  const outcome = await leasehold(["sweep", "--once"], { env: { ...settings, LEASEHOLD_LOG_LEVEL: "warn" } });
  expect(outcome).toMatchObject({ exit: 0, stderr: "" });
  expect(outcome.stdout).toMatch(/^end-leases +3$/m);
  expect(outcome.stdout).toMatch(/^destroy-content +3$/m);
});

test("a sweeper without the keys of leases that live does not start, and says why in one line", async () => {
  await (await Tenant.open(house)).create(roomForAnHour);
  const outcome = await leasehold(["sweep"], {
    env: { ...settings, LEASEHOLD_KEYS_DIR: await temporaryFolder() },
  });
  expect(outcome).toMatchObject({ exit: 1, stdout: "" });
  expect(outcome.stderr).toMatch(/^leasehold: .*key.*\n$/i);
});

/** Without a schema. Dropped after the file's tests. */
async function emptyDatabase(): Promise<string> {
  const name = `test_${randomUUID().replaceAll("-", "")}`;
  await runOnServer(`create database ${name}`);
  names.push(name);
  const url = new URL(inject("postgresUrl"));
  url.pathname = `/${name}`;
  return url.href;
}

const names: string[] = [];
afterAll(async () => {
  for (const name of names) {
    await runOnServer(`drop database if exists ${name} with (force)`);
  }
});

async function runOnServer(text: string): Promise<void> {
  const server = new pg.Client({ connectionString: inject("postgresUrl") });
  await server.connect();
  try {
    await server.query(text);
  } finally {
    await server.end();
  }
}
