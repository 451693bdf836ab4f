/** Puts a database's rows back to what they were, so that rounds that add rows all start from as many. */
import pg from "pg";

/** The rows of every table at one moment, kept in a schema beside them. */
export class Snapshot {
  readonly #url: string;
  readonly #tables: readonly string[];

  private constructor(url: string, tables: readonly string[]) {
    this.#url = url;
    this.#tables = tables;
  }

  static async take(url: string): Promise<Snapshot> {
    return await withClient(url, async (client) => {
      const { rows } = await client.query<{ name: string }>(
        "select quote_ident(tablename) as name from pg_tables where schemaname = 'public' and tablename <> 'migration'",
      );
      const tables = rows.map((row) => row.name);
      await client.query("create schema bench_snapshot");
      for (const table of tables) {
        await client.query(`create table bench_snapshot.${table} as table public.${table}`);
      }
      return new Snapshot(url, tables);
    });
  }

  /** For a moment without any load: nobody may hold a row. */
  async restore(): Promise<void> {
    await withClient(this.#url, async (client) => {
      await client.query(`truncate ${this.#tables.map((table) => `public.${table}`).join(", ")}`);
      for (const table of this.#tables) {
        await client.query(`insert into public.${table} table bench_snapshot.${table}`);
      }
    });
  }
}

async function withClient<Result>(url: string, work: (client: pg.Client) => Promise<Result>): Promise<Result> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
