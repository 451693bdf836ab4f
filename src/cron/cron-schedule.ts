/** When a Cron lease fires: the slots of its schedule, one after the other, and how many there are. */
import { createHash } from "node:crypto";
import type { CronSchedule } from "#gen/leasehold/v1/cron_pb.js";
import { invalidField } from "../errors/leasehold-error.ts";
import { countExpressionSlots } from "./count-expression-slots.ts";
import { nextRunMs, requireExpression } from "./cron-expression.ts";
import { requireZone, spellingOf } from "./time-zone.ts";

/** A schedule as it is stored: one of the first three is set. */
export interface Schedule {
  readonly expression: string | null;
  readonly everySeconds: bigint | null;
  /** In microseconds since the Unix epoch, as all times here. */
  readonly atMicros: bigint | null;
  /** Of the expression, by its IANA name. */
  readonly timeZone: string;
}

/** The time in which slots count: behind the start and before the end. */
export interface ScheduleSpan {
  readonly startMicros: bigint;
  readonly endMicros: bigint;
}

/**
 * The schedule of a request.
 *
 * @throws LeaseholdError INVALID_FIELD if it is none.
 */
export function parseSchedule(asked: CronSchedule | undefined, timeZone: string, field: string): Schedule {
  const zone = timeZone || "UTC";
  requireZone(zone, field.replace(/schedule$/, "time_zone"));
  const none = { expression: null, everySeconds: null, atMicros: null, timeZone: zone };
  switch (asked?.kind.case) {
    case "expression":
      requireExpression(asked.kind.value, `${field}.expression`);
      return { ...none, expression: asked.kind.value };
    case "every":
      if (asked.kind.value.nanos !== 0) {
        throw invalidField(`${field}.every`, "must be whole seconds");
      }
      if (asked.kind.value.seconds < 1n) {
        throw invalidField(`${field}.every`, "must be at least 1 s");
      }
      return { ...none, everySeconds: asked.kind.value.seconds };
    case "at": {
      const { seconds, nanos } = asked.kind.value;
      return { ...none, atMicros: seconds * 1_000_000n + BigInt(Math.floor(nanos / 1000)) };
    }
    default:
      throw invalidField(field, "must say when to fire");
  }
}

/** The first slot behind a time. Undefined if there is none before the span's end. */
export function nextSlot(schedule: Schedule, span: ScheduleSpan, afterMicros: bigint): bigint | undefined {
  const after = afterMicros > span.startMicros ? afterMicros : span.startMicros;
  const slot = after < span.endMicros ? slotBehind(schedule, span, after) : undefined;
  return slot !== undefined && slot < span.endMicros ? slot : undefined;
}

function slotBehind(
  schedule: Schedule,
  { startMicros, endMicros }: ScheduleSpan,
  afterMicros: bigint,
): bigint | undefined {
  if (schedule.atMicros !== null) {
    return schedule.atMicros > afterMicros ? schedule.atMicros : undefined;
  }
  if (schedule.everySeconds !== null) {
    const every = schedule.everySeconds * 1_000_000n;
    return startMicros + ((afterMicros - startMicros) / every + 1n) * every;
  }
  const [after, end] = [Number(afterMicros / 1000n), Number(endMicros / 1000n)];
  const run = nextRunMs(schedule.expression ?? "", spellingOf(schedule.timeZone), after, end);
  return run === null ? undefined : BigInt(run) * 1000n;
}

/** How many slots of a schedule there are in a span, or "more" than a limit. Lets others have their turn. */
export async function countSlots(schedule: Schedule, span: ScheduleSpan, limit: number): Promise<number | "more"> {
  if (schedule.everySeconds !== null) {
    const every = schedule.everySeconds * 1_000_000n;
    const count = (span.endMicros - span.startMicros - 1n) / every;
    return count > BigInt(limit) ? "more" : Number(count);
  }
  if (schedule.atMicros !== null) {
    return nextSlot(schedule, span, span.startMicros) === undefined ? 0 : 1;
  }
  // The slots are whole seconds: the first millisecond behind the start, and the first that is not before the end.
  const [fromMs, toMs] = [Number(span.startMicros / 1000n) + 1, Number((span.endMicros + 999n) / 1000n)];
  const count = await countExpressionSlots(schedule.expression ?? "", schedule.timeZone, { fromMs, toMs }, limit);
  return count > limit ? "more" : count;
}

/**
 * How long a slot is put off: drawn by its lease and time, so that it is the same for whoever asks. In microseconds, at
 * most `jitterMicros`, and never to the span's end.
 */
export function slotDelayMicros(
  leaseId: string,
  slotMicros: bigint,
  { endMicros }: ScheduleSpan,
  jitterMicros: bigint,
): bigint {
  const room = endMicros - slotMicros - 1_000_000n;
  const most = room < jitterMicros ? room : jitterMicros;
  if (most <= 0n) {
    return 0n;
  }
  const drawn = createHash("sha256").update(`${leaseId} ${slotMicros}`).digest().readUIntBE(0, 6);
  return BigInt(drawn) % (most + 1n);
}
