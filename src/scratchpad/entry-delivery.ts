/**
 * Delivers into scratchpads for their owner: entries that the server itself sets, in a transaction of its own making.
 */
import type { Transaction } from "../database/database.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import type { Delivery, DeliveryOutcome } from "../lease/lease-variant.ts";
import { expireEntries } from "./entry-expiry-statements.ts";
import { sealValue } from "./entry-seals.ts";
import { type PadWrite, parametersOf } from "./entry-writes.ts";
import { unpackScratchpad } from "./scratchpad-details.ts";
import { type WriteOutcome, writeEntries, writeKinds } from "./write-entries-statement.ts";

/** How many entries whose time is over one statement removes to make room. */
const expiredBatch = 500;

/**
 * Sets deliveries as entries: different ones by one statement, those of one key one after the other. Their leases' rows
 * are locked.
 */
export async function deliverEntries(
  transaction: Transaction,
  seals: LeaseSeals,
  deliveries: readonly Delivery[],
): Promise<readonly DeliveryOutcome[]> {
  const outcomes = new Map<Delivery, DeliveryOutcome>();
  let left: readonly Delivery[] = deliveries;
  while (left.length > 0) {
    const batch = firstOfEach(left);
    const found = await setAll(transaction, seals, batch);
    for (const [index, delivery] of batch.entries()) {
      const outcome = outcomeOf(found[index] ?? "ENDED");
      if (outcome === "AGAIN") {
        await removeExpired(transaction, delivery);
      } else {
        outcomes.set(delivery, outcome);
      }
    }
    left = left.filter((delivery) => !outcomes.has(delivery));
  }
  return deliveries.map((delivery) => outcomes.get(delivery) ?? { outcome: "TARGET_ENDED" });
}

async function setAll(
  transaction: Transaction,
  seals: LeaseSeals,
  deliveries: readonly Delivery[],
): Promise<WriteOutcome[]> {
  const writes: PadWrite[] = [];
  for (const { target, place, body } of deliveries) {
    const details = await seals.openDetails(target);
    if (details === undefined) {
      throw new Error("a delivery was made to a lease that has ended");
    }
    const { maxEntryBytes } = unpackScratchpad(details);
    writes.push({
      pad: { owner_id: target.owner_id, lease_id: target.lease_id, max_entry_bytes: maxEntryBytes },
      kind: writeKinds.set,
      key: place,
      expectedVersion: undefined,
      ttlMicros: undefined,
      value: sealValue(seals, await seals.keyOf(target), target.lease_id, body),
      calls: [{ repeatable: undefined, step: 1, offsetBytes: 0 }],
    });
  }
  return (await transaction.run(writeEntries, parametersOf(writes, null))).map(({ outcome }) => outcome);
}

/** What stands in the way of one delivery may be what others of its batch took, or entries whose time is over. */
async function removeExpired(transaction: Transaction, { target }: Delivery): Promise<void> {
  await transaction.run(expireEntries, [target.owner_id, target.lease_id, expiredBatch]);
}

/** The first delivery to each place. */
function firstOfEach(deliveries: readonly Delivery[]): Delivery[] {
  const places = new Set<string>();
  return deliveries.filter((delivery) => {
    const isFirst = !places.has(placeOf(delivery));
    places.add(placeOf(delivery));
    return isFirst;
  });
}

function placeOf({ target, place }: Delivery): string {
  return `${target.lease_id} ${place}`;
}

function outcomeOf(outcome: WriteOutcome): DeliveryOutcome | "AGAIN" {
  switch (outcome) {
    case "DONE":
      return { outcome: "DELIVERED" };
    case "ENDED":
    case "NOT_FOUND":
      return { outcome: "TARGET_ENDED" };
    case "AGAIN":
    case "EXPIRED":
      return "AGAIN";
    case "FULL":
      return { outcome: "REFUSED", reason: "SCRATCHPAD_FULL" };
    case "SEALS":
      return { outcome: "REFUSED", reason: "LIMIT_REACHED" };
    default:
      throw new Error(`a delivery was refused for ${outcome}`);
  }
}
