import { create, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CronScheduleSchema } from "#gen/leasehold/v1/cron_pb.js";
import { nextRunMs } from "../../src/cron/cron-expression.ts";
import { countSlots, nextSlot, parseSchedule, type Schedule, slotDelayMicros } from "../../src/cron/cron-schedule.ts";
import { type ClockSpan, clockSlots, micros, spanOf } from "./wall-clock.ts";

type Night = readonly [start: string, end: string];

interface ZoneIn2027 {
  readonly timeZone: string;
  /** The day around the change that leaves out 02:00 to 03:00, and the half hour after the change. */
  readonly spring: { readonly day: Night; readonly change: string; readonly after: string };
  /** The day around the change that makes an hour come twice. */
  readonly autumn: { readonly day: Night; readonly change: string; readonly twice: number };
  /** The slots of 02:30 in spring, of half past the hour that comes twice, and of all half hours of that and the next. */
  readonly inGap: readonly string[];
  readonly once: readonly string[];
  readonly halfHours: readonly string[];
}

const zones: readonly ZoneIn2027[] = [
  {
    timeZone: "Europe/Berlin",
    spring: {
      day: ["2027-03-27T12:00Z", "2027-03-29T12:00Z"],
      change: "2027-03-28T01:00Z",
      after: "2027-03-28T01:30Z",
    },
    autumn: { day: ["2027-10-30T12:00Z", "2027-11-01T12:00Z"], change: "2027-10-31T01:00Z", twice: 2 },
    inGap: ["2027-03-28T01:00Z", "2027-03-29T00:30Z"],
    once: ["2027-10-31T00:30Z", "2027-11-01T01:30Z"],
    halfHours: ["2027-10-31T00:00Z", "2027-10-31T00:30Z", "2027-10-31T02:00Z", "2027-10-31T02:30Z"],
  },
  {
    timeZone: "America/New_York",
    spring: {
      day: ["2027-03-13T12:00Z", "2027-03-15T12:00Z"],
      change: "2027-03-14T07:00Z",
      after: "2027-03-14T07:30Z",
    },
    autumn: { day: ["2027-11-06T12:00Z", "2027-11-08T12:00Z"], change: "2027-11-07T06:00Z", twice: 1 },
    inGap: ["2027-03-14T07:00Z", "2027-03-15T06:30Z"],
    once: ["2027-11-07T05:30Z", "2027-11-08T06:30Z"],
    halfHours: ["2027-11-07T05:00Z", "2027-11-07T05:30Z", "2027-11-07T07:00Z", "2027-11-07T07:30Z"],
  },
];

describe.each(zones)("in $timeZone", ({ timeZone, spring, autumn, inGap, once, halfHours }) => {
  test("a time that a clock change leaves out fires at the change, and on other days when it is due", async () => {
    await expectSlots(cron("30 2 * * *", timeZone), spanOf(...spring.day), inGap);
  });

  test("several times that a clock change leaves out fire as one, together with what is due at the change", async () => {
    const night = spanOf(spring.day[0], spring.change, 3600);
    await expectSlots(cron("*/30 2,3 * * *", timeZone), night, [spring.change, spring.after]);
    await expectSlots(cron("59 59 2 * * *", timeZone), night, [spring.change]);
  });

  test("a time that comes twice fires the first time", async () => {
    await expectSlots(cron(`30 ${autumn.twice} * * *`, timeZone), spanOf(...autumn.day), once);
    const { twice, change } = autumn;
    await expectSlots(
      cron(`*/30 ${twice},${twice + 1} * * *`, timeZone),
      spanOf(autumn.day[0], change, 7200),
      halfHours,
    );
    // And not the second time for a lease that was made between the two.
    await expectSlots(cron(`30 ${twice} * * *`, timeZone), spanOf(change, change, 3600), []);
  });

  test.each([spring, autumn])(
    "every half hour is half an hour apart over the clock change at $change",
    async ({ day }) => {
      const span = spanOf(...day);
      const expected = Array.from({ length: 95 }, (_, index) => span.startMicros + BigInt(index + 1) * 1_800_000_000n);
      for (const expression of ["*/30 * * * *", "0,30 0-23 * * *"]) {
        expect(slotsOf(cron(expression, timeZone), span)).toEqual(expected);
        expect(await countSlots(cron(expression, timeZone), span, 1000)).toBe(95);
      }
    },
  );

  test.each([spring, autumn])("a distance is kept over the clock change at $change", async ({ day: [start] }) => {
    const day = new Date(start).toISOString().slice(0, 10);
    const slots = [`${day}T22:00Z`, new Date(Date.parse(start) + 20 * 3_600_000).toISOString()];
    await expectSlots(every(36_000n, timeZone), spanOf(start, start, 108_000), slots);
  });

  test.each([spring, autumn])(
    "one time fires once, exactly then, around the clock change at $change",
    async ({ day, change }) => {
      const time = new Date(Date.parse(change) + 1250).toISOString();
      const schedule = parse(
        { kind: { case: "at", value: { seconds: BigInt(Date.parse(change) / 1000 + 1), nanos: 250_000_999 } } },
        timeZone,
      );
      await expectSlots(schedule, spanOf(...day), [time]);
      await expectSlots(schedule, spanOf(day[0], time), []);
      await expectSlots(schedule, spanOf(time, day[1]), []);
    },
  );
});

