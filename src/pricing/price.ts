/** What a lease costs: integer micro-dollars, computed in arbitrary precision and rounded up. */

import type { PriceFactor } from "./variant-terms.ts";

/** The rates that a price follows from. */
export interface Rates {
  readonly rateMicrosPerGibDay: bigint;
  readonly minChargeMicros: bigint;
  readonly firingMicros: bigint;
}

/** What a price depends on beside size and duration. */
export interface PricedExtras {
  readonly factor?: PriceFactor | undefined;
  /** How often a lease fires. */
  readonly firings?: bigint | undefined;
}

const bytesPerGib = 2n ** 30n;
const secondsPerDay = 86_400n;

/**
 * The price of room for a time, in micro-dollars: sizeBytes / 2^30 x durationSeconds / 86400 x the rate per GiB-day,
 * rounded up, and at least the minimum charge. At 1000 micro-dollars a GiB-day, 1 MiB for an hour is 0.04 of one, which
 * is why it rounds up. A variant's factor multiplies the exact price, before it is rounded and compared; firings are
 * added behind the rounding, and count towards the minimum.
 */
export function priceMicros(
  rates: Rates,
  sizeBytes: bigint,
  durationSeconds: bigint,
  { factor = { numerator: 1n, denominator: 1n }, firings = 0n }: PricedExtras = {},
): bigint {
  const divisor = bytesPerGib * secondsPerDay * factor.denominator;
  const exact = sizeBytes * durationSeconds * rates.rateMicrosPerGibDay * factor.numerator;
  const price = (exact + divisor - 1n) / divisor + firings * rates.firingMicros;
  return price > rates.minChargeMicros ? price : rates.minChargeMicros;
}
