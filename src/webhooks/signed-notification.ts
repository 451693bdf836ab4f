/** A webhook notification as it is sent: signed in the form of Standard Webhooks, https://www.standardwebhooks.com. */
import { createHmac } from "node:crypto";
import type { DatabaseTime } from "../database/row-types.ts";

/** A notification, ready to be sent. */
export interface Notification {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** What is to be sent, without its signature. */
export interface UnsignedNotification {
  /** The same at every attempt. */
  readonly id: string;
  readonly contentType: string;
  readonly body: Buffer;
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * Signs a notification with a webhook's secret. The time of the attempt is signed with id and body, so that a receiver
 * can refuse one that is replayed later.
 */
export function signNotification(
  { id, contentType, body, headers }: UnsignedNotification,
  secret: string,
  now: DatabaseTime,
): Notification {
  const timestamp = `${now / 1_000_000n}`;
  // By hand: the standardwebhooks package signs text, and a body may be any bytes.
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const signature = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body);
  return {
    body,
    headers: {
      ...headers,
      "content-type": contentType,
      "content-length": `${body.length}`,
      "user-agent": "leasehold",
      "webhook-id": id,
      "webhook-timestamp": timestamp,
      "webhook-signature": `v1,${signature.digest("base64")}`,
    },
  };
}
