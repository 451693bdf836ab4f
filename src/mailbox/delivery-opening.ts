/** Opens deliveries for whoever holds them, and shows messages. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { MailboxMessageSchema, MessageDeliverySchema } from "#gen/leasehold/v1/mailbox_pb.js";
import type { DatabaseTime } from "../database/row-types.ts";
import { formatId, type MessageUuid } from "../ids/ids.ts";
import type { LeaseRow } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import { toTimestamp } from "../proto-values/proto-time.ts";
import { openMessage } from "./message-seals.ts";
import { formatReceipt } from "./receipt.ts";
import type { Received } from "./receive-lane.ts";

/** A sealed message with what is in the clear of it. */
export interface SealedMessage {
  readonly sequence: number | bigint;
  readonly messageId: MessageUuid;
  readonly dropTime: DatabaseTime;
  readonly sealed: Buffer;
}

/** Opens what was received. */
export async function openDeliveries(
  seals: LeaseSeals,
  { mailbox, deliveries }: Received,
): Promise<MessageInitShape<typeof MessageDeliverySchema>[]> {
  const { lease } = mailbox;
  const open = await messageOpener(seals, lease);
  const showTime = timesInARow();
  return deliveries.map((delivery) => ({
    message: open(delivery),
    receipt: formatReceipt(lease.lease_id, delivery),
    deliveryCount: delivery.deliveryCount,
    holdExpireTime: showTime(delivery.holdExpireTime),
  }));
}

/** Gives the way to show messages of a mailbox that a statement has just shown to be live. */
export async function messageOpener(
  seals: LeaseSeals,
  lease: LeaseRow,
): Promise<(message: SealedMessage) => MessageInitShape<typeof MailboxMessageSchema>> {
  const key = await seals.keyOf(lease);
  const leaseId = lease.lease_id;
  const showTime = timesInARow();
  return ({ sequence, messageId, dropTime, sealed }) => {
    const content = openMessage(seals, key, { leaseId, messageId }, sealed);
    return {
      messageId: formatId("msg", messageId),
      sequence: BigInt(sequence),
      dropTime: showTime(dropTime),
      ...content,
    };
  };
}

/** Shows times of which many that follow each other are the same: what is dropped or taken together has one. */
function timesInARow(): (time: DatabaseTime) => Timestamp {
  let last: { readonly time: DatabaseTime; readonly shown: Timestamp } | undefined;
  return (time) => {
    if (last?.time !== time) {
      last = { time, shown: toTimestamp(time) };
    }
    return last.shown;
  };
}