test("a slot at the start does not count, nor does one at the end", async () => {
  const hour = spanOf("2027-05-01T10:00Z", "2027-05-01T11:00Z");
  await expectSlots(cron("0 * * * *"), hour, []);
  await expectSlots(every(3600n), hour, []);
  await expectSlots(cron("0 * * * *"), { startMicros: hour.startMicros - 1n, endMicros: hour.endMicros + 1n }, [
    "2027-05-01T10:00Z",
    "2027-05-01T11:00Z",
  ]);
  expect(nextSlot(cron("0 * * * *"), hour, micros("2030-05-01T10:00Z"))).toBeUndefined();
});

test("names, last days, weekdays near a date and numbered weekdays are read as usual", async () => {
  const year = spanOf("2027-01-01T00:00:00Z", "2028-01-01T00:00Z");
  await expectSlots(cron("0 12 L feb,MAR *"), year, ["2027-02-28T12:00Z", "2027-03-31T12:00Z"]);
  await expectSlots(cron("0 12 15W 5,8 ?"), year, ["2027-05-14T12:00Z", "2027-08-16T12:00Z"]);
  await expectSlots(cron("5 0 12 * 6 fri#2"), year, ["2027-06-11T12:00:05Z"]);
  // Dates and weekdays together: either will do.
  await expectSlots(cron("0 12 1 6 tue#5"), year, ["2027-06-01T12:00Z", "2027-06-29T12:00Z"]);
});

test("slots and their number are those that a clock on the wall shows, whatever the expression, zone and span", async () => {
  await fc.assert(
    fc.asyncProperty(expressions(), zoneNames(), clockSpans(), async (expression, timeZone, span) => {
      const slots = clockSlots(expression, timeZone, span);
      const schedule = cron(expression, timeZone);
      expect(slotsOf(schedule, span)).toEqual(slots);
      expect(await countSlots(schedule, span, 10_000)).toBe(slots.length);
    }),
    { numRuns: 150 },
  );
});

test("as many slots are counted as there are steps from one to the next, with seconds and over months", async () => {
  const seconds = fc.constantFrom("0", "*/20", "59", "7-9", "1,30,58");
  const spans = fc.tuple(fc.integer({ min: 0, max: 300 * 86_400_000 }), fc.integer({ min: 1, max: 60 * 86_400_000 }));
  await fc.assert(
    fc.asyncProperty(seconds, expressions(), zoneNames(), spans, async (second, fields, timeZone, [start, length]) => {
      const startMicros = micros("2027-01-01T00:00Z") + BigInt(start) * 1000n + 7n;
      const span = { startMicros, endMicros: startMicros + BigInt(length) * 1000n };
      const schedule = cron(`${second} ${fields}`, timeZone);
      const limit = 400;
      const slots = slotsOf(schedule, span, limit + 1);
      expect(await countSlots(schedule, span, limit)).toBe(slots.length > limit ? "more" : slots.length);
    }),
    { numRuns: 100 },
  );
});

test("counting lets others have their turn", async () => {
  const schedule = cron("0 0 1W,2W,3W,4W,5W,6W,7W * +1#5", "Europe/Berlin");
  const century = spanOf("2027-01-01T00:00Z", "2127-01-01T00:00Z");
  let turns = 0;
  let isCounting = true;
  const other = (async () => {
    for (; isCounting; turns += 1) {
      await new Promise(setImmediate);
    }
  })();
  expect(await countSlots(schedule, century, 10)).toBe(0);
  isCounting = false;
  await other;
  expect(turns).toBeGreaterThan(5);
});

