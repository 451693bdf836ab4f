/** What a server costs its database, however little is asked of it. */
import type { Database } from "../../src/database/database.ts";
import type { TestLeasehold } from "./test-leasehold.ts";
import { query } from "./test-query.ts";

/** How many transactions a server's database commits in six seconds: three times what is done every two. Asked of `beside`. */
export async function commitsInSixSeconds(beside: Database, server: TestLeasehold): Promise<number> {
  // What has just been done is counted by then.
  await query(server.database, "select pg_sleep(3)");
  const before = await commits(beside, server);
  await query(beside, "select pg_sleep(6)");
  return (await commits(beside, server)) - before;
}

async function commits(beside: Database, server: TestLeasehold): Promise<number> {
  const [row] = await query<{ xact_commit: bigint }>(
    beside,
    "select xact_commit from pg_stat_database where datname = $1",
    [new URL(server.databaseUrl).pathname.slice(1)],
  );
  return Number(row?.xact_commit);
}
