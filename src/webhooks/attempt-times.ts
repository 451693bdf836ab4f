/** How long an attempt to deliver a webhook notification lasts, whoever sends it. */

/** How long an attempt may take, in seconds. */
export const attemptSeconds = 15;

/**
 * How long an attempt belongs to the sender that took it, in seconds: then it is taken for dead, and it is sent again.
 */
export const takenSeconds = 60;

/**
 * How long attempts under way may still take when their sender is stopped, in milliseconds. Those that are cut are made
 * again.
 */
export const stopGraceMs = 2_000;
