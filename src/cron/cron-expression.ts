/** Cron expressions: what is one, the times of day and the dates that it names, and its next slot. */
import { Cron, CronPattern } from "croner";
import { invalidField } from "../errors/leasehold-error.ts";

/** The times of day that the first three fields name, each field's numbers in order. */
export interface TimesOfDay {
  readonly hours: readonly number[];
  readonly minutes: readonly number[];
  readonly seconds: readonly number[];
  /**
   * Whether every hour is named. Then the slots follow the time that passes: a clock change leaves out what it leaves
   * out, and what comes twice fires twice. Otherwise they follow the clock on the wall: what is left out fires at the
   * change, and what comes twice fires the first time. It is told by the hours that are named, however they are
   * written. Where the change leaves out the end of a date, as in Greenland alone, what is left out does not fire.
   */
  readonly everyHour: boolean;
}

const dayMs = 86_400_000;
/** The longest expression, as the schema has it, for doors that do not go by the schema. */
export const maxExpressionBytes = 256;

/** @throws LeaseholdError INVALID_FIELD. */
export function requireExpression(expression: string, field: string): void {
  if (expression.length > maxExpressionBytes) {
    throw invalidField(field, `must have at most ${maxExpressionBytes} bytes`);
  }
  const { length } = expression.trim().split(/\s+/);
  if (length !== 5 && length !== 6) {
    throw invalidField(field, "must have five fields, or six with seconds in front");
  }
  try {
    patternOf(expression);
  } catch (error) {
    const reason = error instanceof Error ? error.message.replace(/^Cron\w*: /, "") : "it cannot be read";
    throw invalidField(field, `is no cron expression: ${reason}`);
  }
}

export function timesOfDay(expression: string): TimesOfDay {
  const { hour, minute, second } = patternOf(expression);
  const hours = numbersOf(hour);
  return { hours, minutes: numbersOf(minute), seconds: numbersOf(second), everyHour: hours.length === 24 };
}

/** Tells whether the last three fields name a date, which is given by its midnight in UTC, in milliseconds. */
export function dateTest(expression: string): (midnightMs: number) => boolean {
  const dates = new Cron(`0 0 0 ${fieldsOf(expression).slice(3).join(" ")}`, { utcOffset: 0, paused: true });
  return (midnightMs) => dates.match(new Date(midnightMs));
}

/**
 * The first slot behind a time, all in milliseconds. It may lie behind the end, as far as in the year after it, and is
 * null if there is none until then.
 */
export function nextRunMs(expression: string, timeZone: string, afterMs: number, endMs: number): number | null {
  // Without years an expression that never comes, such as that of a February 30, is looked for through four centuries.
  const years = `${yearOf(afterMs - dayMs)}-${yearOf(endMs + dayMs)}`;
  return stepperOf(expression, timeZone, years).nextRun(new Date(afterMs))?.getTime() ?? null;
}

/** What stepped last. Steps come one after the other, and making a stepper takes as long as a step: about 50 µs. */
let recent: { readonly key: string; readonly stepper: Cron } | undefined;

function stepperOf(expression: string, timeZone: string, years: string): Cron {
  const key = `${expression} ${years} ${timeZone}`;
  if (recent?.key !== key) {
    const times = timesOfDay(expression);
    const [seconds, minutes, , ...date] = fieldsOf(expression);
    // Only times without a wildcard are taken by the clock on the wall, so all are written out.
    const time = times.everyHour ? [seconds, minutes, "*"] : [times.seconds, times.minutes, times.hours];
    const options = { timezone: timeZone, paused: true, fixedTimeRule: "no-wildcard" } as const;
    recent = { key, stepper: new Cron([...time, ...date, years].join(" "), options) };
  }
  return recent.stepper;
}

function patternOf(expression: string): CronPattern {
  // Not by Cron itself, which takes what has a colon in it for a date.
  return new CronPattern(fieldsOf(expression).join(" "), undefined, { mode: "6-part" });
}

/** Six fields, seconds first. */
function fieldsOf(expression: string): readonly string[] {
  const fields = expression.trim().split(/\s+/);
  return fields.length === 5 ? ["0", ...fields] : fields;
}

function numbersOf(flags: readonly number[]): readonly number[] {
  return flags.flatMap((flag, number) => (flag === 0 ? [] : [number]));
}

function yearOf(timeMs: number): number {
  return new Date(timeMs).getUTCFullYear();
}
