/** Shows the pricing in force as the proto's Pricing: rates, bounds, limits and examples that are computed, not typed. */
import { create } from "@bufbuild/protobuf";
import {
  type Limit,
  type PriceExample,
  PriceExampleSchema,
  type Pricing,
  PricingSchema,
} from "#gen/leasehold/v1/pricing_pb.js";
import { toDuration } from "../proto-values/proto-time.ts";
import { priceMicros } from "./price.ts";
import { longestSeconds, type PricingTerms } from "./pricing-book.ts";
import type { VariantTerms } from "./variant-terms.ts";

/** A variant as the pricing shows it. */
export interface PricedVariant {
  readonly name: string;
  readonly pricing: VariantTerms;
  /** Whether its leases fire, which is charged for. */
  readonly fires?: boolean;
}

/** A published limit. */
export type PublishedLimit = Omit<Limit, "$typeName" | "$unknown">;

const mebibyte = 2n ** 20n;
const gibibyte = 2n ** 30n;
const hour = 3_600n;
const day = 86_400n;

const examples: readonly {
  readonly description: string;
  readonly sizeBytes: bigint;
  readonly durationSeconds: bigint;
}[] = [
  { description: "1 MiB for 1 hour", sizeBytes: mebibyte, durationSeconds: hour },
  { description: "1 MiB for 1 day", sizeBytes: mebibyte, durationSeconds: day },
  { description: "100 MiB for a week", sizeBytes: 100n * mebibyte, durationSeconds: 7n * day },
  { description: "1 GiB for 30 days", sizeBytes: gibibyte, durationSeconds: 30n * day },
  { description: "4 GiB for a year", sizeBytes: 4n * gibibyte, durationSeconds: 365n * day },
];

/** Shows pricing. */
export class PricingView {
  readonly #variants: readonly PricedVariant[];
  readonly #limits: readonly PublishedLimit[];

  constructor(variants: readonly PricedVariant[], limits: readonly PublishedLimit[]) {
    this.#variants = variants;
    this.#limits = limits;
  }

  show(terms: PricingTerms): Pricing {
    return create(PricingSchema, {
      pricingVersion: terms.pricingVersion,
      rateMicrosPerGibDay: terms.rateMicrosPerGibDay,
      minChargeMicros: terms.minChargeMicros,
      minDuration: toDuration(terms.minDurationSeconds),
      maxDuration: toDuration(terms.maxDurationSeconds),
      firingMicros: terms.firingMicros,
      variants: this.#variants.map((variant) => showVariant(variant, terms)),
      limits: [...this.#limits],
      examples: this.#variants.flatMap((variant) => examplesOf(variant, terms)),
    });
  }
}

function showVariant({ name, pricing }: PricedVariant, terms: PricingTerms) {
  const { maxDurationSeconds, ...shown } = pricing;
  const isOwn = maxDurationSeconds !== undefined && maxDurationSeconds < terms.maxDurationSeconds;
  return { variant: name, ...shown, ...(isOwn ? { maxDuration: toDuration(maxDurationSeconds) } : {}) };
}

/** Those that the variant's bounds allow. One that fires does so every hour, from one hour on and before its end. */
function examplesOf(variant: PricedVariant, terms: PricingTerms): PriceExample[] {
  const { pricing, fires = false } = variant;
  const firingsOf = (durationSeconds: bigint) => (fires ? (durationSeconds - 1n) / hour : 0n);
  const possible = examples.filter(
    ({ sizeBytes, durationSeconds }) =>
      sizeBytes <= pricing.maxSizeBytes &&
      durationSeconds <= longestSeconds(terms, pricing) &&
      (!fires || firingsOf(durationSeconds) > 0n),
  );
  return possible.map(({ description, sizeBytes, durationSeconds }) => {
    const firings = firingsOf(durationSeconds);
    return create(PriceExampleSchema, {
      description: fires ? `${description}, every hour` : description,
      variant: variant.name,
      sizeBytes,
      duration: toDuration(durationSeconds),
      priceMicros: priceMicros(terms, sizeBytes, durationSeconds, { firings }),
      firings,
    });
  });
}
