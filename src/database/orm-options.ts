/** MikroORM's settings: the pool that statements share, the entities and the migrations. */
import { Migrator } from "@mikro-orm/migrations";
import { defineConfig } from "@mikro-orm/postgresql";
import type { PoolConfig } from "pg";
import { entities } from "./entities.ts";
import { migrationsList } from "./migrations-list.ts";

/** How to reach Postgres. */
export interface DatabaseOptions {
  readonly url: string;
  /** How many connections the pool may open. */
  readonly poolSize: number;
  /** How long a call waits for a connection, in milliseconds. */
  readonly acquireTimeoutMs?: number;
  /** How long a statement waits for one lock, in milliseconds. 0: for ever. */
  readonly lockTimeoutMs?: number;
  /**
   * How long a statement may take, in milliseconds: after it Postgres gives it up, and a little later so does this end,
   * for a database that does not answer at all would keep the connection for ever. 0: for ever.
   */
  readonly statementTimeoutMs?: number;
}

const defaultStatementTimeoutMs = 30_000;
/** How much longer this end waits than Postgres, in milliseconds: Postgres can say that nothing was done. */
const answerTimeMs = 5_000;

/**
 * Options for `MikroORM.init`. Every connection speaks UTC and ISO dates, so that times parse one way only, and gives
 * up on a lock after lockTimeoutMs and on a statement after statementTimeoutMs.
 */
export function ormOptions(options: DatabaseOptions) {
  const { lockTimeoutMs = 5_000, statementTimeoutMs = defaultStatementTimeoutMs } = options;
  // Plans are made once for each connection, often while tables are small, and would read whole tables or all rows of an
  // owner when they have grown. Every statement here has an index to walk.
  const plans = "-c enable_seqscan=off -c enable_bitmapscan=off";
  const session = `${plans} -c timezone=UTC -c datestyle=ISO -c lock_timeout=${lockTimeoutMs} -c statement_timeout=${statementTimeoutMs}`;
  const pool: PoolConfig = {
    connectionString: options.url,
    max: options.poolSize,
    connectionTimeoutMillis: options.acquireTimeoutMs ?? 5_000,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    ...(statementTimeoutMs === 0 ? {} : { query_timeout: statementTimeoutMs + answerTimeMs }),
    application_name: "leasehold",
    options: session,
  };
  return defineConfig({
    clientUrl: options.url,
    driverOptions: pool,
    entities: [...entities],
    extensions: [Migrator],
    migrations: { migrationsList: [...migrationsList], snapshot: false, silent: true, tableName: "migration" },
    discovery: { warnWhenNoEntities: false },
    forceUtcTimezone: true,
    pool: { max: options.poolSize },
  });
}
