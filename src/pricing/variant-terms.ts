/** How one variant is priced and bounded. */

/** What a price is multiplied by, as a fraction. */
export interface PriceFactor {
  readonly numerator: bigint;
  readonly denominator: bigint;
}

/** How a variant is priced and bounded, as GetPricing shows it. */
export interface VariantTerms {
  readonly formula: "bytes_seconds";
  readonly description: string;
  readonly sizeMeaning: string;
  readonly minSizeBytes: bigint;
  readonly maxSizeBytes: bigint;
  /** The longest duration, where the variant has one of its own. */
  readonly maxDurationSeconds?: bigint;
}
