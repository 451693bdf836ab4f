/** Owns what the operating system tells about processes: whether one runs, who started it, where and with what words. */
import { execFile } from "node:child_process";
import { readFile, readlink } from "node:fs/promises";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import { hasCode } from "./has-code.ts";

/** One running process. */
export interface RunningProcess {
  readonly pid: number;
  readonly parentPid: number;
  /** Program and arguments, joined by spaces. */
  readonly command: string;
  /** The working folder; undefined where the system does not tell. */
  readonly folder: string | undefined;
}

const pollMs = 20;

/** Returns undefined for a process that has ended, even while nobody has taken note of its end (a zombie). */
export async function findProcess(pid: number): Promise<RunningProcess | undefined> {
  return process.platform === "linux" ? await findInProc(pid) : await findWithPs(pid);
}

/** Whether the system still keeps the pid, be it only for a process that has ended. */
export function isTaken(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Another user's process may not be signalled, but it is there.
    return hasCode(error, "EPERM");
  }
}

/** Waits until all have ended, or the limit is over. Returns those that still run. */
export async function waitUntilGone(pids: readonly number[], limitMs: number): Promise<readonly number[]> {
  const endMs = performance.now() + limitMs;
  let left = pids;
  for (;;) {
    const found = await Promise.all(left.map(findProcess));
    left = found.flatMap((running) => running?.pid ?? []);
    if (left.length === 0 || performance.now() >= endMs) {
      return left;
    }
    // Only a process's parent is told of its end; everybody else has to look again.
    await pause(pollMs);
  }
}

/** Sends a signal; a process that has just ended is no error. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (!hasCode(error, "ESRCH")) {
      throw error;
    }
  }
}

/** Reads /proc: `ps` is missing from slim images. */
async function findInProc(pid: number): Promise<RunningProcess | undefined> {
  try {
    const [stat, command] = await Promise.all([
      readFile(`/proc/${pid}/stat`, "utf8"),
      readFile(`/proc/${pid}/cmdline`, "utf8"),
    ]);
    // "pid (name) state parent ...", where the name may hold anything, brackets included.
    const [state, parentPid] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (state === undefined || "ZX".includes(state)) {
      return undefined;
    }
    const folder = await readlink(`/proc/${pid}/cwd`).catch((error: unknown) => {
      if (hasCode(error, "EACCES", "EPERM", "ENOENT")) {
        return undefined;
      }
      throw error;
    });
    return { pid, parentPid: Number(parentPid), command: command.replace(/\0$/, "").replaceAll("\0", " "), folder };
  } catch (error) {
    if (hasCode(error, "ENOENT", "ESRCH")) {
      return undefined;
    }
    throw error;
  }
}

/** Asks `ps`, which every other Unix has. */
export async function findWithPs(pid: number): Promise<RunningProcess | undefined> {
  try {
    const { stdout } = await promisify(execFile)("ps", ["-ww", "-o", "stat=,ppid=,command=", "-p", `${pid}`]);
    const [, state, parentPid, command] = /^\s*(\S+)\s+(\d+)\s+(.*?)\s*$/s.exec(stdout) ?? [];
    return state === undefined || command === undefined || state.startsWith("Z")
      ? undefined
      : { pid, parentPid: Number(parentPid), command, folder: undefined };
  } catch (error) {
    // It exits with 1 when there is no such process.
    if (error instanceof Error && "code" in error && error.code === 1) {
      return undefined;
    }
    throw error;
  }
}
