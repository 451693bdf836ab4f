/** Owns how often a broken transfer is taken up again, and how long it waits before. */
import { setTimeout as delay } from "node:timers/promises";
import type { CallError } from "./call-error.ts";

/** How a transfer is repeated. */
export interface RetryPolicy {
  /** How many failures in a row, without a byte moved between them, are one too many. */
  readonly maxFailures: number;
  /** How long to wait after the first failure in a row, in milliseconds; it doubles with each one. */
  readonly firstDelayMs: number;
  readonly longestDelayMs: number;
}

/**
 * Gives a server that restarts about half a minute to come back, and one whose caller was cut off the time to store what
 * had arrived before the caller is back.
 */
const defaultRetryPolicy: RetryPolicy = { maxFailures: 8, firstDelayMs: 500, longestDelayMs: 10_000 };

/** For what goes on until somebody stops it. */
export const endlessRetryPolicy: RetryPolicy = { ...defaultRetryPolicy, maxFailures: Number.POSITIVE_INFINITY };

/** Counts the failures of one transfer. */
export class Retries {
  readonly #policy: RetryPolicy;
  readonly #onRetry: (error: CallError) => void;
  #failures = 0;

  /** `onRetry` is told of each failure that is followed by another attempt. */
  constructor(policy: RetryPolicy = defaultRetryPolicy, onRetry: (error: CallError) => void = () => undefined) {
    this.#policy = policy;
    this.#onRetry = onRetry;
  }

  /** Something has moved: what fails from now on is not in a row with what failed before. */
  progressed(): void {
    this.#failures = 0;
  }

  /** Waits until it is time for another attempt. @throws the error itself, if it was one too many; AbortError. */
  async wait(error: CallError, signal?: AbortSignal): Promise<void> {
    this.#failures += 1;
    if (this.#failures >= this.#policy.maxFailures) {
      throw error;
    }
    this.#onRetry(error);
    const doubledMs = Math.min(this.#policy.firstDelayMs * 2 ** (this.#failures - 1), this.#policy.longestDelayMs);
    // Half of it by chance, so that the clients of a server that restarts do not come back as one.
    const waitMs = Math.max(error.retryAfterMs ?? 0, doubledMs * (0.5 + Math.random() / 2));
    await delay(waitMs, undefined, signal === undefined ? {} : { signal });
  }

  /** Makes a call that is safe to repeat until it succeeds, or fails for good. */
  async until<Result>(
    call: () => Promise<Result>,
    isTransient: (error: unknown) => error is CallError,
  ): Promise<Result> {
    for (;;) {
      try {
        return await call();
      } catch (error) {
        if (!isTransient(error)) {
          throw error;
        }
        await this.wait(error);
      }
    }
  }
}
