/** Refuses a call about messages to a lease that has none. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import type { LeaseRow } from "../lease/lease-row.ts";

/** @throws LeaseholdError WRONG_VARIANT. */
export function requireMailbox(row: LeaseRow): void {
  if (row.variant !== Lease_Variant.MAILBOX) {
    const variant = `VARIANT_${Lease_Variant[row.variant]}`;
    const message = `The lease is ${variant}, which has no messages: use the calls of its variant.`;
    throw new LeaseholdError("WRONG_VARIANT", message, { metadata: { variant } });
  }
}
