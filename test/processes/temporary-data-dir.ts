/** A folder for a test, in which what runs over it is stopped before it is removed. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { openClusterFolder } from "../../src/database/embedded/cluster-folder.ts";
import { stopLeftBehind } from "../../src/database/embedded/left-behind.ts";

/** A new, empty folder, which is removed when the test ends, or the file's last test. */
export async function temporaryFolder(
  whenFinished: (cleanUp: () => Promise<void>) => void = onTestFinished,
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "leasehold-process-"));
  whenFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** One that is to hold an embedded Postgres: should a test fail, that is stopped first. */
export async function temporaryDataDir(): Promise<string> {
  const folder = await temporaryFolder();
  onTestFinished(async () => stopLeftBehind(await openClusterFolder(folder)));
  return folder;
}
