/** Delivers payloads into leases, in a transaction that has their rows locked. */
import type { Transaction } from "../database/database.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { type AccountUuid, formatId, type LeaseUuid } from "../ids/ids.ts";
import { endOf, type LeaseRow } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import type { Delivery, DeliveryOutcome, LeaseVariant } from "../lease/lease-variant.ts";
import { openPayload } from "./cron-content.ts";
import { unpackCron } from "./cron-details.ts";
import type { CronRow } from "./cron-row.ts";
import { lockLeases } from "./firing-statements.ts";

/** What delivering needs. */
export interface CronDeliveriesOptions {
  readonly seals: LeaseSeals;
  /** The variant of a target. */
  readonly variantOf: (lease: Pick<LeaseRow, "variant">) => LeaseVariant;
}

/** What a slot delivers. */
export interface SlotDelivery {
  readonly cron: CronRow;
  readonly slotTime: bigint;
  readonly payload: { readonly payload_id: string; readonly sealed_payload: Buffer };
}

/** Leases of one owner that a transaction has locked, and the moment at which it had them. */
export interface LockedLeases {
  readonly byId: ReadonlyMap<LeaseUuid, LeaseRow>;
  readonly now: DatabaseTime;
}

/** Locks the leases of schedules and of their targets, together, in the order of their ids. */
export async function lockAll(
  transaction: Transaction,
  ownerId: AccountUuid,
  crons: readonly Pick<CronRow, "lease_id" | "target_lease_id">[],
): Promise<LockedLeases> {
  const ids = crons.flatMap(({ lease_id, target_lease_id }) =>
    target_lease_id === null ? [lease_id] : [lease_id, target_lease_id],
  );
  const rows = await transaction.run(lockLeases, [ownerId, [...new Set(ids)]]);
  const now = rows.at(-1)?.now ?? (0n as DatabaseTime);
  return { byId: new Map(rows.map((row) => [row.lease_id, row])), now };
}

/**
 * Delivers into leases that are locked: what is for leases of one variant goes together. An outcome for each, in order.
 */
export async function deliverSlots(
  options: CronDeliveriesOptions,
  transaction: Transaction,
  leases: LockedLeases,
  slots: readonly SlotDelivery[],
): Promise<readonly DeliveryOutcome[]> {
  const outcomes = new Map<SlotDelivery, DeliveryOutcome>();
  const deliverable = new Map<SlotDelivery, Delivery>();
  for (const slot of slots) {
    const delivery = await deliveryOf(options.seals, leases, slot);
    if (delivery === undefined) {
      outcomes.set(slot, { outcome: "TARGET_ENDED" });
    } else {
      deliverable.set(slot, delivery);
    }
  }
  for (const [variant, ofVariant] of Map.groupBy(deliverable, ([, { target }]) => options.variantOf(target))) {
    const deliveries = ofVariant.map(([, delivery]) => delivery);
    const found = (await variant.deliver?.(transaction, deliveries)) ?? [];
    for (const [index, [slot]] of ofVariant.entries()) {
      outcomes.set(slot, found[index] ?? { outcome: "TARGET_ENDED" });
    }
  }
  return slots.map((slot) => outcomes.get(slot) ?? { outcome: "TARGET_ENDED" });
}

/** Undefined if the target is over, or the lease itself. */
async function deliveryOf(
  seals: LeaseSeals,
  { byId, now }: LockedLeases,
  { cron, slotTime, payload }: SlotDelivery,
): Promise<Delivery | undefined> {
  const lease = byId.get(cron.lease_id);
  const target = cron.target_lease_id === null ? undefined : byId.get(cron.target_lease_id);
  if (lease === undefined || target === undefined || endOf(target, now) !== undefined) {
    return undefined;
  }
  const details = await seals.openDetails(lease);
  if (details === undefined) {
    return undefined;
  }
  return {
    target,
    place: cron.target_key ?? "",
    body: openPayload(seals, await seals.keyOf(lease), cron.lease_id, payload.payload_id, payload.sealed_payload),
    contentType: unpackCron(details).contentType,
    attributes: { "cron-lease-id": formatId("lse", cron.lease_id), "cron-slot-time": rfc3339(slotTime) },
  };
}

/** A time in microseconds as RFC 3339 has it, in UTC. */
export function rfc3339(micros: bigint): string {
  const [seconds = ""] = new Date(Number(micros / 1000n)).toISOString().split(".");
  return `${seconds}.${String(micros % 1_000_000n).padStart(6, "0")}Z`;
}
