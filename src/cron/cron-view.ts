/** Shows schedules and runs as the proto has them. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  CronDetailsSchema,
  type CronRunSchema,
  type CronSchedule,
  CronScheduleSchema,
} from "#gen/leasehold/v1/cron_pb.js";
import { formatId } from "../ids/ids.ts";
import type { LeaseDetails } from "../lease/lease-variant.ts";
import { toDuration, toTimestamp } from "../proto-values/proto-time.ts";
import { unpackCron } from "./cron-details.ts";
import { type CronRow, cronStates, targetKinds } from "./cron-row.ts";
import type { RunRow } from "./cron-run-statements.ts";

/** The details of a lease, from what it keeps sealed and its schedule; none once it has ended. */
export function detailsOf(sealed: Uint8Array | undefined, cron: CronRow | undefined): LeaseDetails {
  if (sealed === undefined || cron === undefined) {
    return { case: "cron", value: {} };
  }
  const { contentType, webhookUrl, firings } = unpackCron(sealed);
  const value = create(CronDetailsSchema, {
    schedule: showSchedule(cron),
    timeZone: cron.time_zone,
    payloadBytes: BigInt(cron.payload_bytes),
    contentType,
    target: showTarget(cron, webhookUrl),
    scratchpadKey: cron.target_key ?? "",
    overlap: cron.overlap,
    misfire: cron.misfire,
    maxLateness: toDuration(cron.max_lateness_seconds),
    ...(cron.jitter_micros > 0n ? { jitter: toDuration(cron.jitter_micros / 1_000_000n) } : {}),
    state: cron.state,
    firings: BigInt(firings),
    ...(cron.state === cronStates.running ? { nextSlotTime: toTimestamp(cron.next_slot_time) } : {}),
  });
  return { case: "cron", value };
}

/** A run as its owner sees it. */
export function showRun(row: RunRow): MessageInitShape<typeof CronRunSchema> {
  return {
    slotTime: toTimestamp(row.slot_time),
    fireTime: toTimestamp(row.fire_time),
    deliverTime: toTimestamp(row.deliver_time),
    attemptCount: row.attempt_count,
    outcome: row.outcome,
    lastError: row.last_error ?? "",
    nextAttemptTime: toTimestamp(row.next_attempt_time),
  };
}

function showSchedule(cron: CronRow): CronSchedule {
  if (cron.expression !== null) {
    return create(CronScheduleSchema, { kind: { case: "expression", value: cron.expression } });
  }
  if (cron.every_seconds !== null) {
    return create(CronScheduleSchema, { kind: { case: "every", value: toDuration(cron.every_seconds) } });
  }
  const at = toTimestamp(cron.at_time);
  return create(CronScheduleSchema, at === undefined ? {} : { kind: { case: "at", value: at } });
}

function showTarget(cron: CronRow, webhookUrl: string) {
  const leaseId = cron.target_lease_id === null ? "" : formatId("lse", cron.target_lease_id);
  switch (cron.target_kind) {
    case targetKinds.mailbox:
      return { case: "mailboxLeaseId", value: leaseId } as const;
    case targetKinds.scratchpad:
      return { case: "scratchpadLeaseId", value: leaseId } as const;
    default:
      return { case: "webhookUrl", value: webhookUrl } as const;
  }
}
