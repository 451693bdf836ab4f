/** What a bench ran on: figures mean little without it. */
import { mkdtemp, open, readFile, rm, statfs } from "node:fs/promises";
import { arch, cpus, loadavg, platform, release, totalmem } from "node:os";
import { join } from "node:path";
import pg from "pg";

/** Facts by name, in the order in which they are shown. */
export type MachineFacts = Readonly<Record<string, string>>;

/** Call it while nothing else of the bench runs. */
export async function machineFacts(folder: string, postgresUrl: string): Promise<MachineFacts> {
  return {
    date: new Date().toISOString(),
    processor: `${cpus().length} x ${cpus()[0]?.model ?? "unknown"}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    system: `${platform()} ${release()} ${arch()}`,
    "file system": `${await fileSystemOf(folder)}, fsync of 8 KiB ${(await fsyncMs(folder)).toFixed(2)} ms`,
    "load average before": loadavg()
      .map((load) => load.toFixed(2))
      .join(" "),
    node: process.version,
    postgres: await postgresVersion(postgresUrl),
  };
}

/** The median of some writes of 8 KiB, each synced. */
async function fsyncMs(folder: string): Promise<number> {
  const scratch = await mkdtemp(join(folder, "fsync-"));
  const file = await open(join(scratch, "file"), "w");
  const block = Buffer.alloc(8192);
  const durations: number[] = [];
  for (let position = 0; position < 101 * block.length; position += block.length) {
    const startMs = performance.now();
    await file.write(block, 0, block.length, position);
    await file.datasync();
    durations.push(performance.now() - startMs);
  }
  await file.close();
  await rm(scratch, { recursive: true });
  return durations.toSorted((a, b) => a - b)[50] ?? Number.NaN;
}

/** Its name where the system lists what is mounted, else its number. */
async function fileSystemOf(folder: string): Promise<string> {
  try {
    const mounts = (await readFile("/proc/self/mounts", "utf8")).split("\n").map((line) => line.split(" "));
    const holding = mounts
      .filter(([, place = ""]) => `${folder}/`.startsWith(place.endsWith("/") ? place : `${place}/`))
      .toSorted(([, a = ""], [, b = ""]) => b.length - a.length);
    return holding[0]?.[2] ?? "unknown";
  } catch {
    // The system keeps no such list.
    return `type ${(await statfs(folder)).type}`;
  }
}

async function postgresVersion(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<{ server_version: string }>("show server_version");
    return rows[0]?.server_version ?? "unknown";
  } finally {
    await client.end();
  }
}
