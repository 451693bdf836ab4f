/** A guess of the database's clock, for choices that the statement which uses them checks. Never compared with a stored time. */
import type { Database } from "./database.ts";
import type { DatabaseTime } from "./row-types.ts";
import { readStatement } from "./statement.ts";

const readClock = readStatement<{ now: DatabaseTime }>("read-clock", "select clock_timestamp() as now");

/**
 * Follows the database's clock by the host's, corrected by every time a statement returns. The monotonic clock would not
 * do: it stands still while a machine sleeps, and the guess would be hours behind.
 */
export class DatabaseClock {
  #offsetMicros: bigint;

  private constructor(now: DatabaseTime) {
    this.#offsetMicros = now - hostMicros();
  }

  static async read(database: Database): Promise<DatabaseClock> {
    return new DatabaseClock(await readTime(database));
  }

  /** The database's time, give or take a round trip and the drift since the last correction. */
  guess(): DatabaseTime {
    return (hostMicros() + this.#offsetMicros) as DatabaseTime;
  }

  /** Takes a time that a statement has just returned. */
  correct(now: DatabaseTime): void {
    this.#offsetMicros = now - hostMicros();
  }
}

/** The database's time, read now. */
async function readTime(database: Database): Promise<DatabaseTime> {
  const [row] = await database.run(readClock, []);
  if (row === undefined) {
    throw new Error("the database gave no time");
  }
  return row.now;
}

function hostMicros(): bigint {
  return BigInt(Date.now()) * 1000n;
}
