/** Owns one run of the Postgres server: starting it, knowing when it is ready, and stopping it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { open, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { ClusterFolder } from "./cluster-folder.ts";
import { EmbeddedPostgresError } from "./embedded-postgres-error.ts";
import { hasCode } from "./has-code.ts";
import type { ListenPlace } from "./listen-place.ts";
import type { PostgresPrograms } from "./postgres-programs.ts";
import { findProcess, signal, waitUntilGone } from "./process-table.ts";
import { serverSettings } from "./server-settings.ts";
import type { ServerUser } from "./server-user.ts";

/** A server process that was started here. */
export interface Postmaster {
  readonly pid: number;
  /** Resolves once it takes connections; rejects with EmbeddedPostgresError if it ends before that. */
  readonly ready: Promise<void>;
  /** Resolves with how it ended. */
  readonly ended: Promise<string>;
}

const pollMs = 10;
/** A fast shutdown writes a last checkpoint, which a slow disk can draw out. */
const fastShutdownLimitMs = 60_000;
const immediateShutdownLimitMs = 10_000;

/** Starts the server as a child of this process, with its messages going where this process's own go. */
export async function startPostmaster(
  folder: ClusterFolder,
  place: ListenPlace,
  user: ServerUser | undefined,
  programs: PostgresPrograms,
): Promise<Postmaster> {
  const logStart = (await stat(folder.log)).size;
  const words = ["-D", folder.data, ...serverSettings(place).flatMap((line) => ["-c", line])];
  const child = spawn(programs.postgres, words, {
    ...user,
    cwd: "/",
    env: { TZ: "UTC", LC_ALL: "C" },
    stdio: ["ignore", "inherit", "inherit"],
  });
  const { pid } = child;
  if (pid === undefined) {
    const [error] = await once(child, "error");
    throw new EmbeddedPostgresError(`Cannot run ${programs.postgres}: ${String(error)}`);
  }
  const ended = once(child, "exit").then(([code, name]) => (name === null ? `exit code ${code}` : `${name}`));
  return { pid, ready: waitUntilReady(pid, ended, folder, logStart), ended };
}

/**
 * Stops a server, which need not be a child of this process: fast (connections are cut, everything is written), and if
 * that takes too long at once (the next start then recovers from the write-ahead log).
 */
export async function stopPostmaster(pid: number): Promise<void> {
  if ((await findProcess(pid)) === undefined) {
    return;
  }
  signal(pid, "SIGINT");
  if ((await waitUntilGone([pid], fastShutdownLimitMs)).length > 0) {
    signal(pid, "SIGQUIT");
  }
  if ((await waitUntilGone([pid], immediateShutdownLimitMs)).length > 0) {
    signal(pid, "SIGKILL");
  }
}

/** Whose pid and status stand in Postgres's own lock file, if it is there. */
export async function readLockFile(file: string): Promise<{ pid: number; status: string | undefined } | undefined> {
  try {
    const lines = (await readFile(file, "utf8")).split("\n");
    // A server in single-user mode writes its pid with a minus sign.
    const pid = Math.abs(Number.parseInt(lines[0] ?? "", 10));
    return Number.isNaN(pid) ? undefined : { pid, status: lines[7]?.trim() };
  } catch (error) {
    if (hasCode(error, "ENOENT")) {
      return undefined;
    }
    throw error;
  }
}

/** Postgres's lock file in its data directory. */
export function postmasterLockFile(folder: ClusterFolder): string {
  return join(folder.data, "postmaster.pid");
}

/** Without a limit: recovery after a crash takes as long as it takes, and a server that fails ends. */
async function waitUntilReady(
  pid: number,
  ended: Promise<string>,
  folder: ClusterFolder,
  logStart: number,
): Promise<void> {
  let how: string | undefined;
  void ended.then((end) => {
    how = end;
  });
  while (how === undefined) {
    const lock = await readLockFile(postmasterLockFile(folder));
    if (lock?.pid === pid && lock.status === "ready") {
      return;
    }
    await pause(pollMs);
  }
  throw new EmbeddedPostgresError(`Postgres did not start (${how}): ${await lastComplaint(pid, folder, logStart)}`);
}

/** The reason the server gave, out of what was logged since; processes of a server before it may be logging too. */
async function lastComplaint(pid: number, folder: ClusterFolder, logStart: number): Promise<string> {
  const file = await open(folder.log, "r");
  try {
    const { buffer, bytesRead } = await file.read({ position: logStart, buffer: Buffer.alloc(64 * 1024) });
    const lines = buffer.toString("utf8", 0, bytesRead).trim().split("\n");
    const complaints = lines.filter((line) => / (FATAL|PANIC): /.test(line));
    const complaint = complaints.findLast((line) => line.includes(` [${pid}] `)) ?? complaints.at(-1) ?? lines.at(-1);
    return `${complaint?.replace(/^.*?(FATAL|PANIC): +/, "")} (${folder.log})`;
  } finally {
    await file.close();
  }
}
