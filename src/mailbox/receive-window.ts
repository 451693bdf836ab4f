/** The window of one stream: what it has delivered and is not settled yet. */
import { LongTimer } from "../server/long-timer.ts";
import type { WaitedLease } from "../wakeups/wakeups.ts";
import type { PackedDelivery } from "./delivery-packing.ts";
import type { DeliveryName } from "./receipt.ts";
import type { Received } from "./receive-lane.ts";

/** A delivery that counts against a window. */
export interface HeldDelivery extends DeliveryName {
  readonly window: ReceiveWindow;
}

/** Who is told what a window needs. */
export interface WindowKeeper {
  /** A window is full, and waits. */
  filled(window: ReceiveWindow): void;
  /** It waits no more. */
  opened(window: ReceiveWindow): void;
  /** The hold of one of its deliveries may be over. */
  doubted(window: ReceiveWindow): void;
  added(held: HeldDelivery): void;
  removed(held: HeldDelivery): void;
}

/** Counts the deliveries of one stream. */
export class ReceiveWindow {
  readonly mailbox: WaitedLease;
  readonly #size: number;
  readonly #keeper: WindowKeeper;
  /** By sequence. */
  readonly #held = new Map<number, { readonly held: HeldDelivery; endMs: number }>();
  #waiting: PromiseWithResolvers<void> | undefined;
  #timer: LongTimer | undefined;

  constructor(mailbox: WaitedLease, size: number, keeper: WindowKeeper) {
    this.mailbox = mailbox;
    this.#size = size;
    this.#keeper = keeper;
  }

  /** How many deliveries it has room for. */
  get room(): number {
    return this.#size - this.#held.size;
  }

  get held(): HeldDelivery[] {
    return [...this.#held.values()].map(({ held }) => held);
  }

  /** Counts what the stream is about to send. */
  add({ mailbox, deliveries }: Received): void {
    const nowMs = performance.now();
    for (const { sequence, holdNumber, holdExpireTime } of deliveries) {
      const held = { sequence, holdNumber, window: this };
      this.#held.set(sequence, { held, endMs: nowMs + remainingMs(holdExpireTime, mailbox.now) });
      this.#keeper.added(held);
    }
  }

  /** Resolves when there is room. Rejects when the signal is aborted. Costs no query before something has happened. */
  async whenRoom(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.room > 0) {
      return;
    }
    const waiting = Promise.withResolvers<void>();
    const abort = () => waiting.reject(signal.reason);
    signal.addEventListener("abort", abort);
    this.#waiting = waiting;
    this.#keeper.filled(this);
    this.#watchFirst();
    try {
      await waiting.promise;
    } finally {
      signal.removeEventListener("abort", abort);
      this.#waiting = undefined;
      this.#timer?.cancel();
      this.#keeper.opened(this);
    }
  }

  /** A delivery does not count any more. */
  remove(delivery: DeliveryName): void {
    const known = this.#held.get(delivery.sequence);
    if (known?.held.holdNumber === delivery.holdNumber) {
      this.#held.delete(delivery.sequence);
      this.#keeper.removed(known.held);
      this.#waiting?.resolve();
    }
  }

  /** A delivery was found held for so long. */
  confirm({ sequence, holdNumber }: DeliveryName, remaining: number): void {
    const known = this.#held.get(sequence);
    if (known?.held.holdNumber === holdNumber) {
      known.endMs = performance.now() + remaining;
    }
  }

  /** Looks again when the next hold is over. Called when all were confirmed. */
  watchNext(): void {
    if (this.#waiting !== undefined) {
      this.#watchFirst();
    }
  }

  /** The stream is over: what it holds stays held until it is settled or its time is over. */
  close(): void {
    for (const { held } of this.#held.values()) {
      this.#keeper.removed(held);
    }
    this.#held.clear();
  }

  #watchFirst(): void {
    const endMs = Math.min(...[...this.#held.values()].map((entry) => entry.endMs));
    this.#timer?.cancel();
    this.#timer = new LongTimer(Math.max(0, endMs - performance.now()), () => this.#keeper.doubted(this));
  }
}

function remainingMs(end: PackedDelivery["holdExpireTime"], now: Received["mailbox"]["now"]): number {
  return Math.max(0, Math.ceil(Number(end - now) / 1000));
}
