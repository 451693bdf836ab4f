/** A database of its own for a test file: a copy of a migrated template, dropped after the file's last test. */
import { createHash, randomUUID } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import pg from "pg";
import { afterAll, inject } from "vitest";
import { Database } from "../../src/database/database.ts";

/** The advisory lock under which one of many test processes makes the template. */
const templateLock = 4_102_444_801;

/**
 * Connects to a fresh, migrated database. Call it at the top level of a test file, where vitest collects hooks: after
 * the file's tests the connections are closed and the database is dropped.
 */
export async function testDatabase(options: { readonly poolSize?: number } = {}): Promise<Database> {
  const database = await Database.connect({ url: await testDatabaseUrl(), poolSize: options.poolSize ?? 10 });
  afterAll(() => database.close());
  return database;
}

/** The address of a fresh, migrated database, for tests that hand it to another process. Called and dropped likewise. */
export async function testDatabaseUrl(): Promise<string> {
  const name = `test_${randomUUID().replaceAll("-", "")}`;
  await withServer(async (server) => {
    const template = await makeTemplate(server);
    await server.query(`create database ${name} template ${template}`);
  });
  afterAll(() => withServer((server) => server.query(`drop database if exists ${name} with (force)`)));
  return urlOf(name);
}

/** Makes the template unless there is one of the same migrations. Renamed when complete, so that a crash leaves none. */
async function makeTemplate(server: pg.Client): Promise<string> {
  const template = `test_template_${await digestMigrations()}`;
  await server.query("select pg_advisory_lock($1)", [templateLock]);
  try {
    const { rowCount } = await server.query("select from pg_database where datname = $1", [template]);
    if (rowCount === 0) {
      await server.query(`drop database if exists ${template}_unfinished with (force)`);
      await server.query(`create database ${template}_unfinished`);
      const database = await Database.connect({ url: urlOf(`${template}_unfinished`), poolSize: 2 });
      await database.migrate();
      await database.close();
      await server.query(`alter database ${template}_unfinished rename to ${template}`);
    }
  } finally {
    await server.query("select pg_advisory_unlock($1)", [templateLock]);
  }
  return template;
}

async function digestMigrations(): Promise<string> {
  const folder = new URL("../../src/database/migrations/", import.meta.url);
  const digest = createHash("sha256");
  for (const file of (await readdir(folder)).sort()) {
    digest.update(file).update(await readFile(new URL(file, folder)));
  }
  return digest.digest("hex").slice(0, 12);
}

async function withServer(work: (server: pg.Client) => Promise<unknown>): Promise<void> {
  const server = new pg.Client({ connectionString: urlOf("postgres") });
  await server.connect();
  try {
    await work(server);
  } finally {
    await server.end();
  }
}

function urlOf(database: string): string {
  const given = inject("postgresUrl") ?? process.env.TEST_POSTGRES_URL;
  if (given === undefined) {
    throw new Error("no Postgres: run under the global setup, or set TEST_POSTGRES_URL");
  }
  const url = new URL(given);
  url.pathname = `/${database}`;
  return url.href;
}
