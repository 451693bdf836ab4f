/** What the sweeper does: each task takes a bounded batch, and says whether more is waiting. */
import type { KeyFolder } from "../content/key-folder.ts";
import type { Database } from "../database/database.ts";
import { isOutage } from "../database/database-failure.ts";
import { findOverdueHandoffs } from "../handoff/claim-statements.ts";
import type { Claims } from "../handoff/claims.ts";
import { findFinishedEpochs, markEpochDestroyed } from "../installation/installation-statements.ts";
import type { LeaseDestroyer } from "../lease/lease-destroyer.ts";
import { endDueLeases, findDueLeases, findUndestroyedLeases } from "../lease/lease-statements.ts";
import type { LeaseVariants } from "../lease/lease-variant.ts";
import { StuckWork } from "./stuck-work.ts";
import { forgetCredits, forgetWindowed, reapTombstones } from "./sweeper-statements.ts";

/** One kind of the sweeper's work. */
export interface SweepTask {
  readonly name: string;
  /** How long to wait between two rounds in which nothing was waiting, in milliseconds. */
  readonly intervalMs: number;
  /** Does a batch. Gives how much it did and whether there may be more. Safe beside other sweepers, and to repeat. */
  run(): Promise<{ readonly done: number; readonly more: boolean }>;
}

/** What the tasks need. */
export interface SweepTasksOptions {
  readonly database: Database;
  readonly variants: LeaseVariants;
  readonly destroyer: LeaseDestroyer;
  readonly claims: Claims;
  readonly keyFolder: KeyFolder;
  readonly intervalMs: number;
  readonly tombstoneSeconds: number;
}

const batch = 500;
/** Records are small, and there is one for each drop or put that may be repeated. */
const forgottenBatch = 10_000;
const minuteMs = 60_000;

/** How far the host's clock may be from the database's for a key to be destroyed, in microseconds. */
const clockAgreementMicros = 60_000_000n;

/** Every task, in the order of a lease's end. */
export function sweepTasks(options: SweepTasksOptions): SweepTask[] {
  const { intervalMs } = options;
  return [
    settleClaims(options),
    endLeases(options),
    destroyContent(options),
    {
      name: "destroy-keys",
      intervalMs: Math.max(intervalMs, Math.min(minuteMs, options.keyFolder.epochLengthSeconds * 500)),
      run: () => destroyKeys(options),
    },
    {
      name: "reap-tombstones",
      intervalMs: Math.max(intervalMs, minuteMs),
      async run() {
        const values = [batch, options.tombstoneSeconds];
        const reaped = await options.database.run(reapTombstones, values, { repeatable: true });
        const forgotten = await options.database.run(forgetCredits, [], { repeatable: true });
        const windowed = await options.database.run(forgetWindowed, [forgottenBatch], { repeatable: true });
        const done = reaped.length + forgotten.length + windowed.length;
        return { done, more: reaped.length === batch || windowed.length === forgottenBatch };
      },
    },
    {
      name: "tidy-content",
      intervalMs,
      async run() {
        let done = 0;
        let more = false;
        for (const variant of options.variants.all) {
          const tidied = (await variant.tidy?.(batch)) ?? 0;
          done += tidied;
          more ||= tidied >= batch;
        }
        return { done, more };
      },
    },
    {
      name: "remove-orphans",
      intervalMs: 10 * minuteMs,
      async run() {
        let done = 0;
        for (const variant of options.variants.all) {
          done += await variant.removeOrphans();
        }
        return { done, more: false };
      },
    },
  ];
}

/** Applies the ends of claims' holds. A handoff whose rows are stuck is left for the next round. */
function settleClaims({ database, claims, intervalMs }: SweepTasksOptions): SweepTask {
  const stuck = new StuckWork();
  return {
    name: "settle-claims",
    intervalMs,
    async run() {
      const overdue = await database.run(findOverdueHandoffs, [batch]);
      for (const row of overdue) {
        const held = { ownerId: row.owner_id, leaseId: row.lease_id, handoffId: row.handoff_id };
        await stuck.attempt(row.handoff_id, () => claims.settle(held));
      }
      stuck.endRound();
      const done = overdue.reduce((claims, row) => claims + row.claims, 0);
      return { done, more: done === batch };
    },
  };
}

/** Ends what is due. An owner whose rows are stuck is left for the next round. */
function endLeases({ database, intervalMs }: SweepTasksOptions): SweepTask {
  const stuck = new StuckWork();
  return {
    name: "end-leases",
    intervalMs,
    async run() {
      const due = await database.run(findDueLeases, [batch, stuck.keys]);
      for (const [ownerId, leases] of Map.groupBy(due, (lease) => lease.owner_id)) {
        const values = [ownerId, leases.map((lease) => lease.lease_id)];
        await stuck.attempt(ownerId, () => database.run(endDueLeases, values, { repeatable: true }));
      }
      const more = due.length === batch;
      if (!more) {
        stuck.endRound();
      }
      return { done: due.length, more };
    },
  };
}

/** Destroys what ended. If a batch fails, each of its leases is tried alone, and what still fails is left for the next round. */
function destroyContent({ database, destroyer, intervalMs }: SweepTasksOptions): SweepTask {
  const stuck = new StuckWork();
  return {
    name: "destroy-content",
    intervalMs,
    async run() {
      const ended = await database.run(findUndestroyedLeases, [batch, stuck.keys]);
      try {
        await destroyer.destroy(ended);
      } catch (error) {
        if (isOutage(error)) {
          throw error;
        }
        // Which of them failed shows when each is tried alone, unless all would wait for the same database.
        for (const lease of ended) {
          await stuck.attempt(lease.lease_id, () => destroyer.destroy([lease]));
        }
      }
      const more = ended.length === batch;
      if (!more) {
        stuck.endRound();
      }
      return { done: ended.length, more };
    },
  };
}

/** Unlinks the keys of finished epochs, each before the mark moves to it: a crash between the two is finished by the next round. */
async function destroyKeys(options: SweepTasksOptions): Promise<{ done: number; more: boolean }> {
  const { database, keyFolder } = options;
  const kept = await keyFolder.listEpochs();
  const finished = await database.run(findFinishedEpochs, [kept, keyFolder.epochLengthSeconds]);
  const [oldest] = finished;
  const apart = oldest === undefined ? 0n : BigInt(Date.now()) * 1000n - oldest.now;
  if (apart > clockAgreementMicros || apart < -clockAgreementMicros) {
    throw new Error(`the host's clock is ${apart} µs from the database's: no key is destroyed until they agree`);
  }
  for (const epoch of finished) {
    await keyFolder.destroyEpoch(Number(epoch.epoch_seconds));
    await database.run(markEpochDestroyed, [epoch.epoch_seconds], { repeatable: true });
  }
  return { done: finished.length, more: false };
}
