/** How many slots of a cron expression there are in a span, without going from one to the next. */
import { setImmediate as endOfTurn } from "node:timers/promises";
import { dateTest, type TimesOfDay, timesOfDay } from "./cron-expression.ts";
import { clockChangeMs, offsetMs } from "./time-zone.ts";

/** A time without a clock change, in milliseconds: from the first to before the last. */
interface Stretch {
  readonly fromMs: number;
  readonly toMs: number;
  /** How far the zone is ahead of UTC. */
  readonly offsetMs: number;
  /** How far it was just before, if the clock was changed then. */
  readonly offsetBeforeMs: number;
}

const secondMs = 1000;
const dayMs = 86_400_000;
/** How long others wait for their turn at most, as long as a day of a schedule takes some microseconds. */
const turnMs = 4;

/**
 * Counts the slots from a time to before another, in milliseconds, or as far as a little above the limit. A step to
 * each slot would take two seconds for the minutes of a month; so of each date the times of day are reckoned with.
 */
export async function countExpressionSlots(
  expression: string,
  timeZone: string,
  span: { readonly fromMs: number; readonly toMs: number },
  limit: number,
): Promise<number> {
  const counter = new SlotCounter(expression, span);
  let turnEnd = performance.now() + turnMs;
  // From a day before, so that it is known what a clock change just before has made come twice.
  const start = Math.floor(span.fromMs / secondMs) * secondMs - dayMs;
  for (let dayFrom = start; dayFrom < span.toMs && counter.count <= limit; dayFrom += dayMs) {
    for (const stretch of stretchesOf(dayFrom, timeZone)) {
      counter.add(stretch);
    }
    if (performance.now() > turnEnd) {
      await endOfTurn();
      turnEnd = performance.now() + turnMs;
    }
  }
  return counter.count;
}

/** Counts the slots of one stretch after the other. What a clock shows is meant by local times, as if it showed UTC. */
class SlotCounter {
  count = 0;
  readonly #times: TimesOfDay;
  readonly #isNamed: (midnightMs: number) => boolean;
  readonly #fromMs: number;
  readonly #toMs: number;
  /** The slots before this local time are done with: they do not fire when it is shown again. */
  #doneMs = Number.NEGATIVE_INFINITY;

  constructor(expression: string, { fromMs, toMs }: { readonly fromMs: number; readonly toMs: number }) {
    this.#times = timesOfDay(expression);
    this.#isNamed = dateTest(expression);
    this.#fromMs = fromMs;
    this.#toMs = toMs;
  }

  add(stretch: Stretch): void {
    const { fromMs, toMs, offsetMs: offset } = stretch;
    let localFrom = fromMs + offset;
    if (!this.#times.everyHour) {
      this.#fireLeftOut(stretch);
      localFrom = Math.max(localFrom, this.#doneMs);
      this.#doneMs = Math.max(localFrom, toMs + offset);
    }
    this.count += this.#countLocal(Math.max(localFrom, this.#fromMs + offset), Math.min(toMs, this.#toMs) + offset);
  }

  /** All that the clock leaves out of a date fires as one, at the change, with what is due then. */
  #fireLeftOut({ fromMs, offsetMs: offset, offsetBeforeMs: offsetBefore }: Stretch): void {
    if (offset <= offsetBefore) {
      return;
    }
    const local = fromMs + offset;
    this.#doneMs = local + secondMs;
    const leftOut = this.#countLocal(Math.max(fromMs + offsetBefore, midnightOf(local)), this.#doneMs);
    if (leftOut > 0 && fromMs >= this.#fromMs && fromMs < this.#toMs) {
      this.count += 1;
    }
  }

  #countLocal(localFrom: number, localTo: number): number {
    let count = 0;
    for (let midnight = midnightOf(localFrom); localFrom < localTo && midnight < localTo; midnight += dayMs) {
      if (this.#isNamed(midnight)) {
        const to = Math.min(localTo - midnight, dayMs);
        count += timesBefore(this.#times, to) - timesBefore(this.#times, Math.max(localFrom - midnight, 0));
      }
    }
    return count;
  }
}

/** The parts of 24 hours: two if there is a clock change within them or at their end. */
function stretchesOf(fromMs: number, timeZone: string): readonly Stretch[] {
  const toMs = fromMs + dayMs;
  const [before, after] = [offsetMs(fromMs, timeZone), offsetMs(toMs, timeZone)];
  const whole = { fromMs, toMs, offsetMs: before, offsetBeforeMs: before };
  if (before === after) {
    return [whole];
  }
  const change = clockChangeMs(fromMs, toMs, timeZone);
  return [
    { ...whole, toMs: change },
    { fromMs: change, toMs, offsetMs: after, offsetBeforeMs: before },
  ];
}

/** How many times of day there are before one, in milliseconds since midnight. */
function timesBefore({ hours, minutes, seconds }: TimesOfDay, timeMs: number): number {
  const time = Math.ceil(timeMs / secondMs);
  const [hour, minute, second] = [Math.floor(time / 3600), Math.floor(time / 60) % 60, time % 60];
  const inHour = hours.includes(hour) ? below(minutes, minute) * seconds.length : 0;
  const inMinute = hours.includes(hour) && minutes.includes(minute) ? below(seconds, second) : 0;
  return below(hours, hour) * minutes.length * seconds.length + inHour + inMinute;
}

function below(numbers: readonly number[], limit: number): number {
  return numbers.filter((number) => number < limit).length;
}

function midnightOf(localMs: number): number {
  return Math.floor(localMs / dayMs) * dayMs;
}
