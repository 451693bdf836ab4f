/** Fires schedules: records the slots that have come, and delivers into leases, of one owner in one transaction. */
import type { Database, Transaction } from "../database/database.ts";
import { type AccountUuid, type LeaseUuid, newUuid } from "../ids/ids.ts";
import { endOf } from "../lease/lease-row.ts";
import type { DeliveryOutcome } from "../lease/lease-variant.ts";
import { type CronDeliveriesOptions, deliverSlots, type LockedLeases, lockAll } from "./cron-deliveries.ts";
import { type CronRow, cronStates, runOutcomes, targetKinds, targetVariants } from "./cron-row.ts";
import { retryMicros } from "./delivery-retries.ts";
import {
  type DueCronRow,
  lockCrons,
  lockOpenRuns,
  lockRun,
  type RunColumns,
  recordAttempt,
  recordFirings,
} from "./firing-statements.ts";
import { type CameSlots, type JudgedSlot, judgeSlots, type SlotJudgement, slotsThatCame } from "./slot-judgement.ts";

/** What firing needs. */
export interface CronFiringsOptions extends CronDeliveriesOptions {
  readonly database: Database;
}

/** A run that waits to be delivered again. */
export interface WaitingRun extends RunColumns {
  readonly cron: CronRow;
}

/** A schedule whose slots were judged under its lock. */
interface JudgedCron {
  readonly cron: CronRow;
  readonly judgement: SlotJudgement;
}

/** What is recorded of a slot. */
interface Run {
  readonly cron: CronRow;
  readonly slot: JudgedSlot;
  readonly outcome: number;
  readonly attemptCount: number;
  readonly lastError: string | null;
  readonly waitMicros: bigint | null;
}

/** How many slots one transaction records, and how many bytes it delivers. The rest is still due then. */
const mostSlots = 500;
const mostBytes = 4 * 1_048_576;

/** Fires. Many may do so beside each other: a slot is recorded once, whoever comes first. */
export class CronFirings {
  readonly #options: CronFiringsOptions;

  constructor(options: CronFiringsOptions) {
    this.#options = options;
  }

  /**
   * Records the slots of an owner's schedules that have come, and delivers what fires into leases. What another has
   * recorded meanwhile is left out. Gives how many slots were recorded.
   *
   * All leases, those of the schedules and of their targets, are locked before the schedules are. All of it is done in
   * one commit, or none: a slot that is recorded as fired is delivered, or waits to be.
   */
  async fire(ownerId: AccountUuid, due: readonly DueCronRow[]): Promise<number> {
    const came = slotsOf(due);
    const taken = due.filter((row) => came.has(row.lease_id));
    const runs = await this.#options.database.transaction(
      async (transaction) => {
        const leases = await lockAll(transaction, ownerId, taken);
        const judged = await judgeLocked(transaction, ownerId, taken, came, leases);
        const runs = await this.#runsOf(transaction, leases, judged, taken);
        const replaced = judged.filter(({ judgement }) => judgement.replacesOpen).map(({ cron }) => cron.lease_id);
        if (replaced.length > 0) {
          await transaction.run(lockOpenRuns, [ownerId, replaced]);
        }
        if (judged.length > 0) {
          await transaction.run(recordFirings, firingParameters(ownerId, runs, judged));
        }
        return runs;
      },
      { repeatable: true },
    );
    this.#wake(runs.filter(({ outcome }) => outcome === runOutcomes.delivered).map(({ cron }) => cron));
    return runs.length;
  }

  /** Tries to deliver a run into its lease again. False if another has, or if its lease has ended. */
  async retry(run: WaitingRun): Promise<boolean> {
    const { cron } = run;
    const recorded = await this.#options.database.transaction(
      async (transaction) => {
        const leases = await lockAll(transaction, run.owner_id, [cron]);
        const place = [run.owner_id, run.lease_id, run.slot_time];
        const [locked] = await transaction.run(lockRun, [...place, run.attempt_count]);
        if (locked === undefined || isOver(leases, run.lease_id)) {
          return undefined;
        }
        const last = lastMicros(cron, run.due_time);
        const isTooLate = locked.now > last;
        const slot = { cron, slotTime: run.slot_time, payload: run };
        const [outcome] = isTooLate ? [] : await deliverSlots(this.#options, transaction, leases, [slot]);
        const attemptCount = run.attempt_count + (isTooLate ? 0 : 1);
        const found = attemptOf(outcome, attemptCount, locked.now, last);
        const isStopped = found.outcome === runOutcomes.targetEnded;
        const values = [run.attempt_count, found.outcome, attemptCount, found.lastError, found.waitMicros, isStopped];
        await transaction.run(recordAttempt, [...place, ...values]);
        return found.outcome;
      },
      { repeatable: true },
    );
    if (recorded === runOutcomes.delivered) {
      this.#wake([cron]);
    }
    return recorded !== undefined;
  }

  /** Delivers what fires into leases, and says what is to be recorded of each slot, in order. */
  async #runsOf(
    transaction: Transaction,
    leases: LockedLeases,
    judged: readonly JudgedCron[],
    due: readonly DueCronRow[],
  ): Promise<Run[]> {
    const payloads = new Map(due.map((row) => [row.lease_id, row]));
    const slots = judged.flatMap(({ cron, judgement }) => judgement.slots.map((slot) => ({ cron, slot })));
    const deliveries = slots.flatMap(({ cron, slot }) => {
      const payload = payloads.get(cron.lease_id);
      const isDelivered = slot.outcome === "FIRES" && cron.target_kind !== targetKinds.webhook;
      return isDelivered && payload !== undefined ? [{ cron, slotTime: slot.slot, payload, slot }] : [];
    });
    const outcomes = await deliverSlots(this.#options, transaction, leases, deliveries);
    const bySlot = new Map(deliveries.map(({ slot }, index) => [slot, outcomes[index]]));
    return slots.map(({ cron, slot }) => runOf(cron, slot, bySlot.get(slot), leases.now));
  }

  #wake(crons: readonly CronRow[]): void {
    for (const targetId of new Set(crons.map(({ target_lease_id }) => target_lease_id))) {
      const cron = crons.find(({ target_lease_id }) => target_lease_id === targetId);
      if (targetId !== null && cron !== undefined) {
        const variant = targetVariants[cron.target_kind] ?? 0;
        this.#options.variantOf({ variant }).delivered?.(targetId);
      }
    }
  }
}

