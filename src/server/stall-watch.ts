/** Tells a peer that moves nothing from one that is slow: it counts only the time in which the server waits for it. */

/** One timer for the life of a stream: restarted for each wait and each move, since that costs a tenth of a new one. */
export class StallWatch {
  readonly #timeout: NodeJS.Timeout;
  readonly #onStall: () => void;
  #waits = 0;

  constructor(stallMs: number, onStall: () => void) {
    this.#onStall = onStall;
    this.#timeout = setTimeout(() => this.#check(), stallMs);
  }

  /** The server now waits for the peer to send or to take something. */
  wait(): void {
    this.#waits += 1;
    this.#timeout.refresh();
  }

  /** One such wait is over. */
  rest(): void {
    this.#waits -= 1;
  }

  /** The peer sent or took something, if less than what is waited for. */
  move(): void {
    this.#timeout.refresh();
  }

  stop(): void {
    clearTimeout(this.#timeout);
  }

  #check(): void {
    if (this.#waits > 0) {
      this.#onStall();
    } else {
      this.#timeout.refresh();
    }
  }
}
