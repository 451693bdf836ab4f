/** When a delivery that failed is tried again. */

const firstSeconds = 5;
const longestSeconds = 300;
/** The share of a wait that chance takes off, so that what failed together is not tried together. */
const jitter = 0.1;
/** How long before its last moment it is tried once more, in microseconds: whoever retries may come that much later. */
const lastChanceMicros = 2_000_000n;

/**
 * After how many microseconds a delivery is tried again that has failed so many times: after 5 s, twice as long each
 * time, up to 5 minutes. If that is past its last moment, once more shortly before it, and then at it, to be given up.
 */
export function retryMicros(attemptCount: number, now: bigint, lastMicros: bigint): bigint {
  const seconds = Math.min(longestSeconds, firstSeconds * 2 ** Math.min(attemptCount - 1, 10));
  const wait = BigInt(Math.round(seconds * (1 - jitter * Math.random()) * 1_000_000));
  const left = lastMicros - now;
  const lastChance = left - lastChanceMicros;
  if (wait < lastChance) {
    return wait;
  }
  return lastChance > 0n ? lastChance : left > 0n ? left : 0n;
}
