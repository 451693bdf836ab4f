/** CronService: pauses and resumes schedules, and shows what they have done. */
import type { CronService, ListCronRunsRequest } from "#gen/leasehold/v1/cron_pb.js";
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { type Caller, type Callers, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import type { Database } from "../database/database.ts";
import { invalidField, notFound } from "../errors/leasehold-error.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import { isLeaseRow, type LeaseRow, type MaybeLeaseRow, requireLive, requireVariant } from "../lease/lease-row.ts";
import { leaseUuidOf } from "../lease/lease-service.ts";
import type { CallerColumns } from "../lease/lease-statements.ts";
import { pageSizeOf } from "../proto-values/paging.ts";
import { toTimestamp } from "../proto-values/proto-time.ts";
import type { ServiceImplementation } from "../server/service-implementation.ts";
import { cronOf, cronStates, scheduleOf, spanOf } from "./cron-row.ts";
import { isRunRow, listCronRuns } from "./cron-run-statements.ts";
import { nextSlot, slotDelayMicros } from "./cron-schedule.ts";
import { findCallersCron, setCronState } from "./cron-statements.ts";
import { showRun } from "./cron-view.ts";

/** What the service needs. */
export interface CronServiceOptions {
  readonly database: Database;
  readonly callers: Callers;
}

/** How often a schedule is resumed anew whose next slot came before that was done. */
const maxTries = 10;

/** The methods of CronService. */
export function cronService({ callers, database }: CronServiceOptions): ServiceImplementation<typeof CronService> {
  return {
    async pauseCron(request, call) {
      const change = { from: cronStates.running, to: cronStates.paused, slot: null, fire: null };
      const { state } = await setState(database, await callers.of(call), leaseUuidOf(request.leaseId), change);
      return { state };
    },

    async resumeCron(request, call) {
      const caller = await callers.of(call);
      const leaseId = leaseUuidOf(request.leaseId);
      for (let tries = 0; tries < maxTries; tries++) {
        const [found] = await database.run(findCallersCron, [caller.ownerId, caller.keyId, scopeBits.write, leaseId]);
        requireCron(found, "write");
        const change = resumption(leaseId, found ?? {}, found?.now ?? 0n);
        const resumed = await setState(database, caller, leaseId, change);
        if (resumed.state !== cronStates.paused) {
          return resumed;
        }
      }
      throw new Error(`a schedule could not be resumed in ${maxTries} tries: its next slot came each time`);
    },

    async listCronRuns(request, call) {
      const caller = await callers.of(call);
      const pageSize = pageSizeOf(request);
      const values = [caller.ownerId, caller.keyId, scopeBits.read, leaseUuidOf(request.leaseId)];
      const rows = await database.run(listCronRuns, [...values, pageStart(request), pageSize + 1]);
      requireCron(rows[0], "read");
      const runs = rows.filter((row) => isRunRow(row));
      const last = runs.length > pageSize ? runs[pageSize - 1] : undefined;
      return {
        runs: runs.slice(0, pageSize).map(showRun),
        nextPageToken: last === undefined ? "" : `${last.slot_time}`,
      };
    },
  };
}

interface StateChange {
  readonly from: number;
  readonly to: number;
  /** In microseconds. */
  readonly slot: bigint | null;
  readonly fire: bigint | null;
}

/** What a schedule that was found at `now` is to go on with. */
function resumption(leaseId: LeaseUuid, found: object, now: bigint): StateChange {
  const cron = cronOf(found, "cron_");
  const span = spanOf(cron);
  const slot = nextSlot(scheduleOf(cron), span, now);
  if (slot === undefined) {
    return { from: cronStates.paused, to: cronStates.finished, slot: null, fire: null };
  }
  const fire = slot + slotDelayMicros(leaseId, slot, span, cron.jitter_micros);
  return { from: cronStates.paused, to: cronStates.running, slot, fire };
}

/** Changes a schedule's state, unless it is in another than it is to be changed from: then it stays. */
async function setState(database: Database, caller: Caller, leaseId: LeaseUuid, change: StateChange) {
  const { from, to, slot, fire } = change;
  const values = [caller.ownerId, caller.keyId, scopeBits.write, leaseId, from, to, slot, fire];
  const [row] = await database.run(setCronState, values, { repeatable: true });
  requireCron(row, "write");
  return { state: row?.state ?? 0, nextSlotTime: toTimestamp(row?.next_slot_time ?? null) };
}

/** @throws LeaseholdError NOT_FOUND, LEASE_ENDED, WRONG_VARIANT, or the refusal of the key. */
function requireCron(row: (CallerColumns & MaybeLeaseRow) | undefined, scope: "read" | "write"): LeaseRow {
  requireAccess(row?.access, scope);
  if (row === undefined || !isLeaseRow(row)) {
    throw notFound("lease");
  }
  requireLive(row, row.now);
  requireVariant(row, Lease_Variant.CRON, "schedule");
  return row;
}

/** The slot before which a page starts, in microseconds; null for the first page. */
function pageStart({ pageToken }: ListCronRunsRequest): bigint | null {
  if (pageToken === "") {
    return null;
  }
  if (!/^[1-9][0-9]{0,17}$/.test(pageToken)) {
    throw invalidField("page_token", "must be the next_page_token of the page before");
  }
  return BigInt(pageToken);
}
