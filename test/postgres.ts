/** Owns the Postgres of a test run: one for all files, in a folder of its own, with the durability of a real one. */
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { findProcess } from "../src/database/embedded/process-table.ts";
import { startEmbeddedPostgres } from "../src/database/embedded/start-embedded-postgres.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** The address of a superuser in an empty database; tests make databases of their own beside it. */
    postgresUrl: string;
  }
}

const folderPrefix = "leasehold-test-run-";

/** Starts Postgres for the run and returns what stops it. */
export default async function startForTests(project: TestProject): Promise<() => Promise<void>> {
  await removeEarlierRuns();
  const dataDir = await mkdtemp(join(tmpdir(), `${folderPrefix}${process.pid}-`));
  const postgres = await startEmbeddedPostgres({ dataDir, log: (message) => console.info(`postgres: ${message}`) });
  project.provide("postgresUrl", postgres.url);
  return async () => {
    await postgres.stop();
    await rm(dataDir, { recursive: true });
  };
}

/** A run that was killed has left its folder; its Postgres has stopped by itself. */
async function removeEarlierRuns(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = name.startsWith(folderPrefix) ? Number.parseInt(name.slice(folderPrefix.length), 10) : undefined;
    if (pid !== undefined && (await findProcess(pid)) === undefined) {
      await rm(join(tmpdir(), name), { recursive: true, force: true });
    }
  }
}
