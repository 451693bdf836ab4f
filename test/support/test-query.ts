/** SQL by hand in tests: to look behind the RPCs, and to back-date rows instead of waiting. */
import { createHash } from "node:crypto";
import type { Database, Transaction } from "../../src/database/database.ts";
import { writeStatement } from "../../src/database/statement.ts";

/** Runs a statement; its rows have the types of `row-types.ts`: bigint, Buffer, DatabaseTime. */
export async function query<Row>(
  on: Database | Transaction,
  text: string,
  values: readonly unknown[] = [],
): Promise<Row[]> {
  const name = `test-${createHash("sha256").update(text).digest("hex").slice(0, 32)}`;
  return await on.run(writeStatement<Row>(name, text), values);
}