test("an expression that does not come in a span is not looked for through the years behind it", () => {
  const [start, end] = ["2027-03-01T00:00Z", "2027-06-01T00:00Z"];
  expect(nextSlot(cron("0 0 30 2 *"), spanOf(start, end), micros(start))).toBeUndefined();
  expect(nextRunMs("0 0 29 2 *", "UTC", Date.parse(start), Date.parse(end))).toBeNull();
  expect(nextRunMs("0 0 1 3 *", "UTC", Date.parse(start), Date.parse(end))).toBeNull();
  // The date in the zone may be of another year than that in UTC.
  const newYear = spanOf("2027-12-31T09:00Z", "2027-12-31T12:00Z");
  expect(nextSlot(cron("0 0 1 1 *", "Pacific/Kiritimati"), newYear, 0n)).toBe(micros("2027-12-31T10:00Z"));
  const oldYear = spanOf("2028-01-01T07:00Z", "2028-01-01T12:00Z");
  expect(nextSlot(cron("30 23 31 12 *", "America/Los_Angeles"), oldYear, 0n)).toBe(micros("2028-01-01T07:30Z"));
});

test("steps through two schedules at once do not mix", () => {
  const span = spanOf("2027-07-01T00:00Z", "2027-07-05T00:00Z");
  const schedules = [cron("0 12 * * *"), cron("0 12 * * *", "Asia/Tokyo"), cron("0 13 * * *")];
  const steps = ["2027-07-01T00:00Z", "2027-07-02T20:00Z"].flatMap((after) =>
    schedules.map((schedule) => nextSlot(schedule, span, micros(after))),
  );
  expect(steps).toEqual(
    ["01T12:00Z", "01T03:00Z", "01T13:00Z", "03T12:00Z", "03T03:00Z", "03T13:00Z"].map((slot) =>
      micros(`2027-07-${slot}`),
    ),
  );
});

test.each([
  ["* * * *", "schedule.expression"],
  ["* * * * * * *", "schedule.expression"],
  ["0 0 0 1 1 * 2027", "schedule.expression"],
  ["@daily", "schedule.expression"],
  ["@reboot", "schedule.expression"],
  ["   ", "schedule.expression"],
  ["60 * * * *", "schedule.expression"],
  ["* 24 * * *", "schedule.expression"],
  ["* * 0 * *", "schedule.expression"],
  ["* * * 13 *", "schedule.expression"],
  ["* * * * 8", "schedule.expression"],
  ["5-1 * * * *", "schedule.expression"],
  ["*/0 * * * *", "schedule.expression"],
  ["1,,2 * * * *", "schedule.expression"],
  // What a date could be read from is no expression.
  ["Wed Nov 25 08:02:02 UTC 2026", "schedule.expression"],
])("the expression %s is refused", (expression, field) => {
  expect(() => cron(expression)).toThrow(expect.objectContaining({ reason: "INVALID_FIELD", metadata: { field } }));
});

test.each(["Berlin", "Mars/Olympus", "+01", "-0500", "Factory"])("the time zone %s is refused", (timeZone) => {
  const refusal = expect.objectContaining({ reason: "INVALID_FIELD", metadata: { field: "time_zone" } });
  expect(() => cron("* * * * *", timeZone)).toThrow(refusal);
  expect(() => every(1n, timeZone)).toThrow(refusal);
});

test("a time zone is found by any of its names, and none is UTC", async () => {
  const day = spanOf("2027-07-01T00:00Z", "2027-07-02T00:00Z");
  await expectSlots(cron("0 12 * * *", "Asia/Kolkata"), day, ["2027-07-01T06:30Z"]);
  await expectSlots(cron("0 12 * * *", "asia/CALCUTTA"), day, ["2027-07-01T06:30Z"]);
  await expectSlots(cron("0 12 * * *", "Etc/GMT+5"), day, ["2027-07-01T17:00Z"]);
  await expectSlots(cron("0 12 * * *", ""), day, ["2027-07-01T12:00Z"]);
});