/** What a delivery came to. Undefined: there was no time left for it. */
function attemptOf(delivery: DeliveryOutcome | undefined, attemptCount: number, now: bigint, last: bigint) {
  switch (delivery?.outcome) {
    case undefined:
      return { outcome: runOutcomes.missed, lastError: null, waitMicros: null };
    case "DELIVERED":
      return { outcome: runOutcomes.delivered, lastError: null, waitMicros: null };
    case "TARGET_ENDED":
      return { outcome: runOutcomes.targetEnded, lastError: null, waitMicros: null };
    case "REFUSED": {
      const waitMicros = retryMicros(attemptCount, now, last);
      return { outcome: runOutcomes.pending, lastError: delivery.reason, waitMicros };
    }
  }
}

function runOf(cron: CronRow, slot: JudgedSlot, delivery: DeliveryOutcome | undefined, now: bigint): Run {
  const none = { cron, slot, attemptCount: 0, lastError: null, waitMicros: null };
  if (slot.outcome !== "FIRES") {
    return { ...none, outcome: slot.outcome };
  }
  if (delivery === undefined) {
    return { ...none, outcome: runOutcomes.pending, waitMicros: 0n };
  }
  return { ...none, attemptCount: 1, ...attemptOf(delivery, 1, now, lastMicros(cron, slot.due)) };
}

/** The slots of schedules that have come, of as many as one transaction takes. */
function slotsOf(due: readonly DueCronRow[]): ReadonlyMap<LeaseUuid, CameSlots> {
  const came = new Map<LeaseUuid, CameSlots>();
  let left = mostSlots;
  for (const row of due) {
    if (left === 0) {
      break;
    }
    const slots = slotsThatCame(row, row.now, left);
    came.set(row.lease_id, slots);
    left -= slots.come.length;
  }
  return came;
}

/**
 * The schedules that are still as they were found, of leases that live, with their slots judged by the clock behind the
 * locks. Those for whose payloads no room is left stay as they are.
 */
async function judgeLocked(
  transaction: Transaction,
  ownerId: AccountUuid,
  due: readonly DueCronRow[],
  came: ReadonlyMap<LeaseUuid, CameSlots>,
  leases: LockedLeases,
): Promise<readonly JudgedCron[]> {
  const expected = new Map(due.map((row) => [row.lease_id, row.next_slot_time]));
  const rows = await transaction.run(lockCrons, [ownerId, due.map((row) => row.lease_id)]);
  const unchanged = rows
    .filter((row) => row.state === cronStates.running && row.next_slot_time === expected.get(row.lease_id))
    .filter((row) => !isOver({ ...leases, now: row.now }, row.lease_id));
  const judged: JudgedCron[] = [];
  let room = mostBytes;
  for (const row of unchanged) {
    const slots = came.get(row.lease_id);
    const bytes = row.target_kind === targetKinds.webhook ? 0 : row.payload_bytes;
    const most = bytes === 0 ? mostSlots : Math.floor(room / bytes);
    if (slots !== undefined && most > 0) {
      const judgement = judgeSlots(row, slots, row.now, row.has_open, most);
      room -= bytes * judgement.slots.filter(({ outcome }) => outcome === "FIRES").length;
      judged.push({ cron: row, judgement });
    }
  }
  return judged;
}

function isOver({ byId, now }: LockedLeases, leaseId: LeaseUuid): boolean {
  const lease = byId.get(leaseId);
  return lease === undefined || endOf(lease, now) !== undefined;
}

/** The last moment at which a run's delivery is tried. */
export function lastMicros(cron: CronRow, dueMicros: bigint): bigint {
  return dueMicros + cron.max_lateness_seconds * 1_000_000n;
}

function firingParameters(ownerId: AccountUuid, runs: readonly Run[], judged: readonly JudgedCron[]): unknown[] {
  const ended = new Set(
    runs.filter(({ outcome }) => outcome === runOutcomes.targetEnded).map(({ cron }) => cron.lease_id),
  );
  const nexts = judged.map(({ cron, judgement: { next } }) => {
    if (ended.has(cron.lease_id)) {
      return { state: cronStates.targetEnded, next: undefined };
    }
    return { state: next === undefined ? cronStates.finished : cronStates.running, next };
  });
  return [
    ownerId,
    runs.map(({ cron }) => cron.lease_id),
    runs.map(({ slot }) => slot.slot),
    runs.map(({ slot }) => slot.due),
    runs.map(() => newUuid<"run">()),
    runs.map(({ outcome }) => outcome),
    runs.map(({ attemptCount }) => attemptCount),
    runs.map(({ lastError }) => lastError),
    runs.map(({ waitMicros }) => waitMicros),
    judged.map(({ cron }) => cron.lease_id),
    nexts.map(({ state }) => state),
    nexts.map(({ next }) => next?.slot ?? null),
    nexts.map(({ next }) => next?.due ?? null),
    judged.filter(({ judgement }) => judgement.replacesOpen).map(({ cron }) => cron.lease_id),
    runs.map(({ cron }) => cron.target_kind === targetKinds.webhook),
  ];
}
