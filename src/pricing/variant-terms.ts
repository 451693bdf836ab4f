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

/**
 * The formula of bytes_seconds in words, as GetPricing shows it.
 *
 * @param options times: what else the price of room is multiplied by; plus: what is added to it once it is rounded.
 */
export function describeBytesSeconds(options: { readonly times?: string; readonly plus?: string } = {}): string {
  const room = ["size_bytes / 2^30", "duration in seconds / 86400", "rate per GiB-day"];
  const product = [...room, ...(options.times === undefined ? [] : [options.times])].join(" x ");
  const added = options.plus === undefined ? ", and" : `, and ${options.plus};`;
  return `${product}, rounded up to a whole micro-dollar${added} at least the minimum charge`;
}
