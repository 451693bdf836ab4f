/** The slots of a cron expression as somebody finds them who looks at a clock on the wall every minute. */

/** From behind the start to before the end, in microseconds since the Unix epoch. */
export interface ClockSpan {
  readonly startMicros: bigint;
  readonly endMicros: bigint;
}

const minuteMs = 60_000;
const dayMs = 86_400_000;

/** The slots of an expression of five fields with numbers, lists, ranges and steps. */
export function clockSlots(expression: string, timeZone: string, { startMicros, endMicros }: ClockSpan): bigint[] {
  const isNamed = testOf(expression);
  const everyHour = numbersOf(expression.split(" ")[1] ?? "", 0, 23).size === 24;
  const look = clockOf(timeZone);
  const slots: bigint[] = [];
  const end = Number(endMicros / 1000n) + 1;
  // From half a day before, to know what has been shown already.
  let now = Math.floor(Number(startMicros / 1000n) / minuteMs) * minuteMs - dayMs / 2;
  let shown = look(now);
  for (now += minuteMs; now < end; now += minuteMs) {
    const local = look(now);
    let isSlot = isNamed(local);
    if (!everyHour) {
      isSlot &&= local > shown;
      for (let leftOut = shown + minuteMs; leftOut < local; leftOut += minuteMs) {
        isSlot ||= isNamed(leftOut);
      }
    }
    const slot = BigInt(now) * 1000n;
    if (isSlot && slot > startMicros && slot < endMicros) {
      slots.push(slot);
    }
    shown = Math.max(shown, local);
  }
  return slots;
}

export function micros(time: string): bigint {
  return BigInt(Date.parse(time)) * 1000n;
}

/** A span from a time to another, or to so many seconds behind it. */
export function spanOf(start: string, end: string, secondsBehind = 0): ClockSpan {
  return { startMicros: micros(start), endMicros: micros(end) + BigInt(secondsBehind) * 1_000_000n };
}

/** What a clock shows at a time, as if it showed UTC. */
function clockOf(timeZone: string): (timeMs: number) => number {
  const format = new Intl.DateTimeFormat("sv", { timeZone, dateStyle: "short", timeStyle: "medium" });
  return (timeMs) => Date.parse(`${format.format(timeMs).replace(" ", "T")}Z`);
}

function testOf(expression: string): (localMs: number) => boolean {
  const [minutes = "", hours = "", days = "", months = "", weekdays = ""] = expression.split(" ");
  const [minuteSet, hourSet] = [numbersOf(minutes, 0, 59), numbersOf(hours, 0, 23)];
  const [daySet, monthSet, weekdaySet] = [numbersOf(days, 1, 31), numbersOf(months, 1, 12), numbersOf(weekdays, 0, 6)];
  return (localMs) => {
    const local = new Date(localMs);
    const isDay = daySet.has(local.getUTCDate());
    const isWeekday = weekdaySet.has(local.getUTCDay());
    // Where both are restricted either will do.
    const isDate = days === "*" || weekdays === "*" ? isDay && isWeekday : isDay || isWeekday;
    const isTime = minuteSet.has(local.getUTCMinutes()) && hourSet.has(local.getUTCHours());
    return isTime && isDate && monthSet.has(local.getUTCMonth() + 1);
  };
}

function numbersOf(field: string, min: number, max: number): ReadonlySet<number> {
  const parts = field.split(",").map((part) => {
    const [range = "", step = "1"] = part.split("/");
    const [from = min, to = from] = range === "*" ? [min, max] : range.split("-").map(Number);
    return Array.from({ length: to - from + 1 }, (_, index) => from + index).filter(
      (number) => (number - from) % Number(step) === 0,
    );
  });
  return new Set(parts.flat());
}
