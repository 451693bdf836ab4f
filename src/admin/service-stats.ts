/** What is stored, what it earned and how late the sweeper is, as GetServiceStats shows it. */
import { create } from "@bufbuild/protobuf";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import { type GetServiceStatsResponse, GetServiceStatsResponseSchema } from "#gen/leasehold/v1/admin_pb.js";
import type { Database } from "../database/database.ts";
import type { LeaseVariant } from "../lease/lease-variant.ts";
import { readServiceStats, type ServiceStatsRow } from "./service-stats-statement.ts";

const maxInt64 = 2n ** 63n - 1n;

/** Reads the figures as they are now. A sum that no int64 can hold is shown as the largest one. */
export async function serviceStats(
  database: Database,
  variants: readonly LeaseVariant[],
): Promise<GetServiceStatsResponse> {
  const rows = await database.run(readServiceStats, []);
  const [figures] = rows;
  if (figures === undefined) {
    throw new Error("the database gave no figures");
  }
  return create(GetServiceStatsResponseSchema, {
    earnedMicros: capped(figures.earned_micros),
    refundedMicros: capped(figures.refunded_micros),
    creditedMicros: capped(figures.credited_micros),
    liveLeases: Object.fromEntries(variants.map(({ variant, name }) => [name, liveLeases(rows, variant)])),
    reservedBytes: total(rows, (row) => row.reserved_bytes),
    storedBytes: total(rows, (row) => row.stored_bytes),
    sweeperLag: create(DurationSchema, {
      seconds: figures.overdue_micros / 1_000_000n,
      nanos: Number(figures.overdue_micros % 1_000_000n) * 1_000,
    }),
    undestroyedLeases: figures.undestroyed_leases,
  });
}

function liveLeases(rows: readonly ServiceStatsRow[], variant: number): bigint {
  return rows.find((row) => row.variant === variant)?.live_leases ?? 0n;
}

function total(rows: readonly ServiceStatsRow[], column: (row: ServiceStatsRow) => bigint | null): bigint {
  return capped(rows.reduce((sum, row) => sum + (column(row) ?? 0n), 0n));
}

function capped(sum: bigint): bigint {
  return sum > maxInt64 ? maxInt64 : sum;
}
