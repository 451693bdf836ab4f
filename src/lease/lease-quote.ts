/** What a lease would cost by the pricing in force, for every door that is asked. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { QuoteLeaseResponseSchema } from "#gen/leasehold/v1/lease_pb.js";
import { invalidField } from "../errors/leasehold-error.ts";
import { type PricingBook, priceLease } from "../pricing/pricing-book.ts";
import type { LeaseVariant, QuotedTerms } from "./lease-variant.ts";

/** What a price depends on. */
export interface QuotedLease extends QuotedTerms {
  readonly sizeBytes: bigint;
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
  const fields = variant.quoting?.fields ?? [];
  for (const [field, name, isSet] of [
    ["retainedVersions", "retained_versions", lease.retainedVersions !== 0],
    ["schedule", "schedule", lease.schedule !== undefined],
    ["timeZone", "time_zone", lease.timeZone !== ""],
  ] as const) {
    if (isSet && !fields.includes(field)) {
      throw invalidField(name, "is for a variant whose price depends on it");
    }
  }
  const terms = await pricing.current();
  const bounds = variant.pricing;
  // Size and duration first: what a schedule comes to within a duration is not counted for one that is out of bounds.
  priceLease(terms, { ...lease, bounds });
  const extras = await variant.quoting?.priceOf(lease);
  const priceMicros = priceLease(terms, { ...lease, ...extras, bounds });
  return { priceMicros, pricingVersion: terms.pricingVersion, firings: extras?.firings ?? 0n };
}
