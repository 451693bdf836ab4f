/** A row of `cron` as statements return it, and what follows from it. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import type { DatabaseTime } from "../database/row-types.ts";
import type { AccountUuid, LeaseUuid } from "../ids/ids.ts";
import type { Schedule, ScheduleSpan } from "./cron-schedule.ts";

/** A schedule with its target and policies, and how far it has come. Enums hold the proto's numbers. */
export interface CronRow {
  readonly owner_id: AccountUuid;
  readonly lease_id: LeaseUuid;
  readonly state: number;
  readonly expression: string | null;
  readonly every_seconds: bigint | null;
  readonly at_time: DatabaseTime | null;
  readonly time_zone: string;
  readonly start_time: DatabaseTime;
  readonly end_time: DatabaseTime;
  readonly target_kind: number;
  readonly target_lease_id: LeaseUuid | null;
  readonly target_key: string | null;
  readonly overlap: number;
  readonly misfire: number;
  readonly max_lateness_seconds: bigint;
  readonly jitter_micros: bigint;
  readonly payload_bytes: number;
  readonly next_slot_time: DatabaseTime | null;
  /** When that slot fires. */
  readonly next_fire_time: DatabaseTime | null;
}

const names = [
  "owner_id",
  "lease_id",
  "state",
  "expression",
  "every_seconds",
  "at_time",
  "time_zone",
  "start_time",
  "end_time",
  "target_kind",
  "target_lease_id",
  "target_key",
  "overlap",
  "misfire",
  "max_lateness_seconds",
  "jitter_micros",
  "payload_bytes",
  "next_slot_time",
  "next_fire_time",
] as const satisfies readonly (keyof CronRow)[];

/** The select list of a CronRow, of a table or CTE by its alias. `prefix`: what each column's name begins with. */
export function cronColumns(alias: string, prefix = ""): string {
  return names.map((name) => (prefix === "" ? `${alias}.${name}` : `${alias}.${name} as ${prefix}${name}`)).join(", ");
}

/** The columns that cronColumns gave a prefix, as a CronRow. */
export function cronOf(row: object, prefix: string): CronRow {
  const columns = row as Readonly<Record<string, unknown>>;
  return Object.fromEntries(names.map((name) => [name, columns[`${prefix}${name}`]])) as unknown as CronRow;
}

/** Numbers in `cron.state`, which are those of CronDetails.State. */
export const cronStates = { running: 1, paused: 2, finished: 3, targetEnded: 4 } as const;

/** Numbers in `cron.target_kind`. */
export const targetKinds = { mailbox: 1, scratchpad: 2, webhook: 3 } as const;

/** The variant that a target of a kind is of. */
export const targetVariants: Readonly<Record<number, Lease_Variant>> = {
  [targetKinds.mailbox]: Lease_Variant.MAILBOX,
  [targetKinds.scratchpad]: Lease_Variant.SCRATCHPAD,
};

/** Numbers in `cron_run.outcome`, which are those of CronRun.Outcome. */
export const runOutcomes = { pending: 1, delivered: 2, missed: 3, skipped: 4, replaced: 5, targetEnded: 6 } as const;

export function scheduleOf(row: CronRow): Schedule {
  const { expression, every_seconds, at_time, time_zone } = row;
  return { expression, everySeconds: every_seconds, atMicros: at_time, timeZone: time_zone };
}

export function spanOf(row: Pick<CronRow, "start_time" | "end_time">): ScheduleSpan {
  return { startMicros: row.start_time, endMicros: row.end_time };
}
