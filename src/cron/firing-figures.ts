/** What a server tells of firing: how late it was, from the rows, since it is another process that fires. */
import { Gauge, type Registry } from "prom-client";
import type { Database } from "../database/database.ts";
import { findFiringLag } from "./firing-lag-statements.ts";

/** How long a reading is shown, in milliseconds: no scraper's pace makes the database look more often. */
const readingLifeMs = 5_000;

/** Adds the lag of firing to a server's metrics. While the database is away it is absent, rather than wrong. */
export function addFiringLag(registry: Registry, database: Database): void {
  let readMs = Number.NEGATIVE_INFINITY;
  let reading = Promise.resolve<readonly [string, bigint | null][]>([]);
  new Gauge({
    name: "leasehold_cron_firing_lag_seconds",
    help: "How late slots fired, of the latest 10,000 of the last five minutes, by quantile (1: the latest of all).",
    labelNames: ["quantile"],
    registers: [registry],
    async collect() {
      if (performance.now() - readMs > readingLifeMs) {
        readMs = performance.now();
        reading = readLag(database).catch(() => []);
      }
      this.reset();
      for (const [quantile, micros] of await reading) {
        if (micros !== null) {
          this.set({ quantile }, Number(micros) / 1_000_000);
        }
      }
    },
  });
}

async function readLag(database: Database): Promise<readonly [string, bigint | null][]> {
  const [lag] = await database.run(findFiringLag, []);
  return lag === undefined
    ? []
    : [
        ["0.5", lag.median_micros],
        ["0.99", lag.p99_micros],
        ["1", lag.longest_micros],
      ];
}
