/** What becomes of the slots of a schedule that have come: which fire, and which are recorded as missed or skipped. */
import { CronSpec_Misfire, CronSpec_Overlap } from "#gen/leasehold/v1/cron_pb.js";
import { misfireSeconds } from "./cron-details.ts";
import { type CronRow, runOutcomes, scheduleOf, spanOf } from "./cron-row.ts";
import { nextSlot, slotDelayMicros } from "./cron-schedule.ts";

/** A slot that has come. Times are in microseconds. */
export interface JudgedSlot {
  readonly slot: bigint;
  /** When it was to fire. */
  readonly due: bigint;
  readonly outcome: "FIRES" | typeof runOutcomes.missed | typeof runOutcomes.skipped;
}

/** The slots that have come, and the one after them. */
export interface SlotJudgement {
  readonly slots: readonly JudgedSlot[];
  /** Whether runs that are still being delivered are given up. */
  readonly replacesOpen: boolean;
  /** Undefined: no slot is left. */
  readonly next: { readonly slot: bigint; readonly due: bigint } | undefined;
}

/**
 * Judges slots that have come at `now`. `hasOpen`: whether an earlier run is still being delivered. At most `most`
 * fire, and those behind are still due: by overlaps other than ALLOW one at a time, as the next depends on what becomes
 * of it.
 */
export function judgeSlots(cron: CronRow, came: CameSlots, now: bigint, hasOpen: boolean, most: number): SlotJudgement {
  const fires = firesOf(cron, came, now);
  const mostFired = cron.overlap === CronSpec_Overlap.ALLOW ? most : 1;
  const slots: JudgedSlot[] = [];
  let fired = 0;
  for (const [index, { slot, due }] of came.come.entries()) {
    if (fired === mostFired) {
      break;
    }
    if (fires[index] !== true) {
      slots.push({ slot, due, outcome: runOutcomes.missed });
    } else if (hasOpen && cron.overlap === CronSpec_Overlap.SKIP) {
      slots.push({ slot, due, outcome: runOutcomes.skipped });
    } else {
      slots.push({ slot, due, outcome: "FIRES" });
      fired += 1;
    }
  }
  const replacesOpen = fired > 0 && hasOpen && cron.overlap === CronSpec_Overlap.REPLACE;
  return { slots, replacesOpen, next: came.come[slots.length] ?? came.next };
}

type Slot = NonNullable<SlotJudgement["next"]>;

/** Slots that have come, in order, and the one after them, which may have come as well. */
export interface CameSlots {
  readonly come: readonly Slot[];
  readonly next: Slot | undefined;
}

/**
 * The slots of a schedule that are due by `now`, from its next on, at most `most`. Each is a step of about 60 µs: to be
 * done before any lock.
 */
export function slotsThatCame(cron: CronRow, now: bigint, most: number): CameSlots {
  const come: Slot[] = [];
  let next = firstSlot(cron);
  while (next !== undefined && next.due <= now && come.length < most) {
    come.push(next);
    next = slotBehind(cron, next);
  }
  return { come, next };
}

function firstSlot({ next_slot_time: slot, next_fire_time: due }: CronRow): Slot | undefined {
  return slot === null || due === null ? undefined : { slot, due };
}

/** A slot never fires before the one in front of it, so none is found late that waited for the delay of another. */
function slotBehind(cron: CronRow, last: Slot): Slot | undefined {
  const span = spanOf(cron);
  const slot = nextSlot(scheduleOf(cron), span, last.slot);
  if (slot === undefined) {
    return undefined;
  }
  const due = slot + slotDelayMicros(cron.lease_id, slot, span, cron.jitter_micros);
  if (due < last.due) {
    return { slot, due: last.due };
  }
  return { slot, due };
}

/** Which slots fire by their lateness and the misfire policy. */
function firesOf(cron: CronRow, { come, next }: CameSlots, now: bigint): readonly boolean[] {
  const isLate = ({ due }: Slot) => now - due > misfireSeconds * 1_000_000n;
  const isTooLate = ({ due }: Slot) => now - due > cron.max_lateness_seconds * 1_000_000n;
  switch (cron.misfire) {
    case CronSpec_Misfire.SKIP:
      return come.map((slot) => !isLate(slot) && !isTooLate(slot));
    case CronSpec_Misfire.FIRE_LAST: {
      const onlyLast = come.some(isLate);
      const last = next === undefined || next.due > now ? come.at(-1) : undefined;
      return come.map((slot) => !isTooLate(slot) && (!onlyLast || slot === last));
    }
    default:
      return come.map((slot) => !isTooLate(slot));
  }
}
