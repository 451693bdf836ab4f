/** Runs migrations, over connections of their own that wait as long as it takes. */
import { MikroORM } from "@mikro-orm/postgresql";
import type { Pool } from "pg";
import { ormOptions } from "./orm-options.ts";

/** The advisory lock that migrations run under: any number that nothing else in the database uses. */
const migrationLock = 4_102_444_800;

/** Runs the migrations that have not run yet, and gives their names. Of several processes at once one does the work. */
export async function runMigrations(url: string): Promise<readonly string[]> {
  // One connection holds the lock, the other migrates.
  const orm = await MikroORM.init(ormOptions({ url, poolSize: 2, lockTimeoutMs: 0, statementTimeoutMs: 0 }));
  try {
    const pool = (await orm.em.getConnection().getNativeClient()) as Pool;
    const holder = await pool.connect();
    try {
      await holder.query("select pg_advisory_lock($1)", [migrationLock]);
      const done = await orm.migrator.up();
      return done.map((migration) => migration.name);
    } finally {
      holder.release(true);
    }
  } finally {
    await orm.close();
  }
}
