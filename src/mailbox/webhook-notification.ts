/** What a webhook notification of a mailbox says. */
import type { DatabaseTime } from "../database/row-types.ts";
import { formatId, type LeaseUuid, type MessageUuid } from "../ids/ids.ts";
import { type Notification, signNotification } from "../webhooks/signed-notification.ts";

/** The message that is announced. */
export interface Announced {
  readonly lease_id: LeaseUuid;
  readonly message_id: MessageUuid;
  readonly sequence: bigint;
  readonly body_bytes: number;
  readonly drop_time: DatabaseTime;
}

/** Makes the notification of a drop. It says that the message is there and never what is in it, the same at every attempt. */
export function makeNotification(message: Announced, secret: string, now: DatabaseTime): Notification {
  const messageId = formatId("msg", message.message_id);
  const text = JSON.stringify({
    type: "mailbox.message_dropped",
    timestamp: new Date(Number(message.drop_time / 1000n)).toISOString(),
    data: {
      lease_id: formatId("lse", message.lease_id),
      message_id: messageId,
      // A sequence rises by one for each change of one mailbox, and stays far below 2^53.
      sequence: Number(message.sequence),
      body_bytes: message.body_bytes,
    },
  });
  return signNotification({ id: messageId, contentType: "application/json", body: Buffer.from(text) }, secret, now);
}
