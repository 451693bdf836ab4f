/** The statements that tell which migrations a database has had. */
import { readStatement } from "../database/statement.ts";

/** Whether any has run at all. */
export const hasMigrations = readStatement<{ exists: boolean }>(
  "has-migrations",
  "select to_regclass('migration') is not null as exists",
);

/** Those that have run. */
export const findMigrations = readStatement<{ name: string }>("find-migrations", "select name from migration");
