/** Reads how busy Postgres was. Its processes are not this program's, so the system has to tell. */
import { readdir, readFile } from "node:fs/promises";

/** Linux counts in hundredths of a second, whatever the kernel's own clock is. */
const msPerTick = 10;

/**
 * Processor time that Postgres and all its processes have used so far, in milliseconds. Undefined where there is no
 * /proc to read it from.
 */
export async function postgresCpuMs(postmasterPid: number): Promise<number | undefined> {
  const postmaster = await readStat(`${postmasterPid}`);
  if (postmaster === undefined) {
    return undefined;
  }
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const stats = await Promise.all(pids.map(readStat));
  const children = stats.filter((stat) => stat?.parentPid === postmasterPid);
  // Those that have ended are counted by their parent.
  const ticks = children.reduce(
    (sum, child) => sum + (child?.ownTicks ?? 0),
    postmaster.ownTicks + postmaster.endedTicks,
  );
  return ticks * msPerTick;
}

interface ProcessStat {
  readonly parentPid: number;
  readonly ownTicks: number;
  readonly endedTicks: number;
}

/** See proc_pid_stat(5). The name, in parentheses, may hold spaces: fields are counted from behind it. */
async function readStat(pid: string): Promise<ProcessStat | undefined> {
  let text: string;
  try {
    text = await readFile(`/proc/${pid}/stat`, "latin1");
  } catch {
    // It has ended meanwhile, or the system has no /proc.
    return undefined;
  }
  const fields = text
    .slice(text.lastIndexOf(")") + 2)
    .split(" ")
    .map(Number);
  const [parentPid = 0, user = 0, system = 0, endedUser = 0, endedSystem = 0] = [1, 11, 12, 13, 14].map(
    (at) => fields[at],
  );
  return { parentPid, ownTicks: user + system, endedTicks: endedUser + endedSystem };
}
