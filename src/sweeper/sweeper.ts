/** The sweeper: runs each task over and over, until it is stopped, whatever becomes of the database meanwhile. */
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import type { Database } from "../database/database.ts";
import type { SweepTask } from "./sweep-tasks.ts";
import { recordSweep } from "./sweeper-statements.ts";

/** How long a task that failed waits, in milliseconds. */
const failedDelayMs = 2_000;

/** Runs tasks. Many sweepers may run beside each other, with no leader: each conditional statement is won by one. */
export class Sweeper {
  readonly #database: Database;
  readonly #tasks: readonly SweepTask[];
  readonly #logger: Logger;
  readonly #stopping = new AbortController();

  constructor(database: Database, tasks: readonly SweepTask[], logger: Logger) {
    this.#database = database;
    this.#tasks = tasks;
    this.#logger = logger;
  }

  /** Runs until `stop`. Resolves when every task has ended the batch it was at. */
  async run(): Promise<void> {
    await Promise.all(this.#tasks.map((task) => this.#repeat(task)));
  }

  /** Runs every task until nothing is waiting, once. */
  async sweepOnce(): Promise<Record<string, number>> {
    const done: Record<string, number> = {};
    for (const task of this.#tasks) {
      done[task.name] = await this.#drain(task);
    }
    return done;
  }

  stop(): void {
    this.#stopping.abort();
  }

  async #repeat(task: SweepTask): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      let waitMs = task.intervalMs;
      try {
        await this.#drain(task);
      } catch (error) {
        this.#logger.error({ err: error, task: task.name }, "a task of the sweeper failed, and is tried again");
        waitMs = Math.max(waitMs, failedDelayMs);
      }
      await delay(waitMs, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Runs a task until nothing is waiting. Time is recorded only then, so that the record never hides a backlog. */
  async #drain(task: SweepTask): Promise<number> {
    let total = 0;
    for (;;) {
      const { done, more } = await task.run();
      total += done;
      if (done > 0) {
        this.#logger.info({ task: task.name, done }, "swept");
      }
      if (!more || this.#stopping.signal.aborted) {
        break;
      }
    }
    await this.#database.run(recordSweep, [[task.name]], { repeatable: true });
    return total;
  }
}
