/** Delivers into mailboxes for their owner: what the server itself drops, in a transaction of its own making. */
import { byteaArray } from "../database/binary-array.ts";
import type { Transaction } from "../database/database.ts";
import { newUuid } from "../ids/ids.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import type { Delivery, DeliveryOutcome } from "../lease/lease-variant.ts";
import { type DropOutcome, type DroppedRow, dropMessages } from "./drop-messages-statement.ts";
import { sealMessage } from "./message-seals.ts";

/** Drops deliveries as messages, those of one mailbox by one statement. Their leases' rows are locked. */
export async function deliverMessages(
  transaction: Transaction,
  seals: LeaseSeals,
  deliveries: readonly Delivery[],
): Promise<readonly DeliveryOutcome[]> {
  const outcomes = new Map<Delivery, DeliveryOutcome>();
  for (const ofMailbox of Map.groupBy(deliveries, ({ target }) => target.lease_id).values()) {
    let left: readonly Delivery[] = ofMailbox;
    while (left.length > 0) {
      const rows = await dropAll(transaction, seals, left);
      left = left.filter((delivery, index) => {
        const outcome = rows[index]?.outcome ?? "LEASE_ENDED";
        if (outcome !== "AGAIN") {
          outcomes.set(delivery, outcomeOf(outcome));
        }
        return outcome === "AGAIN";
      });
    }
  }
  return deliveries.map((delivery) => outcomes.get(delivery) ?? { outcome: "TARGET_ENDED" });
}

async function dropAll(
  transaction: Transaction,
  seals: LeaseSeals,
  deliveries: readonly Delivery[],
): Promise<DroppedRow[]> {
  const [first] = deliveries;
  if (first?.target.wrapped_key === undefined || first.target.wrapped_key === null) {
    return [];
  }
  const { owner_id, lease_id } = first.target;
  const key = await seals.keyOf(first.target);
  const messages = deliveries.map(({ body, contentType, attributes }) => {
    const messageId = newUuid<"msg">();
    const sealed = sealMessage(seals, key, { leaseId: lease_id, messageId }, { body, contentType, attributes });
    return { messageId, sealed, bodyBytes: body.length };
  });
  return await transaction.run(dropMessages, [
    owner_id,
    lease_id,
    null,
    `{${messages.map(({ messageId }) => messageId).join(",")}}`,
    byteaArray(messages.map(({ sealed }) => sealed)),
    `{${messages.map(({ bodyBytes }) => bodyBytes).join(",")}}`,
    null,
    null,
    null,
    null,
  ]);
}

function outcomeOf(outcome: DropOutcome): DeliveryOutcome {
  switch (outcome) {
    case "DROPPED":
      return { outcome: "DELIVERED" };
    case "LEASE_ENDED":
      return { outcome: "TARGET_ENDED" };
    case "SIZE_BYTES":
    case "MAX_MESSAGES":
      return { outcome: "REFUSED", reason: "MAILBOX_FULL" };
    case "SEALS_PER_LEASE":
      return { outcome: "REFUSED", reason: "LIMIT_REACHED" };
    default:
      throw new Error(`a delivery was refused for ${outcome}`);
  }
}
