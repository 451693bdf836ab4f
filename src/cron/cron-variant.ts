/** Cron as the primitive sees it: a payload, and a schedule by which it is delivered. */
import { randomUUID } from "node:crypto";
import type { Registry } from "prom-client";
import { type CronSpec, CronSpec_Misfire, CronSpec_Overlap } from "#gen/leasehold/v1/cron_pb.js";
import { type CreateLeaseRequest, Lease_Variant, Lease_WriteAccess } from "#gen/leasehold/v1/lease_pb.js";
import { requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import type { ServerKey, ServerKeys } from "../content/server-keys.ts";
import type { Database } from "../database/database.ts";
import type { DatabaseClock } from "../database/database-clock.ts";
import { invalidField, LeaseholdError, notFound, outOfBounds } from "../errors/leasehold-error.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import { isLeaseRow, type LeaseRow, requireLive, requireVariant } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import { leaseUuidOf } from "../lease/lease-service.ts";
import type {
  CreationRows,
  EndedLease,
  LeaseContent,
  LeaseDetails,
  LeaseSecrets,
  LeaseSpecification,
  LeaseVariant,
  NewLease,
  OpenedLease,
  QuotedTerms,
  VariantQuoting,
} from "../lease/lease-variant.ts";
import { describeBytesSeconds, type VariantTerms } from "../pricing/variant-terms.ts";
import { wholeSeconds } from "../proto-values/proto-time.ts";
import { webhookSecret } from "../webhooks/webhook-secret.ts";
import { openCron, sealPayload } from "./cron-content.ts";
import {
  defaultContentType,
  defaultLatenessSeconds,
  maxCronSeconds,
  maxFirings,
  maxPayloadBytes,
  packCron,
  unpackCron,
} from "./cron-details.ts";
import { type CronRow, targetKinds, targetVariants } from "./cron-row.ts";
import {
  countSlots,
  nextSlot,
  parseSchedule,
  type Schedule,
  type ScheduleSpan,
  slotDelayMicros,
} from "./cron-schedule.ts";
import { type CronTerms, cronCreation, deleteCron, findCrons, findTarget } from "./cron-statements.ts";
import { detailsOf } from "./cron-view.ts";
import { addFiringLag } from "./firing-figures.ts";
import { findOverdueFiring } from "./firing-lag-statements.ts";

/** What the variant needs. */
export interface CronVariantOptions {
  readonly database: Database;
  readonly seals: LeaseSeals;
  readonly clock: DatabaseClock;
  readonly serverKeys: ServerKeys;
  /** The key that the webhook secrets of new leases are derived from. */
  readonly tokenKey: ServerKey;
  /** The variant of a target. */
  readonly variantOf: (lease: LeaseRow) => LeaseVariant;
}

interface Target {
  readonly kind: number;
  readonly leaseId: LeaseUuid | undefined;
  readonly key: string;
  readonly webhookUrl: string;
}

/** How many rows one statement deletes: it takes not long, and what is done stays done. */
const batchRows = 5_000;

/** The Cron variant. */
export class CronVariant implements LeaseVariant {
  readonly variant = Lease_Variant.CRON;
  readonly name = "cron";
  readonly writeAccess = Lease_WriteAccess.CLOCK;
  readonly waitsForContent = false;
  readonly hasOneItem = false;
  readonly fires = true;
  readonly creation = cronCreation;
  readonly pricing: VariantTerms = {
    formula: "bytes_seconds",
    description: describeBytesSeconds({
      plus: "the price of a firing for each that its schedule has within the duration",
    }),
    sizeMeaning: "the largest payload",
    minSizeBytes: 1n,
    maxSizeBytes: BigInt(maxPayloadBytes),
    maxDurationSeconds: maxCronSeconds,
  };
  readonly quoting: VariantQuoting = {
    fields: ["schedule", "timeZone"],
    priceOf: async (asked) => ({ firings: await this.#quotedFirings(asked) }),
  };
  readonly #options: CronVariantOptions;

  constructor(options: CronVariantOptions) {
    this.#options = options;
  }

  async specify(request: CreateLeaseRequest): Promise<LeaseSpecification> {
    const spec = specOf(request);
    requirePayload(spec, request.sizeBytes);
    const target = targetOf(spec);
    const durationSeconds = wholeSeconds("duration", request.duration) ?? 0n;
    const span = this.#spanOf(durationSeconds);
    const schedule = parseSchedule(spec.schedule, spec.timeZone, "cron.schedule");
    const firings = await countFirings(schedule, span, "cron.schedule");
    const { webhookUrl } = target;
    const contentType = spec.contentType || defaultContentType;
    if (webhookUrl !== "" && !/^[ -~]*$/.test(contentType)) {
      throw invalidField("cron.content_type", "must be ASCII to be sent to webhook_url");
    }
    return {
      details: packCron({ contentType, webhookUrl, tokenKeyVersion: this.#options.tokenKey.version, firings }),
      price: { firings: BigInt(firings) },
      rows: (lease) => this.#rows(lease, spec, target, schedule, span),
    };
  }

  async details(leases: readonly OpenedLease[]): Promise<readonly LeaseDetails[]> {
    const live = leases.filter(({ sealed }) => sealed !== undefined).map(({ lease }) => lease);
    const owners = live.map((lease) => lease.owner_id);
    const rows: readonly CronRow[] =
      live.length === 0
        ? []
        : await this.#options.database.run(findCrons, [owners, live.map((lease) => lease.lease_id)]);
    const byLease = new Map(rows.map((row) => [row.lease_id, row]));
    return leases.map(({ lease, sealed }) => detailsOf(sealed, byLease.get(lease.lease_id)));
  }

  /** The webhook secret. None if the target is a lease, or once the lease has ended. */
  async secretsOf(lease: LeaseRow): Promise<LeaseSecrets> {
    const { seals, serverKeys } = this.#options;
    const sealed = await seals.openDetails(lease);
    if (sealed === undefined) {
      return {};
    }
    const { webhookUrl, tokenKeyVersion } = unpackCron(sealed);
    if (webhookUrl === "") {
      return {};
    }
    return { webhookSecret: webhookSecret((await serverKeys.get(tokenKeyVersion)).key, lease.lease_id) };
  }

  async openContent(lease: LeaseRow, version: bigint): Promise<LeaseContent> {
    return await openCron(this.#options, lease, version);
  }

  async destroy(leases: readonly EndedLease[]): Promise<void> {
    for (const { ownerId, leaseId } of leases) {
      let runs = batchRows;
      while (runs >= batchRows) {
        const values = [ownerId, leaseId, batchRows];
        const [deleted] = await this.#options.database.run(deleteCron, values, { repeatable: true });
        runs = deleted?.runs ?? 0;
      }
    }
  }

  async removeOrphans(): Promise<number> {
    return 0;
  }

  async overdueSeconds(): Promise<number> {
    const [lag] = await this.#options.database.run(findOverdueFiring, []);
    return Number(lag?.overdue_micros ?? 0n) / 1_000_000;
  }

  addFigures(registry: Registry): void {
    addFiringLag(registry, this.#options.database);
  }

  /** The row of a new lease, once its target is found. */
  async #rows(
    lease: NewLease,
    spec: CronSpec,
    target: Target,
    schedule: Schedule,
    span: ScheduleSpan,
  ): Promise<CreationRows> {
    await this.#requireTarget(lease, target, spec.payload.length);
    const slot = nextSlot(schedule, span, span.startMicros) ?? span.endMicros;
    const jitterMicros = (wholeSeconds("cron.jitter", spec.jitter) ?? 0n) * 1_000_000n;
    const payloadId = randomUUID();
    const lateness = wholeSeconds("cron.max_lateness", spec.maxLateness) ?? defaultLatenessSeconds;
    const terms: CronTerms = {
      expression: schedule.expression,
      every_seconds: schedule.everySeconds === null ? null : `${schedule.everySeconds}`,
      at_micros: schedule.atMicros === null ? null : `${schedule.atMicros}`,
      time_zone: schedule.timeZone,
      start_micros: `${span.startMicros}`,
      end_micros: `${span.endMicros}`,
      target_kind: target.kind,
      target_lease_id: target.leaseId ?? null,
      target_key: target.key === "" ? null : target.key,
      overlap: spec.overlap || CronSpec_Overlap.ALLOW,
      misfire: spec.misfire || CronSpec_Misfire.FIRE_ALL,
      max_lateness_seconds: `${lateness}`,
      jitter_micros: `${jitterMicros}`,
      next_slot_micros: `${slot}`,
      next_fire_micros: `${slot + slotDelayMicros(lease.leaseId, slot, span, jitterMicros)}`,
      payload_id: payloadId,
      payload_bytes: spec.payload.length,
    };
    const content = sealPayload(this.#options.seals, lease.key, lease.leaseId, payloadId, spec.payload);
    return { terms: { ...terms }, content, contentBytes: BigInt(spec.payload.length) };
  }

  /**
   * A key that may create and not write changes no other lease, by a schedule as little as by a call.
   *
   * @throws LeaseholdError SCOPE_MISSING, NOT_FOUND, LEASE_ENDED, WRONG_VARIANT, or whatever the target could not take.
   */
  async #requireTarget(lease: NewLease, { kind, leaseId, key }: Target, bodyBytes: number): Promise<void> {
    if (leaseId === undefined) {
      return;
    }
    const values = [lease.ownerId, lease.keyId, scopeBits.write, leaseId];
    const [row] = await this.#options.database.run(findTarget, values);
    requireAccess(row?.access, "write");
    if (row === undefined || !isLeaseRow(row)) {
      throw notFound("lease");
    }
    requireLive(row, row.now);
    requireVariant(row, targetVariants[kind] ?? Lease_Variant.UNSPECIFIED, "place for such a delivery");
    await this.#options.variantOf(row).checkDelivery?.(row, { bodyBytes, place: key });
  }

  async #quotedFirings({ schedule, timeZone, durationSeconds }: QuotedTerms): Promise<bigint> {
    const parsed = parseSchedule(schedule, timeZone, "schedule");
    return BigInt(await countFirings(parsed, this.#spanOf(durationSeconds), "schedule"));
  }

  /** From the database's clock, as near as it can be told before the lease is made. */
  #spanOf(durationSeconds: bigint): ScheduleSpan {
    if (durationSeconds > maxCronSeconds) {
      throw outOfBounds("duration", durationSeconds, 1n, maxCronSeconds);
    }
    const startMicros = this.#options.clock.guess();
    return { startMicros, endMicros: startMicros + durationSeconds * 1_000_000n };
  }
}

function specOf(request: CreateLeaseRequest): CronSpec {
  if (request.variant.case !== "cron") {
    throw new Error("a Cron lease is made from its own arm of the request");
  }
  return request.variant.value;
}

/** @throws LeaseholdError BODY_TOO_LARGE. */
function requirePayload({ payload }: CronSpec, sizeBytes: bigint): void {
  if (BigInt(payload.length) > sizeBytes) {
    throw new LeaseholdError(
      "BODY_TOO_LARGE",
      `The payload has ${payload.length} bytes, and size_bytes is ${sizeBytes}: ask for more room.`,
      { metadata: { limit: "size_bytes", limit_bytes: `${sizeBytes}`, value_bytes: `${payload.length}` } },
    );
  }
}

/** @throws LeaseholdError INVALID_FIELD if the parts of a target do not fit together. */
function targetOf({ target, scratchpadKey }: CronSpec): Target {
  if ((target.case === "scratchpadLeaseId") !== (scratchpadKey !== "")) {
    const rule = scratchpadKey === "" ? "must be set with scratchpad_lease_id" : "is for scratchpad_lease_id alone";
    throw invalidField("cron.scratchpad_key", rule);
  }
  const none = { leaseId: undefined, key: "", webhookUrl: "" };
  switch (target.case) {
    case "mailboxLeaseId":
      return { ...none, kind: targetKinds.mailbox, leaseId: leaseUuidOf(target.value) };
    case "scratchpadLeaseId":
      return { ...none, kind: targetKinds.scratchpad, leaseId: leaseUuidOf(target.value), key: scratchpadKey };
    case "webhookUrl":
      if (!URL.canParse(target.value)) {
        throw invalidField("cron.webhook_url", "must be an https or http URL");
      }
      return { ...none, kind: targetKinds.webhook, webhookUrl: target.value };
    default:
      throw invalidField("cron.target", "must be set");
  }
}

/**
 * How often a schedule fires in a span.
 *
 * @throws LeaseholdError INVALID_FIELD if it never does, OUT_OF_BOUNDS if it does too often.
 */
async function countFirings(schedule: Schedule, span: ScheduleSpan, field: string): Promise<number> {
  const firings = await countSlots(schedule, span, maxFirings);
  if (firings === "more") {
    throw new LeaseholdError(
      "OUT_OF_BOUNDS",
      `The schedule fires more than ${maxFirings} times within the duration: fire less often, or ask for less time.`,
      {
        metadata: { field: "firings", value: `more than ${maxFirings}`, min: "1", max: `${maxFirings}` },
        fieldViolations: [{ field, description: `must fire at most ${maxFirings} times within the duration` }],
      },
    );
  }
  if (firings === 0) {
    throw invalidField(field, "must fire at least once within the duration");
  }
  return firings;
}
