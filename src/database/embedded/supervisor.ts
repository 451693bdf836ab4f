/**
 * Owns the process that keeps Postgres running for the process that started it.
 *
 * It is a program of its own, in a session of its own, because Ctrl-C reaches every process of a terminal's group at
 * once: Postgres must go on while the API drains, and end last. It stops Postgres when it is told to, and when its
 * parent dies, then as soon as the processes it was told to outlive are gone. Postgres that ends unasked is started
 * again. If this process itself is killed, Postgres serves on, and the next start over the folder stops it.
 */
import { mkdir } from "node:fs/promises";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { type ClusterFolder, clusterFolder } from "./cluster-folder.ts";
import { EmbeddedPostgresError } from "./embedded-postgres-error.ts";
import { hasCode } from "./has-code.ts";
import { clearLeftBehind, removeForeignLocks } from "./left-behind.ts";
import { chooseListenPlace, databaseName, databaseUrl, type ListenPlace } from "./listen-place.ts";
import { giveTo, makeCluster, readPassword } from "./make-cluster.ts";
import { findPostgresPrograms, type PostgresPrograms } from "./postgres-programs.ts";
import { type Postmaster, startPostmaster, stopPostmaster } from "./postmaster.ts";
import { waitUntilGone } from "./process-table.ts";
import { checkReach, chooseServerUser, type ServerUser } from "./server-user.ts";
import type { FromSupervisor, ToSupervisor } from "./supervisor-message.ts";

/** Longer than a server takes to drain: its calls have ended by their deadline of a minute. */
const outliveLimitMs = 90_000;
/** A server that was killed leaves processes that take a moment to notice; Postgres refuses to start until then. */
const lettingGoLimitMs = 30_000;
/** A Postgres that ends this soon after it was ready, this often in a row, will not recover by itself. */
const steadyMs = 10_000;
const mostUnsteadyRuns = 5;

/** What a start over the folder has found out. */
interface Cluster {
  readonly folder: ClusterFolder;
  readonly user: ServerUser | undefined;
  readonly programs: PostgresPrograms;
  readonly password: string;
}

let isStopping = false;
let current: Postmaster | undefined;
let pidsToOutlive: readonly number[] = [];

await main();

async function main(): Promise<void> {
  process.on("message", (message: ToSupervisor) => {
    switch (message.kind) {
      case "stop":
        void stop();
        return;
      case "outlive":
        pidsToOutlive = message.pids;
        return;
    }
  });
  for (const event of ["disconnect", "SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(event, () => void stopAfterOthers());
  }
  try {
    const cluster = await prepare(clusterFolder(process.argv[2] ?? ""));
    await keepRunning(cluster);
  } catch (error) {
    console.error(error);
    const message = error instanceof Error ? error.message : String(error);
    await tell({ kind: "failed", message: error instanceof EmbeddedPostgresError ? message : firstLine(message) });
    process.exitCode = 1;
  }
  // What is still open (the channel, a wait for other processes) must not keep a supervisor without a Postgres.
  process.exit();
}

async function prepare(folder: ClusterFolder): Promise<Cluster> {
  const programs = await findPostgresPrograms();
  const user = await chooseServerUser(folder);
  await checkReach(user, programs, folder);
  await clearLeftBehind(folder, log);
  const startMs = performance.now();
  if (await makeCluster(folder, user, programs)) {
    log(`made a new database in ${folder.data} in ${Math.round(performance.now() - startMs)} ms`);
  }
  await mkdir(folder.sockets, { recursive: true, mode: 0o700 });
  await giveTo(user, folder.sockets);
  return { folder, user, programs, password: await readPassword(folder) };
}

async function keepRunning(cluster: Cluster): Promise<void> {
  const place = await chooseListenPlace(cluster.folder);
  let unsteadyRuns = 0;
  for (;;) {
    const postmaster = await start(cluster, place);
    const readyMs = performance.now();
    const how = await postmaster.ended;
    current = undefined;
    if (isStopping) {
      return;
    }
    unsteadyRuns = performance.now() - readyMs < steadyMs ? unsteadyRuns + 1 : 1;
    if (unsteadyRuns > mostUnsteadyRuns) {
      throw new EmbeddedPostgresError(`Postgres keeps ending (${how}): see ${cluster.folder.log}`);
    }
    log(`Postgres ended unasked (${how}); starting it again`);
  }
}

/** Starts Postgres and returns once it is ready, or has ended because it was to stop. */
async function start(cluster: Cluster, place: ListenPlace): Promise<Postmaster> {
  const endMs = performance.now() + lettingGoLimitMs;
  for (;;) {
    await removeForeignLocks(cluster.folder, place);
    const postmaster = await startPostmaster(cluster.folder, place, cluster.user, cluster.programs);
    current = postmaster;
    try {
      if (isStopping) {
        // Asked to before there was a server to stop. Not awaited: it makes `ready` reject.
        void stop();
      }
      await postmaster.ready;
      await makeDatabase(place, cluster.password);
      await tell({ kind: "ready", pid: postmaster.pid, url: databaseUrl(place, cluster.password) });
      return postmaster;
    } catch (error) {
      await stopPostmaster(postmaster.pid);
      if (isStopping) {
        return postmaster;
      }
      // Of two starts at once, the one that lost says who won instead of quoting Postgres.
      await clearLeftBehind(cluster.folder, log);
      if (!isHeldByCrashedServer(error) || performance.now() > endMs) {
        throw error;
      }
      await pause(100);
    }
  }
}

function isHeldByCrashedServer(error: unknown): boolean {
  return error instanceof EmbeddedPostgresError && error.message.includes("shared memory block");
}

/** Makes the server's database unless it is there, which also shows that the password opens it. */
async function makeDatabase(place: ListenPlace, password: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl(place, password, "postgres") });
  // A connection that breaks between two queries tells nobody else.
  client.on("error", (error) => console.error(error));
  await client.connect();
  try {
    await client.query(`create database ${databaseName}`);
  } catch (error) {
    const duplicateDatabase = "42P04";
    if (!hasCode(error, duplicateDatabase)) {
      throw error;
    }
  } finally {
    await client.end();
  }
}

async function stopAfterOthers(): Promise<void> {
  const left = await waitUntilGone(pidsToOutlive, outliveLimitMs);
  if (left.length > 0) {
    log(`stopping Postgres although ${left.join(", ")} still run`);
  }
  await stop();
}

async function stop(): Promise<void> {
  isStopping = true;
  if (current !== undefined) {
    await stopPostmaster(current.pid);
  }
}

function log(message: string): void {
  void tell({ kind: "log", message });
}

/** Resolves once the message is sent. Without a parent to hear it, it goes to the log file. */
async function tell(message: FromSupervisor): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const giveUp = (): void => {
    if (message.kind !== "ready") {
      console.error(message.message);
    }
    resolve();
  };
  if (process.connected) {
    process.send?.(message, undefined, undefined, (error) => (error === null ? resolve() : giveUp()));
  } else {
    giveUp();
  }
  await promise;
}

function firstLine(message: string): string {
  return `Cannot start the embedded Postgres: ${message.split("\n")[0]}`;
}
