/** Refuses a call for a body to a lease that has none. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import type { LeaseRow } from "../lease/lease-row.ts";

/** @throws LeaseholdError WRONG_VARIANT. */
export function requireStorage(row: LeaseRow): void {
  if (row.variant !== Lease_Variant.STORAGE) {
    const variant = `VARIANT_${Lease_Variant[row.variant]}`;
    throw new LeaseholdError(
      "WRONG_VARIANT",
      `The lease is ${variant}, which has no body: use the calls of its variant.`,
      {
        metadata: { variant },
      },
    );
  }
}
