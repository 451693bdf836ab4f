/** Owns what a server tells of the service as a whole: whether it is ready, how late the sweeper is, what is stored. */
import type { Logger } from "pino";
import { Gauge, type Registry } from "prom-client";
import type { GetServiceStatsResponse } from "#gen/leasehold/v1/admin_pb.js";
import { serviceStats } from "../admin/service-stats.ts";
import type { Database } from "../database/database.ts";
import type { LeaseVariants } from "../lease/lease-variant.ts";
import type { Readiness } from "../server/pages.ts";
import { findSweeperLag } from "../sweeper/sweeper-statements.ts";

/** What the figures are read from. */
export interface ServiceFiguresOptions {
  readonly database: Database;
  readonly variants: LeaseVariants;
  readonly logger: Logger;
}

/** They sum whole tables, which no scraper's pace may make the database do more often, in milliseconds. */
const figuresLifeMs = 30_000;

/** Ready as long as the database answers: a sweeper that is late delays what becomes of ended leases, and no call. */
export async function readinessOf(options: ServiceFiguresOptions): Promise<Readiness> {
  try {
    const { lagSeconds, lastRoundSecondsAgo } = await readLag(options);
    return {
      ready: true,
      detail: {
        database: "up",
        sweeperLagSeconds: lagSeconds,
        sweeperLastRoundSecondsAgo: lastRoundSecondsAgo ?? null,
      },
    };
  } catch (error) {
    options.logger.warn({ err: error }, "the database does not answer");
    return { ready: false, detail: { database: "down" } };
  }
}

/**
 * Adds the figures to the metrics. While the database is away they are absent, rather than wrong. Money and volume are
 * added only where /metrics is the operator's alone: on the main doors anybody can read it.
 */
export function addServiceFigures(registry: Registry, options: ServiceFiguresOptions, isPrivate: boolean): void {
  addLag(registry, options);
  for (const variant of options.variants.all) {
    variant.addFigures?.(registry);
  }
  if (isPrivate) {
    addStats(registry, options);
  }
}

function addStats(registry: Registry, options: ServiceFiguresOptions): void {
  const figures = new CachedFigures(options);
  const gauge = (name: string, help: string, pick: (stats: GetServiceStatsResponse) => bigint): void => {
    addGauge(registry, `leasehold_${name}`, help, async (shown) => {
      const stats = await figures.read();
      return stats === undefined ? shown.remove() : shown.set(Number(pick(stats)));
    });
  };
  gauge(
    "earned_micros",
    "What was charged less what was refunded, in millionths of a US dollar.",
    (stats) => stats.earnedMicros,
  );
  gauge("refunded_micros", "What was refunded, in millionths of a US dollar.", (stats) => stats.refundedMicros);
  gauge("credited_micros", "What was credited, in millionths of a US dollar.", (stats) => stats.creditedMicros);
  gauge("reserved_bytes", "The room that live leases have paid for.", (stats) => stats.reservedBytes);
  gauge("stored_bytes", "What is stored for live leases.", (stats) => stats.storedBytes);
  gauge("undestroyed_leases", "Ended leases whose content is not destroyed yet.", (stats) => stats.undestroyedLeases);
  addLiveLeases(registry, figures);
}

function addLiveLeases(registry: Registry, figures: CachedFigures): void {
  new Gauge({
    name: "leasehold_live_leases",
    help: "Leases that have not ended, by variant.",
    labelNames: ["variant"],
    registers: [registry],
    async collect() {
      this.reset();
      for (const [variant, leases] of Object.entries((await figures.read())?.liveLeases ?? {})) {
        this.set({ variant }, Number(leases));
      }
    },
  });
}

function addLag(registry: Registry, options: ServiceFiguresOptions): void {
  addGauge(
    registry,
    "leasehold_sweeper_lag_seconds",
    "How long the sweeper's most overdue work has waited.",
    async (shown) => {
      try {
        shown.set((await readLag(options)).lagSeconds);
      } catch (error) {
        options.logger.warn({ err: error }, "the sweeper's lag could not be read");
        shown.remove();
      }
    },
  );
}

function addGauge(registry: Registry, name: string, help: string, collect: (shown: Gauge) => Promise<void>): void {
  new Gauge({
    name,
    help,
    registers: [registry],
    async collect() {
      await collect(this);
    },
  });
}

/** The figures as they were at most a moment ago, read once for all who ask at the same time. */
class CachedFigures {
  readonly #options: ServiceFiguresOptions;
  #reading: Promise<GetServiceStatsResponse | undefined> | undefined;
  #readMs = Number.NEGATIVE_INFINITY;

  constructor(options: ServiceFiguresOptions) {
    this.#options = options;
  }

  /** Undefined if the database does not answer. */
  read(): Promise<GetServiceStatsResponse | undefined> {
    const nowMs = performance.now();
    if (this.#reading === undefined || nowMs - this.#readMs > figuresLifeMs) {
      this.#readMs = nowMs;
      this.#reading = this.#readNow();
    }
    return this.#reading;
  }

  async #readNow(): Promise<GetServiceStatsResponse | undefined> {
    const { database, variants, logger } = this.#options;
    try {
      return await serviceStats(database, variants.all);
    } catch (error) {
      logger.warn({ err: error }, "the service's figures could not be read");
      this.#readMs = Number.NEGATIVE_INFINITY;
      return undefined;
    }
  }
}

interface SweeperLag {
  readonly lagSeconds: number;
  readonly lastRoundSecondsAgo: number | undefined;
}

const readings = new WeakMap<Database, Promise<SweeperLag>>();

/** One reading answers all who ask while it is under way: anybody may ask, as often as they like. */
function readLag(options: ServiceFiguresOptions): Promise<SweeperLag> {
  const { database } = options;
  const underWay = readings.get(database);
  if (underWay !== undefined) {
    return underWay;
  }
  const reading = readLagNow(options).finally(() => readings.delete(database));
  readings.set(database, reading);
  return reading;
}

/** The most overdue of what is swept, and of what variants have of their own to do by the clock. */
async function readLagNow({ database, variants }: ServiceFiguresOptions): Promise<SweeperLag> {
  const [row] = await database.run(findSweeperLag, []);
  if (row === undefined) {
    throw new Error("the database told no time");
  }
  const secondsSince = (time: bigint | null): number | undefined =>
    time === null ? undefined : Math.max(0, Number(row.now - time) / 1_000_000);
  const lags = [secondsSince(row.overdue_since) ?? 0];
  for (const variant of variants.all) {
    lags.push((await variant.overdueSeconds?.()) ?? 0);
  }
  return { lagSeconds: Math.max(...lags), lastRoundSecondsAgo: secondsSince(row.last_round) };
}
