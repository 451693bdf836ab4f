/** What becomes of slots that are found together. */
import { describe, expect, test } from "vitest";
import { CronSpec_Misfire, CronSpec_Overlap } from "#gen/leasehold/v1/cron_pb.js";
import type { CronRow } from "../../src/cron/cron-row.ts";
import { judgeSlots, slotsThatCame } from "../../src/cron/slot-judgement.ts";

const second = 1_000_000n;
const start = 1_800_000_000n * second;

/** A schedule of every second, for a day. */
function everySecond(changes: Partial<CronRow> = {}): CronRow {
  const times = { start_time: start, end_time: start + 86_400n * second, next_slot_time: start + second };
  return {
    lease_id: "0199aaaa-0000-7000-8000-000000000000",
    expression: null,
    every_seconds: 1n,
    at_time: null,
    time_zone: "UTC",
    overlap: CronSpec_Overlap.ALLOW,
    misfire: CronSpec_Misfire.FIRE_ALL,
    max_lateness_seconds: 3_600n,
    jitter_micros: 0n,
    next_fire_time: start + second,
    ...times,
    ...changes,
  } as CronRow;
}

describe("slots that are found together", () => {
  test("fire by FIRE_LAST as one, also if they are more than are judged at once", () => {
    let cron = everySecond({ misfire: CronSpec_Misfire.FIRE_LAST });
    const now = start + 1_200n * second;
    const fired: bigint[] = [];
    for (let rounds = 0; rounds < 3; rounds++) {
      const { slots, next } = judgeSlots(cron, slotsThatCame(cron, now, 500), now, false, 500);
      fired.push(...slots.filter(({ outcome }) => outcome === "FIRES").map(({ slot }) => slot));
      cron = { ...cron, next_slot_time: next?.slot, next_fire_time: next?.due } as CronRow;
    }
    expect(fired).toEqual([now]);
  });

  test("fire as far as there is room, and the next is still due", () => {
    const cron = everySecond();
    const now = start + 10n * second;
    const { slots, next } = judgeSlots(cron, slotsThatCame(cron, now, 500), now, false, 4);
    expect(slots.map(({ outcome }) => outcome)).toEqual(Array(4).fill("FIRES"));
    expect(next?.slot).toBe(start + 5n * second);
  });

  test.each([CronSpec_Overlap.SKIP, CronSpec_Overlap.REPLACE])(
    "are judged by overlap %i one after the other",
    (overlap) => {
      const cron = everySecond({ overlap });
      const now = start + 3n * second;
      const { slots, next } = judgeSlots(cron, slotsThatCame(cron, now, 500), now, false, 500);
      expect(slots).toHaveLength(1);
      expect(next?.slot).toBe(start + 2n * second);
    },
  );

  test("do not fire before those in front of them, and are not late for having waited for them", () => {
    const cron = everySecond({ jitter_micros: 3_600n * second, misfire: CronSpec_Misfire.SKIP });
    const { come } = slotsThatCame(cron, start + 86_400n * second, 5_000);
    for (const [index, { slot, due }] of come.entries()) {
      expect(due).toBeGreaterThanOrEqual(come[index - 1]?.due ?? 0n);
      expect(due - slot).toBeLessThanOrEqual(3_600n * second);
    }
  });
});
