/** Waits until everything that is due at one moment is delivered, and reads from the runs how late each was. */
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import type { CallsResult } from "./make-calls.ts";

/** What is waited for. */
export interface Firings {
  readonly databaseUrl: string;
  readonly dueSeconds: number;
  readonly count: number;
}

/** It is looked this often, so that looking costs Postgres little. */
const lookEveryMs = 500;
const longestMs = 120_000;
/** See CronRun.Outcome. */
const delivered = 2;

/** Each time runs from when a firing was due until it was delivered, and all together until the last was. */
export async function awaitFirings({ databaseUrl, dueSeconds, count }: Firings): Promise<CallsResult> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    for (;;) {
      const lag = await readLag(client, dueSeconds);
      if (lag.calls === count) {
        return { ...lag, elapsedMs: lag.maxMs, cpuMs: 0, outputs: [] };
      }
      if (Date.now() > dueSeconds * 1000 + longestMs) {
        throw new Error(`${lag.calls} of ${count} firings were delivered within ${longestMs / 1000} s`);
      }
      await delay(lookEveryMs);
    }
  } finally {
    await client.end();
  }
}

interface Lag {
  readonly calls: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

async function readLag(client: pg.Client, dueSeconds: number): Promise<Lag> {
  const { rows } = await client.query<Lag>(
    `select count(*)::int as calls, percentile_disc(0.5) within group (order by lag_ms) as "p50Ms",
      percentile_disc(0.99) within group (order by lag_ms) as "p99Ms", max(lag_ms) as "maxMs"
    from (
      select extract(epoch from deliver_time - slot_time)::float8 * 1000 as lag_ms
      from cron_run
      where slot_time = to_timestamp($1) and outcome = $2
    ) as run`,
    [dueSeconds, delivered],
  );
  return rows[0] ?? { calls: 0, p50Ms: Number.NaN, p99Ms: Number.NaN, maxMs: Number.NaN };
}
