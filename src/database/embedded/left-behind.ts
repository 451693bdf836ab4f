/** Owns what is done about a Postgres that runs over the same folder already, from this or an earlier run. */
import { unlink } from "node:fs/promises";
import type { ClusterFolder } from "./cluster-folder.ts";
import { EmbeddedPostgresError } from "./embedded-postgres-error.ts";
import { type ListenPlace, socketPath } from "./listen-place.ts";
import { postmasterLockFile, readLockFile, stopPostmaster } from "./postmaster.ts";
import { findProcess, isTaken, type RunningProcess, waitUntilGone } from "./process-table.ts";

/** Longer than an earlier run's clients may take to drain and its Postgres to stop. */
const earlierRunLimitMs = 180_000;

/**
 * Returns once nothing holds the folder. Nothing but Postgres's own lock files and the process table is believed, so no
 * crash can leave a state that has to be cleared by hand:
 * a Postgres whose supervisor has died is stopped; one whose supervisor has lost its own parent is about to stop and is
 * waited for; any other is in use, and EmbeddedPostgresError says by whom.
 */
export async function clearLeftBehind(folder: ClusterFolder, log: (message: string) => void): Promise<void> {
  const postmaster = await findPostmaster(folder);
  if (postmaster === undefined) {
    return;
  }
  const supervisor = await findProcess(postmaster.parentPid);
  const parentPid = supervisor && supervisedParentPid(supervisor, folder);
  if (supervisor === undefined || parentPid === undefined) {
    log(`stopping Postgres ${postmaster.pid}, left behind by an earlier run`);
    await stopPostmaster(postmaster.pid);
    return;
  }
  if (supervisor.parentPid === parentPid) {
    throw new EmbeddedPostgresError(
      `${folder.home} is in use by process ${parentPid}: stop that one first, or set another LEASEHOLD_DATA_DIR`,
    );
  }
  log(`waiting for Postgres ${postmaster.pid} of an earlier run to stop`);
  const left = await waitUntilGone([postmaster.pid, supervisor.pid], earlierRunLimitMs);
  if (left.length > 0) {
    throw new EmbeddedPostgresError(`Process ${left[0]} of an earlier run does not let go of ${folder.home}: stop it`);
  }
}

/** Stops the Postgres of the folder if one runs, whoever started it. */
export async function stopLeftBehind(folder: ClusterFolder): Promise<void> {
  const postmaster = await findPostmaster(folder);
  if (postmaster !== undefined) {
    await stopPostmaster(postmaster.pid);
  }
}

/**
 * Removes lock files whose pid belongs to another program by now, as after a restart of a container, where pids start
 * over, or to a process that has ended and whose end nobody notes: Postgres would take both for the holder. It is safe from a server that lives on, because
 * Postgres also refuses while its shared memory is attached anywhere.
 */
export async function removeForeignLocks(folder: ClusterFolder, place: ListenPlace): Promise<void> {
  const files = [postmasterLockFile(folder)];
  if ("sockets" in place) {
    files.push(`${socketPath(place.sockets, place.port)}.lock`);
  }
  for (const file of files) {
    const lock = await readLockFile(file);
    const holder = lock && (await findProcess(lock.pid));
    const isHeld = holder !== undefined && isPostmasterOf(holder, folder);
    if (lock !== undefined && !isHeld && isTaken(lock.pid)) {
      await unlink(file);
    }
  }
}

/** The words a supervisor is started with after its program; others recognise it by them. */
export function supervisorWords(folder: ClusterFolder, parentPid: number): readonly string[] {
  return [folder.home, `${parentPid}`];
}

async function findPostmaster(folder: ClusterFolder): Promise<RunningProcess | undefined> {
  const lock = await readLockFile(postmasterLockFile(folder));
  const holder = lock && (await findProcess(lock.pid));
  return holder !== undefined && isPostmasterOf(holder, folder) ? holder : undefined;
}

/** Postgres works in its data directory; where the system does not tell that, its arguments have to do. */
function isPostmasterOf(running: RunningProcess, folder: ClusterFolder): boolean {
  return running.folder === undefined
    ? running.command.includes(`/postgres -D ${folder.data} `)
    : running.folder === folder.data;
}

/** The pid of the process that started this supervisor, or undefined if it is not one of this folder. */
function supervisedParentPid(running: RunningProcess, folder: ClusterFolder): number | undefined {
  const [, pid] = /\/supervisor\.[jt]s .* (\d+)$/s.exec(running.command) ?? [];
  return pid !== undefined && running.command.endsWith(` ${supervisorWords(folder, Number(pid)).join(" ")}`)
    ? Number(pid)
    : undefined;
}
