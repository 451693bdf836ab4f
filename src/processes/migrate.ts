/** Owns the process that brings a database's schema up to this version's. */
import { loadConfig } from "../config/load-config.ts";
import type { Config } from "../config/settings.ts";
import { openDatabase } from "./open-database.ts";
import { runProcess } from "./run-process.ts";

/** Migrates, and prints which migrations have run. Safe beside servers and other migrations. */
export async function migrate(environment: NodeJS.ProcessEnv, asJson: boolean): Promise<void> {
  await runProcess(async () => {
    const migrations = await migrateDatabase(loadConfig(environment));
    if (asJson) {
      process.stdout.write(`${JSON.stringify({ migrations })}\n`);
    } else {
      process.stdout.write(migrations.length === 0 ? "The schema is up to date.\n" : `${migrations.join("\n")}\n`);
    }
  });
}

/** Runs the migrations that have not run yet, and gives their names. */
export async function migrateDatabase(config: Config): Promise<readonly string[]> {
  const database = await openDatabase(config);
  try {
    return await database.migrate();
  } finally {
    await database.close();
  }
}
