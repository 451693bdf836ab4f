/** How properties over a server and a database report: the first counterexample, with what it failed for. */

/** To be spread into fast-check's parameters: shrinking would take a minute, and races do not fail the same way twice. */
export const tellingAtOnce = { endOnFailure: true, includeErrorInReport: true } as const;
