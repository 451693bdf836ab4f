/** A timer of any length. Node's own fires at once beyond 2^31-1 ms, which is 24.8 days. */

/** Calls back once, unless it is cancelled before. */
export class LongTimer {
  readonly #fire: () => void;
  readonly #endMs: number;
  #timeout: NodeJS.Timeout;

  constructor(delayMs: number, fire: () => void) {
    this.#fire = fire;
    this.#endMs = performance.now() + delayMs;
    this.#timeout = this.#arm(delayMs);
  }

  /** How long until it fires, in milliseconds. */
  get remainingMs(): number {
    return Math.max(0, this.#endMs - performance.now());
  }

  cancel(): void {
    clearTimeout(this.#timeout);
  }

  #arm(delayMs: number): NodeJS.Timeout {
    return delayMs > longestTimeoutMs
      ? setTimeout(() => {
          this.#timeout = this.#arm(this.remainingMs);
        }, longestTimeoutMs)
      : setTimeout(this.#fire, delayMs);
  }
}

const longestTimeoutMs = 2 ** 31 - 1;
