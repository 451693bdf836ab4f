/** What a webhook notification says and how it is signed, in the form of Standard Webhooks. */
import { Webhook } from "standardwebhooks";
import type { DatabaseTime } from "../database/row-types.ts";
import { formatId, type LeaseUuid, type MessageUuid } from "../ids/ids.ts";

/** The message that is announced. */
export interface Announced {
  readonly lease_id: LeaseUuid;
  readonly message_id: MessageUuid;
  readonly sequence: bigint;
  readonly body_bytes: number;
  readonly drop_time: DatabaseTime;
}

/** A notification, ready to be sent. */
export interface Notification {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/**
 * Makes the notification of a drop. It says that the message is there and never what is in it. Its id and body are the
 * same at every attempt; the time of the attempt is signed with them, so that a receiver can refuse one that is replayed
 * later. Source: https://www.standardwebhooks.com.
 */
export function makeNotification(message: Announced, secret: string, now: DatabaseTime): Notification {
  const messageId = formatId("msg", message.message_id);
  const text = JSON.stringify({
    type: "mailbox.message_dropped",
    timestamp: dateOf(message.drop_time).toISOString(),
    data: {
      lease_id: formatId("lse", message.lease_id),
      message_id: messageId,
      // A sequence rises by one for each change of one mailbox, and stays far below 2^53.
      sequence: Number(message.sequence),
      body_bytes: message.body_bytes,
    },
  });
  const body = Buffer.from(text);
  return {
    body,
    headers: {
      "content-type": "application/json",
      "content-length": `${body.length}`,
      "user-agent": "leasehold",
      "webhook-id": messageId,
      "webhook-timestamp": `${now / 1_000_000n}`,
      "webhook-signature": new Webhook(secret).sign(messageId, dateOf(now), text),
    },
  };
}

function dateOf(time: DatabaseTime): Date {
  return new Date(Number(time / 1000n));
}
