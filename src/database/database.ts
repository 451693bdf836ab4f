/** The way to Postgres: one pool, shared by statements and by MikroORM, and the one place that judges its failures. */
import { type EntityManager, MikroORM } from "@mikro-orm/postgresql";
import type { Pool, PoolClient } from "pg";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import { classifyFailure } from "./database-failure.ts";
import { Notifications } from "./notifications.ts";
import { type DatabaseOptions, ormOptions } from "./orm-options.ts";
import { rowTypes } from "./row-types.ts";
import { runMigrations } from "./run-migrations.ts";
import type { Statement } from "./statement.ts";

export type { Statement } from "./statement.ts";

/** How a statement's failure is told to the caller. */
export interface RunOptions {
  /** Whether the call can be found again by its request_id, so that an unknown outcome may be retried blindly. */
  readonly repeatable?: boolean;
}

/** Several statements in one transaction. */
export interface Transaction {
  run<Row>(statement: Statement<Row>, values: readonly unknown[]): Promise<Row[]>;
}

/** Runs statements. Safe for concurrent use. */
export class Database {
  /** LISTEN and NOTIFY, over a connection beside the pool. */
  readonly notifications: Notifications;
  readonly #url: string;
  readonly #orm: MikroORM;
  readonly #pool: Pool;

  private constructor(orm: MikroORM, pool: Pool, url: string) {
    this.notifications = new Notifications(url);
    this.#url = url;
    this.#orm = orm;
    this.#pool = pool;
  }

  static async connect(options: DatabaseOptions): Promise<Database> {
    const orm = await MikroORM.init(ormOptions(options));
    const pool = (await orm.em.getConnection().getNativeClient()) as Pool;
    return new Database(orm, pool, options.url);
  }

  /**
   * Reads through entities, in a fresh unit of work, for calls that are too rare to deserve a statement.
   *
   * @throws LeaseholdError DATABASE_UNAVAILABLE if the database is away.
   */
  async read<Result>(work: (entities: EntityManager) => Promise<Result>): Promise<Result> {
    try {
      return await work(this.#orm.em.fork());
    } catch (error) {
      throw classifyFailure(error).asCallerSees(false);
    }
  }

  /**
   * Runs one statement in its own transaction.
   *
   * @throws LeaseholdError DATABASE_UNAVAILABLE if nothing was done, or if a repeat is safe; OUTCOME_UNKNOWN if the
   * connection broke while a statement that writes was under way and the call is not repeatable.
   */
  async run<Row>(statement: Statement<Row>, values: readonly unknown[], options: RunOptions = {}): Promise<Row[]> {
    const client = await this.#acquire();
    let broken = false;
    try {
      return await runOn(client, statement, values);
    } catch (error) {
      const failure = classifyFailure(error);
      broken = failure.connectionLost;
      throw failure.asCallerSees(statement.writes && options.repeatable !== true);
    } finally {
      client.release(broken);
    }
  }

  /** Runs several statements in one READ COMMITTED transaction. Fails as `run` does. */
  async transaction<Result>(
    work: (transaction: Transaction) => Promise<Result>,
    options: RunOptions = {},
  ): Promise<Result> {
    const client = await this.#acquire();
    // Until it is committed or rolled back, a connection is fit for nobody else.
    let broken = true;
    try {
      await client.query("begin");
      const result = await work({ run: (statement, values) => runOn(client, statement, values) });
      await client.query("commit");
      broken = false;
      return result;
    } catch (error) {
      const failure = error instanceof LeaseholdError ? undefined : classifyFailure(error);
      broken = failure?.connectionLost === true || !(await hasRolledBack(client));
      throw failure?.asCallerSees(options.repeatable !== true) ?? error;
    } finally {
      client.release(broken);
    }
  }

  /** Runs the migrations that have not run yet. Several processes may call it at once: one does the work. */
  async migrate(): Promise<readonly string[]> {
    return await runMigrations(this.#url);
  }

  /** Waits for statements under way, then closes every connection. */
  async close(): Promise<void> {
    await this.notifications.close();
    await this.#orm.close();
  }

  async #acquire(): Promise<PoolClient> {
    try {
      return await this.#pool.connect();
    } catch (error) {
      throw classifyFailure(error).asCallerSees(false);
    }
  }
}

async function hasRolledBack(client: PoolClient): Promise<boolean> {
  try {
    await client.query("rollback");
    return true;
  } catch {
    // The connection is closed instead, and Postgres rolls back what it had open. What failed before is thrown.
    return false;
  }
}

async function runOn<Row>(client: PoolClient, statement: Statement<Row>, values: readonly unknown[]): Promise<Row[]> {
  const result = await client.query<Row & object>({
    name: statement.name,
    text: statement.text,
    values: values as unknown[],
    types: rowTypes,
  });
  return result.rows;
}