test("a distance has whole seconds, and a schedule says when to fire", () => {
  const refusal = (field: string) => expect.objectContaining({ reason: "INVALID_FIELD", metadata: { field } });
  expect(() => parse({ kind: { case: "every", value: { seconds: 1n, nanos: 1 } } })).toThrow(refusal("schedule.every"));
  expect(() => parse({})).toThrow(refusal("schedule"));
});

test("a slot's delay is the same whoever asks, is spread over the jitter, and never reaches the lease's end", () => {
  fc.assert(
    fc.property(fc.uuid(), fc.bigInt(0n, 86_400_000_000n), fc.bigInt(0n, 3_600_000_000n), (lease, slot, jitter) => {
      const span = { startMicros: 0n, endMicros: 86_400_000_001n };
      const delay = slotDelayMicros(lease, slot, span, jitter);
      expect(slotDelayMicros(lease, slot, span, jitter)).toBe(delay);
      expect(delay).toBeGreaterThanOrEqual(0n);
      expect(delay).toBeLessThanOrEqual(jitter);
      expect(slot + delay).toBeLessThan(span.endMicros);
    }),
  );
  const span = { startMicros: 0n, endMicros: 1_000_000_000_000n };
  const delays = Array.from({ length: 400 }, (_, slot) => slotDelayMicros("lease", BigInt(slot), span, 1_000_000n));
  for (const quarter of [0n, 1n, 2n, 3n]) {
    const within = delays.filter((delay) => delay / 250_000n === quarter);
    expect(within.length).toBeGreaterThan(50);
  }
});

function cron(expression: string, timeZone = "UTC"): Schedule {
  return parse({ kind: { case: "expression", value: expression } }, timeZone);
}

function every(seconds: bigint, timeZone = "UTC"): Schedule {
  return parse({ kind: { case: "every", value: { seconds } } }, timeZone);
}

function parse(schedule: MessageInitShape<typeof CronScheduleSchema>, timeZone = "UTC"): Schedule {
  return parseSchedule(create(CronScheduleSchema, schedule), timeZone, "schedule");
}

/** One slot after the other. */
function slotsOf(schedule: Schedule, span: ClockSpan, limit = 10_000): bigint[] {
  const slots: bigint[] = [];
  let slot = nextSlot(schedule, span, span.startMicros);
  while (slot !== undefined && slots.length < limit) {
    slots.push(slot);
    slot = nextSlot(schedule, span, slot);
  }
  return slots;
}

async function expectSlots(schedule: Schedule, span: ClockSpan, expected: readonly string[]): Promise<void> {
  expect(slotsOf(schedule, span)).toEqual(expected.map(micros));
  expect(await countSlots(schedule, span, 1000)).toBe(expected.length);
}

function expressions(): fc.Arbitrary<string> {
  return fc
    .tuple(
      fc.constantFrom("0", "30", "*/20", "10-12", "0,45", "*/7"),
      fc.constantFrom("*", "*/2", "0-23", "0,23", "2", "1,2,3", "0-1", "22-23", "0-22", "*/1"),
      fc.constantFrom("*", "*", "7", "28-31", "*/3"),
      fc.constantFrom("*", "*", "3-11"),
      fc.constantFrom("*", "*", "0", "5-6", "1-5"),
    )
    .map((fields) => fields.join(" "));
}

/** Zones with changes of an hour and of half of one, at night and at midnight, and without any. */
function zoneNames(): fc.Arbitrary<string> {
  return fc.constantFrom(
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Santiago",
    "Atlantic/Azores",
    "Asia/Kathmandu",
    "UTC",
  );
}

/** Spans of up to two days around the days on which those zones change their clocks. */
function clockSpans(): fc.Arbitrary<ClockSpan> {
  const days = ["03-14", "03-28", "04-04", "04-30", "09-05", "10-03", "10-29", "10-31", "11-07"];
  return fc
    .tuple(
      fc.constantFrom(...days),
      fc.integer({ min: -115_000, max: 115_000 }),
      fc.integer({ min: 1, max: 172_800 }),
      fc.bigInt(0n, 999_999n),
    )
    .map(([day, fromSeconds, seconds, fraction]) => {
      const startMicros = micros(`2027-${day}T00:00Z`) + BigInt(fromSeconds) * 1_000_000n + fraction;
      return { startMicros, endMicros: startMicros + BigInt(seconds) * 1_000_000n };
    });
}
