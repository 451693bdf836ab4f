/** When a webhook notification is sent, how often again, and how long what became of it is shown. */

const minuteSeconds = 60;
const hourSeconds = 60 * minuteSeconds;
const daySeconds = 24 * hourSeconds;

/** The longest wait after each failed attempt but the last, in seconds. */
const retryDelaysSeconds = [
  5,
  5 * minuteSeconds,
  30 * minuteSeconds,
  2 * hourSeconds,
  5 * hourSeconds,
  10 * hourSeconds,
  14 * hourSeconds,
  20 * hourSeconds,
  24 * hourSeconds,
];

/** How often a notification is sent at most, unless a sender dies before it has recorded an attempt. */
export const mostAttempts = retryDelaysSeconds.length + 1;

/** How long after the first attempt the last one is made at the latest, in seconds. */
export const retrySpanSeconds = retryDelaysSeconds.reduce((sum, delay) => sum + delay, 0);

/** How long after the drop its notification's outcome is shown, in seconds: longer than it is ever tried. */
export const shownSeconds = 7 * daySeconds;

/** The share of a delay that chance takes off, so that what failed together is not sent again together. */
const jitter = 0.1;

/** How long to wait after the attempt of this number, which failed, in seconds. Undefined: it was the last. */
export function retryDelaySeconds(attemptCount: number): number | undefined {
  const delay = retryDelaysSeconds[attemptCount - 1];
  return delay === undefined ? undefined : delay * (1 - jitter * Math.random());
}
