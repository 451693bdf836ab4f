/** What a lease costs: integer micro-dollars, computed in arbitrary precision and rounded up. */

/** The rates that a price follows from. */
export interface Rates {
  readonly rateMicrosPerGibDay: bigint;
  readonly minChargeMicros: bigint;
}

const bytesPerGib = 2n ** 30n;
const secondsPerDay = 86_400n;

/**
 * The price of room for a time, in micro-dollars: sizeBytes / 2^30 x durationSeconds / 86400 x the rate per GiB-day,
 * rounded up, and at least the minimum charge. At 1000 micro-dollars a GiB-day, 1 MiB for an hour is 0.04 of one, which
 * is why it rounds up.
 */
export function priceMicros(rates: Rates, sizeBytes: bigint, durationSeconds: bigint): bigint {
  const divisor = bytesPerGib * secondsPerDay;
  const exact = sizeBytes * durationSeconds * rates.rateMicrosPerGibDay;
  const roundedUp = (exact + divisor - 1n) / divisor;
  return roundedUp > rates.minChargeMicros ? roundedUp : rates.minChargeMicros;
}
