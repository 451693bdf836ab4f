/** What a lease would cost by the pricing in force, for every door that is asked. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { QuoteLeaseResponseSchema } from "#gen/leasehold/v1/lease_pb.js";
import { invalidField } from "../errors/leasehold-error.ts";
import { type PricingBook, priceLease } from "../pricing/pricing-book.ts";
import type { LeaseVariant } from "./lease-variant.ts";

/** What a price depends on. */
export interface QuotedLease {
  readonly sizeBytes: bigint;
  readonly durationSeconds: bigint;
  /** 0: unset. */
  readonly retainedVersions: number;
}

/**
 * The price of a lease of a variant.
 *
 * @throws LeaseholdError INVALID_FIELD for what the variant's price does not depend on, or OUT_OF_BOUNDS.
 */
export async function quoteLease(
  pricing: PricingBook,
  variant: LeaseVariant,
  lease: QuotedLease,
): Promise<MessageInitShape<typeof QuoteLeaseResponseSchema>> {
  if (lease.retainedVersions !== 0 && variant.priceFactor === undefined) {
    throw invalidField("retained_versions", "is for a variant whose price depends on it");
  }
  const terms = await pricing.current();
  const priceFactor = variant.priceFactor?.(lease);
  const priceMicros = priceLease(terms, { ...lease, priceFactor, bounds: variant.pricing });
  return { priceMicros, pricingVersion: terms.pricingVersion };
}
