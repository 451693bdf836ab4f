/** The signal that statements of a test wait for locks. */
import type { Database } from "../../src/database/database.ts";
import { query } from "./test-query.ts";

/** Returns once this many statements of the test's database wait for a lock. */
export async function lockWaiters(database: Database, count: number): Promise<void> {
  for (;;) {
    const [row] = await query<{ waiting: bigint }>(
      database,
      `select count(*) as waiting from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock'`,
    );
    if (row !== undefined && row.waiting >= BigInt(count)) {
      return;
    }
  }
}
