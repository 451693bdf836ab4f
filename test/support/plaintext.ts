/** Looks for plaintext behind the RPCs: in every table, and in every file of the data folder. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import type { Database } from "../../src/database/database.ts";
import type { Tenant } from "./tenant.ts";
import { query } from "./test-query.ts";

/** Which of some texts stand anywhere in the database's tables, in clear or as hexadecimal of bytea. */
export async function textsInTables(database: Database, tenant: Tenant, texts: readonly string[]): Promise<string[]> {
  const tables = await query<{ name: string }>(
    database,
    "select relname as name from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace",
  );
  const dumps = await Promise.all(
    tables.map(({ name }) =>
      query<{ dump: string | null }>(database, `select string_agg(t::text, E'\\n') as dump from "${name}" as t`),
    ),
  );
  const dump = dumps
    .flat()
    .map((row) => row.dump ?? "")
    .join("\n");
  expect(dump).toContain(tenant.ownerId);
  return texts.filter((text) => dump.includes(text) || dump.includes(hexOf(text)));
}

/** Which of some texts stand anywhere in the data folder, in a file or in its name, in clear or as hexadecimal. */
export async function textsInFiles(dataDir: string, texts: readonly string[]): Promise<string[]> {
  const entries = await readdir(dataDir, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  expect(files.length).toBeGreaterThan(0);
  const contents = await Promise.all(
    files.map(async (path) => Buffer.concat([Buffer.from(path), await readFile(path)])),
  );
  return texts.filter((text) => contents.some((content) => content.includes(text) || content.includes(hexOf(text))));
}

function hexOf(text: string): string {
  return Buffer.from(text).toString("hex");
}
