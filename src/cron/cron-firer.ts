/** The loop that fires schedules, beside the sweeper and in no one's way. */
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import { isOutage } from "../database/database-failure.ts";
import { type AccountUuid, formatId, type LeaseUuid } from "../ids/ids.ts";
import { CronFirings, type CronFiringsOptions, type WaitingRun } from "./cron-firings.ts";
import { cronOf } from "./cron-row.ts";
import { CronWebhooks, type CronWebhooksOptions } from "./cron-webhooks.ts";
import { type DueCronRow, findDueCrons, findDueRuns, findNextFiring } from "./firing-statements.ts";

/** What the firer needs. */
export interface CronFirerOptions extends CronFiringsOptions, CronWebhooksOptions {
  readonly logger: Logger;
}

/** How many schedules are taken at once, and how many bytes of their payloads. */
const mostDue = 1_000;
const mostDueBytes = 16 * 1_048_576;
/** How many schedules of one owner fire in one transaction. */
const mostTogether = 100;
/** How many transactions are under way at once. */
const mostTransactions = 4;
/** How many waiting runs are taken at once. */
const mostWaiting = 200;
/**
 * How long an idle firer waits before it looks again, in milliseconds, unless a slot it knows of comes sooner: the
 * longest delay of a schedule's first slot. A look that finds nothing is a step in an index.
 */
const lookIntervalMs = 1_000;
/**
 * How long it waits after a failure of the database, and before what failed by itself is tried again, in milliseconds.
 */
const failedDelayMs = 2_000;
const stuckDelayMs = 30_000;

/** Fires what is due. Many may run beside each other, with no leader: a slot is recorded by one. */
export class CronFirer {
  readonly #options: CronFirerOptions;
  readonly #firings: CronFirings;
  readonly #webhooks: CronWebhooks;
  readonly #stopping = new AbortController();
  /** Leases whose firing failed through their own fault, and when each is tried again. */
  readonly #stuck = new Map<LeaseUuid, number>();
  #posting = Promise.withResolvers<void>();

  constructor(options: CronFirerOptions) {
    this.#options = options;
    this.#firings = new CronFirings(options);
    this.#webhooks = new CronWebhooks(options, () => this.#wakePosting());
  }

