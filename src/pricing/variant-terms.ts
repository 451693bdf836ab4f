/** How one variant is priced and bounded. */

/** How a variant is priced and bounded, as GetPricing shows it. */
export interface VariantTerms {
  readonly formula: "bytes_seconds" | "reservation";
  readonly description: string;
  readonly sizeMeaning: string;
  readonly minSizeBytes: bigint;
  readonly maxSizeBytes: bigint;
}
