/** Tests that Postgres ends when it should, only then, and that no crash leaves a folder that cannot be started. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { findProcess, waitUntilGone } from "../../src/database/embedded/process-table.ts";
import { startEmbeddedPostgres } from "../../src/database/embedded/start-embedded-postgres.ts";
import { ask, connect, makeDataDir, Parent, start } from "./embedded-folder.ts";

const limitMs = 30_000;

// One folder for all, so that each test starts over what the one before has left.
const dataDir = await makeDataDir(afterAll);

test("Ctrl-C, which reaches the whole process group, leaves Postgres up until its parent has drained", async () => {
  const parent = new Parent(dataDir);
  const { pid, supervisorPid } = await parent.hear("ready");
  process.kill(-parent.pid, "SIGINT");
  expect(await parent.hear("drained")).toMatchObject({ answer: "drained" });
  await parent.hear("stopped");
  expect(await findProcess(pid)).toBeUndefined();
  expect(await findProcess(supervisorPid)).toBeUndefined();
});

test("a parent that is killed takes Postgres with it", async () => {
  const parent = new Parent(dataDir);
  const { url, pid, supervisorPid } = await parent.hear("ready");
  const { cut } = await connect(url);
  process.kill(parent.pid, "SIGKILL");
  await cut;
  expect(await waitUntilGone([pid, supervisorPid], limitMs)).toEqual([]);
});

test("a parent that is killed leaves Postgres up until the processes it named are gone", async () => {
  const user = spawnUser();
  const parent = new Parent(dataDir);
  const { url, pid, supervisorPid } = await parent.hear("ready");
  parent.tell({ kind: "release", pids: [user.pid ?? 0] });
  await parent.hear("released");
  process.kill(parent.pid, "SIGKILL");
  expect(await waitUntilGone([parent.pid], limitMs)).toEqual([]);

  const { client, cut } = await connect(url);
  expect((await client.query("select pg_sleep(0.2)")).rowCount).toBe(1);
  user.kill("SIGKILL");
  await cut;
  expect(await waitUntilGone([pid, supervisorPid], limitMs)).toEqual([]);
});

test("a start while the Postgres of a killed parent still runs waits for its end instead of failing", async () => {
  const user = spawnUser();
  const parent = new Parent(dataDir);
  const { url, pid } = await parent.hear("ready");
  await ask(url, "create table kept_by_waiting as select 1 as one");
  parent.tell({ kind: "release", pids: [user.pid ?? 0] });
  await parent.hear("released");
  process.kill(parent.pid, "SIGKILL");
  expect(await waitUntilGone([parent.pid], limitMs)).toEqual([]);

  const waits = Promise.withResolvers<string>();
  const next = start(dataDir, (message) => waits.resolve(message));
  expect(await Promise.race([waits.promise, next])).toBe(`waiting for Postgres ${pid} of an earlier run to stop`);
  user.kill("SIGKILL");
  expect(await ask((await next).url, "select one from kept_by_waiting")).toBe(1);
});

test("a supervisor told to end by a signal stops Postgres first and says so to its parent", async () => {
  const postgres = await start(dataDir);
  process.kill(postgres.supervisorPid, "SIGTERM");
  expect(await postgres.lost).toContain("Postgres's supervisor ended (exit code 0)");
  expect(await findProcess(postgres.pid)).toBeUndefined();
  expect(await readFile(join(dataDir, "postgres", "server.log"), "utf8")).toContain("database system is shut down");
});

test("Postgres serves on when its supervisor is killed, and stop() still stops it", async () => {
  const postgres = await start(dataDir);
  process.kill(postgres.supervisorPid, "SIGKILL");
  expect(await postgres.lost).toContain("Postgres's supervisor ended (SIGKILL)");
  expect(await ask(postgres.url, "select 1")).toBe(1);
  await postgres.stop();
  expect(await findProcess(postgres.pid)).toBeUndefined();
});

test("the next start stops a Postgres whose supervisor and parent were killed, and finds its data", async () => {
  const parent = new Parent(dataDir);
  const { url, pid, supervisorPid } = await parent.hear("ready");
  process.kill(supervisorPid, "SIGKILL");
  process.kill(parent.pid, "SIGKILL");
  expect(await waitUntilGone([parent.pid, supervisorPid], limitMs)).toEqual([]);
  await ask(url, "create table kept_by_orphan as select 1 as one");

  const said: string[] = [];
  const next = await start(dataDir, (message) => said.push(message));
  expect(said).toContain(`stopping Postgres ${pid}, left behind by an earlier run`);
  expect(await findProcess(pid)).toBeUndefined();
  expect(await ask(next.url, "select one from kept_by_orphan")).toBe(1);
});

test("the next start recovers what was acknowledged before everything was killed at once", async () => {
  const parent = new Parent(dataDir);
  const { url, pid, supervisorPid } = await parent.hear("ready");
  await ask(url, "create table kept_by_recovery as select generate_series(1, 1000) as number");
  for (const victim of [supervisorPid, pid, parent.pid]) {
    process.kill(victim, "SIGKILL");
  }
  const next = await start(dataDir);
  expect(await ask(next.url, "select count(*)::int from kept_by_recovery")).toBe(1000);
});

test("Postgres that is killed is started again at the same address, with all it acknowledged, while its callers are being cut", async () => {
  const said = Promise.withResolvers<string>();
  const postgres = await start(dataDir, (message) => {
    if (message.includes("unasked")) {
      said.resolve(message);
    }
  });
  const { url, pid } = postgres;
  await ask(url, "create table kept_by_restart as select 1 as one");
  const connections = await Promise.all(Array.from({ length: 30 }, () => connect(url)));
  process.kill(pid, "SIGKILL");
  await Promise.all(connections.map(({ cut }) => cut));
  expect(await said.promise).toBe("Postgres ended unasked (SIGKILL); starting it again");
  const unlessLost = postgres.lost.then((reason) => {
    throw new Error(reason);
  });
  await Promise.race([unlessLost, expect.poll(() => postgres.pid, { timeout: limitMs }).not.toBe(pid)]);
  expect(postgres.url).toBe(url);
  expect(await ask(url, "select one from kept_by_restart")).toBe(1);
});

test("Postgres that cannot be started again is given up on, and its parent is told why", async () => {
  const postgres = await start(dataDir);
  const file = join(dataDir, "postgres", "data", "postgresql.conf");
  const settings = await readFile(file);
  onTestFinished(() => writeFile(file, settings));
  await writeFile(file, "no_such_setting = 1\n");
  process.kill(postgres.pid, "SIGKILL");
  expect(await postgres.lost).toMatch(/^Postgres did not start \(exit code 1\): .*postgresql\.conf.* contains errors/);
});

test("lock files whose pid belongs to another program by now do not keep Postgres from starting", async () => {
  await (await startEmbeddedPostgres({ dataDir, log: () => undefined })).stop();
  const lock = [process.pid, join(dataDir, "postgres", "data"), 1, 50_432, "", "", "  1  1", "ready   ", ""].join("\n");
  const files = [
    join(dataDir, "postgres", "data", "postmaster.pid"),
    join(dataDir, "postgres", "sockets", ".s.PGSQL.50432.lock"),
  ];
  for (const file of files) {
    await writeFile(file, lock);
  }
  const { url } = await start(dataDir);
  expect(await ask(url, "select 1")).toBe(1);
});

/** A process that stands for a server which uses Postgres; it lives until it is killed. */
function spawnUser(): ChildProcess {
  const user = spawn("sleep", ["600"], { stdio: "ignore" });
  onTestFinished(() => {
    user.kill("SIGKILL");
  });
  return user;
}