  /**
   * Runs until `stop`. Resolves when nothing is under way. Firing, trying again and posting each go by themselves: what
   * is slow in one makes no other late.
   */
  async run(): Promise<void> {
    await Promise.all([
      this.#repeat(
        async () => {
          const fired = await this.#fireRound();
          if (fired > 0) {
            this.#wakePosting();
          }
          return fired;
        },
        async () => this.#wait(await this.#idleMs()),
      ),
      this.#repeat(
        () => this.#retryRound(),
        () => this.#wait(lookIntervalMs),
      ),
      this.#repeat(
        () => this.#webhooks.begin(),
        () => this.#wait(lookIntervalMs, this.#posting.promise),
      ),
    ]);
    await this.#webhooks.finish();
  }

  /** Fires until nothing is due. Gives how many slots and attempts that were. */
  async fireDue(): Promise<number> {
    let total = 0;
    for (;;) {
      const done = (await this.#fireRound()) + (await this.#retryRound()) + (await this.#webhooks.begin());
      total += done;
      if (done === 0) {
        return total;
      }
      await this.#webhooks.allEnded();
    }
  }

  stop(): void {
    this.#stopping.abort();
  }

  /** Does rounds of one kind: the next at once behind one that did something, and else when it has waited. */
  async #repeat(round: () => Promise<number>, waitIdle: () => Promise<void>): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      try {
        if ((await round()) === 0) {
          await waitIdle();
        }
      } catch (error) {
        this.#options.logger.error({ err: error }, "schedules could not be fired, and are looked at again");
        await this.#wait(failedDelayMs);
      }
    }
  }

  /** Lets those be posted that have just fired, or take the place of an attempt that has ended. */
  #wakePosting(): void {
    this.#posting.resolve();
    this.#posting = Promise.withResolvers();
  }

  async #fireRound(): Promise<number> {
    const { database } = this.#options;
    const due = await database.run(findDueCrons, [mostDue, mostDueBytes, this.#stuckLeases()]);
    // Those into one lease together: it is locked and written once for all of them.
    const groups = [...Map.groupBy(due, (row) => row.owner_id)].flatMap(([ownerId, rows]) =>
      chunksOf(rows.toSorted(byTarget), mostTogether).map((chunk) => ({ ownerId, rows: chunk })),
    );
    let fired = 0;
    await inParallel(groups, mostTransactions, async ({ ownerId, rows }) => {
      fired += await this.#fireGroup(ownerId, rows);
    });
    return fired;
  }

  /** If a group fails, each of its schedules is tried alone, and what still fails is set aside for a while. */
  async #fireGroup(ownerId: AccountUuid, rows: readonly DueCronRow[]): Promise<number> {
    try {
      return await this.#firings.fire(ownerId, rows);
    } catch (error) {
      if (isOutage(error)) {
        throw error;
      }
      const [first] = rows;
      if (rows.length === 1 && first !== undefined) {
        this.#setAside(first.lease_id, error);
        return 0;
      }
      let fired = 0;
      for (const row of rows) {
        fired += await this.#fireGroup(ownerId, [row]);
      }
      return fired;
    }
  }

  async #retryRound(): Promise<number> {
    const rows = await this.#options.database.run(findDueRuns, [mostWaiting, this.#stuckLeases()]);
    let tried = 0;
    await inParallel(rows, mostTransactions, async (row) => {
      const run: WaitingRun = { ...row, cron: cronOf(row, "cron_") };
      try {
        tried += (await this.#firings.retry(run)) ? 1 : 0;
      } catch (error) {
        if (isOutage(error)) {
          throw error;
        }
        this.#setAside(run.lease_id, error);
      }
    });
    return tried;
  }

  #setAside(leaseId: LeaseUuid, error: unknown): void {
    const lease = formatId("lse", leaseId);
    this.#options.logger.error({ lease, err: error }, "a schedule could not be fired, and is tried again later");
    this.#stuck.set(leaseId, performance.now() + stuckDelayMs);
  }

  #stuckLeases(): LeaseUuid[] {
    for (const [leaseId, againMs] of this.#stuck) {
      if (againMs <= performance.now()) {
        this.#stuck.delete(leaseId);
      }
    }
    return [...this.#stuck.keys()];
  }

  /** Until the next slot that is known, but not longer than until the next look. */
  async #idleMs(): Promise<number> {
    const [row] = await this.#options.database.run(findNextFiring, []);
    const waitMicros = row?.wait_micros ?? null;
    return waitMicros === null ? lookIntervalMs : Math.min(lookIntervalMs, Math.max(0, Number(waitMicros) / 1000));
  }

  /** Waits for a while, or less: for who wakes, and for the stop. */
  async #wait(waitMs: number, woken?: Promise<void>): Promise<void> {
    const waking = new AbortController();
    const signal = AbortSignal.any([waking.signal, this.#stopping.signal]);
    void woken?.then(() => waking.abort());
    await delay(waitMs, undefined, { signal }).catch(() => undefined);
  }
}

function byTarget(one: DueCronRow, other: DueCronRow): number {
  return (one.target_lease_id ?? "") < (other.target_lease_id ?? "") ? -1 : 1;
}

function chunksOf<Item>(items: readonly Item[], size: number): Item[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) =>
    items.slice(index * size, (index + 1) * size),
  );
}

/** Does work for each item, so many at a time. */
async function inParallel<Item>(
  items: readonly Item[],
  count: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const left = items.values();
  await Promise.all(
    Array.from({ length: count }, async () => {
      for (const item of left) {
        await work(item);
      }
    }),
  );
}
