/** The secret that a lease's webhook notifications are signed with. */
import { createHmac } from "node:crypto";
import type { LeaseUuid } from "../ids/ids.ts";

/**
 * The webhook secret of a lease, in the form of Standard Webhooks: `whsec_` and the base64 of 32 bytes. It is derived
 * from a server key whose version the lease keeps, and never stored, so that a replay of CreateLease can show it again.
 */
export function webhookSecret(serverKey: Uint8Array, leaseId: LeaseUuid): string {
  return `whsec_${createHmac("sha256", serverKey).update(`webhook\0${leaseId}`).digest("base64")}`;
}
