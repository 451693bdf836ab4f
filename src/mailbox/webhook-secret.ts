/** The secret that a mailbox's webhook notifications are signed with. */
import { createHmac } from "node:crypto";
import type { LeaseUuid } from "../ids/ids.ts";

/**
 * The webhook secret of a mailbox, in the form of Standard Webhooks: `whsec_` and the base64 of 32 bytes. It is derived
 * from the server key of the mailbox's drop token and never stored, so that a replay of CreateLease can show it again.
 */
export function webhookSecret(serverKey: Uint8Array, leaseId: LeaseUuid): string {
  return `whsec_${createHmac("sha256", serverKey).update(`webhook\0${leaseId}`).digest("base64")}`;
}
