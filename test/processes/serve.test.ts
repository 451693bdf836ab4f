/** Tests `leasehold serve`: what it refuses to start over, what it tells of itself, and how it ends. */

import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile, stat } from "node:fs/promises";
import { type ClientRequest, request } from "node:http";
import { join } from "node:path";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { type Connection, connect } from "../../src/client/connection.ts";
import { Database } from "../../src/database/database.ts";
import { choosePort } from "../../src/processes/listening.ts";
import { storageOf } from "../support/tenant.ts";
import { testDatabaseUrl } from "../support/test-database.ts";
import { query } from "../support/test-query.ts";
import { leasehold, Spawned } from "./spawned.ts";
import { temporaryFolder } from "./temporary-data-dir.ts";

const databaseUrl = await testDatabaseUrl();
const adminToken = "the-admin-token-of-this-test";
const dataDir = await temporaryFolder(afterAll);
/** All servers of this file share one database, and so the keys and content that belong to it. */
const settings = {
  DATABASE_URL: databaseUrl,
  LEASEHOLD_ADMIN_TOKEN: adminToken,
  LEASEHOLD_DATA_DIR: dataDir,
  LEASEHOLD_KEYS_DIR: join(dataDir, "keys"),
  LEASEHOLD_CONTENT_DIR: join(dataDir, "content"),
  LEASEHOLD_HTTP_PORT: "0",
  LEASEHOLD_GRPC_PORT: "0",
};

describe("it does not start", () => {
  test("without a database's address", async () => {
    const outcome = await leasehold(["serve"]);
    expect(outcome).toEqual({
      exit: 1,
      stdout: "",
      stderr: "leasehold: DATABASE_URL is not set: name a Postgres, or run leasehold dev, which brings one\n",
    });
  });

  test("over a database that cannot be reached", async () => {
    const outcome = await leasehold(["serve"], { env: { DATABASE_URL: "postgres://nobody:x@127.0.0.1:1/none" } });
    expect(outcome).toMatchObject({ exit: 1, stdout: "" });
    expect(outcome.stderr).toMatch(/^leasehold: The Postgres of DATABASE_URL cannot be used: .*ECONNREFUSED.*\n$/);
  });

  test("over a schema that is not this version's, and says what brings it up", async () => {
    const lagging = await testDatabaseUrl();
    await withDatabase(lagging, (database) =>
      query(database, "delete from migration where name = '0001-initial-schema'"),
    );
    for (const command of ["serve", "sweep"]) {
      const outcome = await leasehold([command], { env: { DATABASE_URL: lagging } });
      expect(outcome).toEqual({
        exit: 1,
        stdout: "",
        stderr: "leasehold: The database lacks 0001-initial-schema: run leasehold migrate\n",
      });
    }
  });
});

describe("while it serves", () => {
  test("it listens where it says, tells how late the sweeper is, and tells the operator alone what is stored and earned", async () => {
    const operatorPort = await choosePort("127.0.0.1", 0);
    const { url } = await startServe({ ...settings, LEASEHOLD_OPERATOR_PORT: `${operatorPort}` });
    const ready = await fetch(`${url}/readyz`);
    expect(ready.status).toBe(200);
    expect(await ready.json()).toMatchObject({ ready: true, database: "up", sweeperLagSeconds: expect.any(Number) });
    expect((await fetch(`${url}/metrics`)).status).toBe(404);
    const metrics = await (await fetch(`http://127.0.0.1:${operatorPort}/metrics`)).text();
    for (const name of [
      "leasehold_sweeper_lag_seconds",
      'leasehold_live_leases{variant="storage"}',
      "leasehold_stored_bytes",
      "leasehold_reserved_bytes",
      "leasehold_earned_micros",
      "leasehold_undestroyed_leases",
      "process_resident_memory_bytes",
    ]) {
      expect(metrics).toMatch(new RegExp(`^${name.replaceAll(/[{}]/g, "\\$&")} \\d`, "m"));
    }
  });

  test("without a port of the operator's own, everybody sees metrics, and nobody sees money in them", async () => {
    const { url } = await startServe();
    const metrics = await (await fetch(`${url}/metrics`)).text();
    expect(metrics).toContain("leasehold_sweeper_lag_seconds");
    expect(metrics).not.toMatch(/micros|stored_bytes|reserved_bytes|live_leases/);
  });

  test("a lease that is due and not ended makes the sweeper late, and the server no less ready", async () => {
    const { url } = await startServe();
    const connection = await openAccount(url);
    const { lease } = await connection.leases.createLease(room(10n));
    const text = `update lease set due_time = due_time - interval '1 day', create_time = create_time - interval '1 day',
      expire_time = expire_time - interval '1 day' where lease_id = (select lease_id from lease order by create_time desc limit 1)`;
    await withDatabase(databaseUrl, (database) => query(database, text));
    const ready = await fetch(`${url}/readyz`);
    expect(ready.status).toBe(200);
    const { sweeperLagSeconds } = (await ready.json()) as { sweeperLagSeconds: number };
    expect(sweeperLagSeconds).toBeGreaterThan(3_600);
    expect(
      (await (await fetch(`${url}/metrics`)).text()).match(/^leasehold_sweeper_lag_seconds (\S+)/m)?.[1],
    ).toSatisfy((seconds) => Number(seconds) > 3_600);

    const swept = await leasehold(["sweep", "--once", "--json"], { env: settings });
    expect(JSON.parse(swept.stdout)).toMatchObject({ "end-leases": 1, "destroy-content": 1 });
    expect(await (await fetch(`${url}/readyz`)).json()).toMatchObject({ sweeperLagSeconds: 0 });
    const shown = await connection.leases.getLease({ leaseId: lease?.leaseId ?? "" });
    expect(shown.lease?.destroyTime).toBeDefined();
  });

  test("the operator's token is made on first start, and two that start at once have the same", async () => {
    const folder = await temporaryFolder();
    const unset = { ...settings, LEASEHOLD_DATA_DIR: folder, LEASEHOLD_ADMIN_TOKEN: "" };
    const servers = await Promise.all([startServe(unset), startServe(unset)]);
    const path = join(folder, "admin-token");
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    const token = (await readFile(path, "utf8")).trim();
    for (const { url } of servers) {
      await expect(connect({ url, bearer: token }).admin.listAccounts({})).resolves.toBeDefined();
      await expect(connect({ url, bearer: adminToken }).admin.listAccounts({})).rejects.toMatchObject({
        reason: "CREDENTIAL_INVALID",
      });
    }
  });
});

