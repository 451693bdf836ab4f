/** Owns the way from the settings to a database that this version of the program can use. */
import type { Config } from "../config/settings.ts";
import { Database } from "../database/database.ts";
import { migrationsList } from "../database/migrations-list.ts";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import { findMigrations, hasMigrations } from "./migration-statements.ts";
import { StartError } from "./start-error.ts";

/** Connects. @throws StartError if there is no address, or nothing answers at it. */
export async function openDatabase(config: Config): Promise<Database> {
  const { databaseUrl, databasePoolSize } = config;
  if (databaseUrl === undefined) {
    throw new StartError("DATABASE_URL is not set: name a Postgres, or run leasehold dev, which brings one");
  }
  try {
    const database = await Database.connect({ url: databaseUrl, poolSize: databasePoolSize });
    // The first statement shows whether the address and the password are right.
    await database.run(hasMigrations, []);
    return database;
  } catch (error) {
    const cause = error instanceof LeaseholdError ? error.cause : error;
    const problem = cause instanceof Error ? cause.message.split("\n")[0] || cause.name : String(cause);
    throw new StartError(`The Postgres of DATABASE_URL cannot be used: ${problem}`, { cause: error });
  }
}

/** Connects to a database whose schema is this version's. @throws StartError if a migration has not run. */
export async function openMigratedDatabase(config: Config): Promise<Database> {
  const database = await openDatabase(config);
  const pending = await findPending(database);
  if (pending.length > 0) {
    await database.close();
    throw new StartError(`The database lacks ${pending.join(", ")}: run leasehold migrate`);
  }
  return database;
}

async function findPending(database: Database): Promise<string[]> {
  const [table] = await database.run(hasMigrations, []);
  const done = table?.exists === true ? await database.run(findMigrations, []) : [];
  const names = new Set(done.map((row) => row.name));
  return migrationsList.map(({ name }) => name).filter((name) => !names.has(name));
}