describe("asked to stop", () => {
  test("it takes no new call, lets one that is under way end, and exits with 0", async () => {
    const { url, spawned } = await startServe();
    const connection = await openAccount(url);
    const body = randomBytes(200_000);
    const { lease } = await connection.leases.createLease(room(BigInt(body.length)));
    const upload = await beginUpload(connection, lease?.leaseId ?? "", body.length);
    upload.write(body.subarray(0, 100_000));
    await connection.leases.getLease({ leaseId: lease?.leaseId ?? "" });

    spawned.process.kill("SIGTERM");
    await spawned.says(/"msg":"draining"/);
    await expect(connection.accounts.getAccount({})).rejects.toMatchObject({ code: "unavailable" });
    upload.end(body.subarray(100_000));
    const [response] = await once(upload, "response");
    expect(response.statusCode).toBe(200);
    response.resume();
    expect(await spawned.ended()).toMatchObject({ exit: 0 });

    const again = await startServe();
    const shown = await connect({ url: again.url, bearer: connection.bearer }).leases.getLease({
      leaseId: lease?.leaseId ?? "",
    });
    expect(shown.lease?.state).toBe(Lease_State.ACTIVE);
    expect(storageOf(shown.lease).sha256).toEqual(new Uint8Array(createHash("sha256").update(body).digest()));
  });

  test("twice, it waits for nobody", async () => {
    const { url, spawned } = await startServe();
    const connection = await openAccount(url);
    const { lease } = await connection.leases.createLease(room(1_000n));
    const upload = await beginUpload(connection, lease?.leaseId ?? "", 1_000);
    upload.on("error", () => undefined);
    spawned.process.kill("SIGTERM");
    await spawned.says(/"msg":"draining"/);
    spawned.process.kill("SIGTERM");
    const outcome = await spawned.ended();
    expect(outcome.exit).toBe(1);
    expect(outcome.stderr).toContain("stopping at once");
  });
});

interface RunningServe {
  readonly spawned: Spawned;
  readonly url: string;
}

async function startServe(env: Readonly<Record<string, string>> = settings): Promise<RunningServe> {
  const spawned = new Spawned(["serve"], { env });
  const [, url = ""] = await spawned.says(/^HTTP {2}(http:\S+)$/m);
  return { spawned, url };
}

async function openAccount(url: string): Promise<Connection> {
  const { admin } = connect({ url, bearer: adminToken });
  const { account, apiKey } = await admin.createAccount({ name: "test" });
  await admin.creditAccount({ accountId: account?.accountId ?? "", amountMicros: 1_000_000n });
  return connect({ url, bearer: apiKey });
}

function room(sizeBytes: bigint) {
  return { sizeBytes, duration: { seconds: 3_600n }, variant: { case: "storage", value: {} } } as const;
}

/** Sends the head of an upload and resolves once the server has taken it up, which is when it asks for the body. */
async function beginUpload({ url, bearer }: Connection, leaseId: string, bytes: number): Promise<ClientRequest> {
  const headers = { authorization: `Bearer ${bearer}`, "content-length": bytes, expect: "100-continue" };
  const upload = request(`${url}/api/leases/${leaseId}/content`, { method: "PUT", headers, agent: false });
  onTestFinished(() => void upload.destroy());
  upload.flushHeaders();
  await once(upload, "continue");
  return upload;
}

async function withDatabase(url: string, work: (database: Database) => Promise<unknown>): Promise<void> {
  const database = await Database.connect({ url, poolSize: 1 });
  try {
    await work(database);
  } finally {
    await database.close();
  }
}
