/** Those in one process who wait for messages of one mailbox: served together, in order of arrival. */
import { setImmediate as endOfTurn } from "node:timers/promises";
import type { Caller } from "../account/caller.ts";
import { LongTimer } from "../server/long-timer.ts";
import type { PackedDelivery } from "./delivery-packing.ts";
import type { Asker, FoundMailbox, Share, Taken } from "./receive-take.ts";

/** Somebody who receives. */
export interface Receiver {
  readonly caller: Caller;
  readonly holdMicros: bigint;
  /** How many it takes now. It is asked before each statement, and at least 1. */
  readonly wanted: () => number;
  /** Not aborted yet. Once it is, nothing is taken for it. */
  readonly signal: AbortSignal;
  /** How long it waits for the first message, in milliseconds. Undefined: as long as it takes. */
  readonly waitMs?: number | undefined;
  /** Called once, with the mailbox, when there is nothing for it yet and it begins to wait. */
  readonly onWait: (mailbox: FoundMailbox) => void;
}

/** What a receiver got. */
export interface Received {
  readonly mailbox: FoundMailbox;
  readonly deliveries: readonly PackedDelivery[];
}

/** What a lane needs of its surroundings. */
export interface LaneOptions {
  readonly take: (askers: readonly Asker[]) => Promise<Taken>;
  /** Buries what is exhausted, and tells whether there was anything. */
  readonly bury: () => Promise<boolean>;
  /** Gives back what was taken for a receiver that is gone. */
  readonly takeBack: (deliveries: readonly PackedDelivery[]) => void;
  /** Tells others that there is something after all. */
  readonly changed: () => void;
  /** Calls `wake` of this lane whenever the mailbox may have changed, until what it returns is called. */
  readonly listen: () => () => void;
  /** Calls `wake` of this lane after a time, unless what it returns is called. */
  readonly wakeLater: (delayMs: number) => () => void;
  /** Called when nobody waits any more. */
  readonly onEmpty: () => void;
}

/** How many are asked for in one statement. */
const mostAskers = 128;
/** How many of them may be such as have yet to be served, if older ones wait too. */
const mostNewcomers = 64;

/** A receiver in the lane. */
class Waiting {
  readonly receiver: Receiver;
  /** Whether it is answered by the next statement, even if there is nothing for it. */
  isLast: boolean;
  /** The mailbox as it was when there was nothing for it. */
  found: FoundMailbox | undefined;
  /** Whether a statement is under way for it, or is sent next. */
  isBeingServed = false;
  readonly #settled: PromiseWithResolvers<Received>;
  readonly #timer: LongTimer | undefined;
  readonly #abort: () => void;
  readonly #leave: (waiting: Waiting) => void;

  constructor(receiver: Receiver, leave: (waiting: Waiting) => void) {
    const { signal, waitMs } = receiver;
    this.receiver = receiver;
    this.isLast = waitMs === 0;
    this.#settled = Promise.withResolvers();
    this.#timer = waitMs === undefined || waitMs === 0 ? undefined : new LongTimer(waitMs, () => this.#timeOut());
    this.#abort = () => this.reject(signal.reason);
    this.#leave = leave;
    signal.addEventListener("abort", this.#abort);
  }

  get outcome(): Promise<Received> {
    return this.#settled.promise;
  }

  /** There is nothing for it yet. */
  wait(mailbox: FoundMailbox): void {
    if (this.found === undefined) {
      this.receiver.onWait(mailbox);
    }
    this.found = mailbox;
  }

  resolve(received: Received): void {
    this.#end();
    this.#settled.resolve(received);
  }

  reject(error: unknown): void {
    this.#end();
    this.#settled.reject(error);
  }

  /** A statement that is under way, or has yet to be sent for it, is waited for: it may have taken something. */
  #timeOut(): void {
    if (this.found === undefined || this.isBeingServed) {
      this.isLast = true;
    } else {
      this.resolve({ mailbox: this.found, deliveries: [] });
    }
  }

  #end(): void {
    this.#timer?.cancel();
    this.receiver.signal.removeEventListener("abort", this.#abort);
    this.#leave(this);
  }
}

/**
 * A statement is sent for each newcomer, since its key has to be judged, and whenever the mailbox may have changed. One
 * is under way at a time, for all: a drop that wakes a thousand costs one statement. None is sent while they wait.
 */
export class ReceiveLane {
  readonly #options: LaneOptions;
  /** In order of arrival. */
  readonly #waiting = new Set<Waiting>();
  /** For whom a statement has yet to be sent, or another one, since the last did not come to them. */
  readonly #newcomers = new Set<Waiting>();
  #hasChanged = false;
  #isServing = false;
  #stopListening: (() => void) | undefined;
  #cancelLater: (() => void) | undefined;

  constructor(options: LaneOptions) {
    this.#options = options;
  }

  /**
   * What there is for a receiver, or what comes for it later. No deliveries: it has waited for as long as it would.
   *
   * @throws LeaseholdError what the mailbox or the key refuses, or why the signal was aborted.
   */
  receive(receiver: Receiver): Promise<Received> {
    // Before it is looked for: what is dropped in between wakes.
    this.#stopListening ??= this.#options.listen();
    const waiting = new Waiting(receiver, (gone) => this.#remove(gone));
    this.#waiting.add(waiting);
    this.#newcomers.add(waiting);
    void this.#serve();
    return waiting.outcome;
  }

  /** The mailbox may have changed. */
  wake(): void {
    this.#hasChanged = true;
    void this.#serve();
  }

  async #serve(): Promise<void> {
    if (this.#isServing) {
      return;
    }
    this.#isServing = true;
    while (this.#newcomers.size > 0 || (this.#hasChanged && this.#waiting.size > 0)) {
      this.#hasChanged = false;
      await this.#serveBatch(this.#nextBatch());
      // Whoever was just answered and asks again is served with the others.
      await endOfTurn();
    }
    this.#isServing = false;
    this.#restIfEmpty();
  }

  /** The oldest, and newcomers. */
  #nextBatch(): Waiting[] {
    const newcomers = [...this.#newcomers].slice(0, mostNewcomers);
    const batch = new Set<Waiting>();
    for (const waiting of this.#waiting) {
      if (batch.size >= mostAskers - newcomers.length) {
        break;
      }
      batch.add(waiting);
    }
    for (const waiting of newcomers) {
      batch.add(waiting);
    }
    return [...batch];
  }

  async #serveBatch(batch: readonly Waiting[]): Promise<void> {
    for (const waiting of batch) {
      this.#newcomers.delete(waiting);
      waiting.isBeingServed = true;
    }
    try {
      const taken = await this.#options.take(batch.map(({ receiver }) => ({ ...receiver, wanted: receiver.wanted() })));
      for (const [index, waiting] of batch.entries()) {
        this.#deal(waiting, taken.shares[index]);
      }
      const hasBuried = taken.hasExhausted && (await this.#options.bury());
      for (const [index, waiting] of batch.entries()) {
        this.#dismiss(waiting, taken.shares[index], hasBuried);
      }
      this.#goOn(taken, hasBuried);
    } catch (error) {
      for (const waiting of batch) {
        waiting.reject(error);
      }
    }
  }

  /** Answers those for whom there is something, or a refusal. */
  #deal(waiting: Waiting, share: Share | undefined): void {
    if (share === undefined || "refusal" in share) {
      waiting.reject(share?.refusal);
    } else if (!this.#waiting.has(waiting)) {
      this.#options.takeBack(share.deliveries);
    } else if (share.deliveries.length > 0) {
      waiting.resolve(share);
    }
  }

  /**
   * Lets those wait for whom there is nothing, or sends them away. For whoever was passed over, or whose group may go on
   * after a burial, another statement is sent first.
   */
  #dismiss(waiting: Waiting, share: Share | undefined, hasBuried: boolean): void {
    if (share === undefined || "refusal" in share || !this.#waiting.has(waiting)) {
      return;
    }
    const isServedAgain = share.isPassedOver || hasBuried;
    waiting.isBeingServed = isServedAgain;
    if (isServedAgain) {
      this.#newcomers.add(waiting);
    } else if (waiting.isLast) {
      waiting.resolve(share);
      return;
    }
    waiting.wait(share.mailbox);
  }

  /** Sees to what the statement left, and to when there is something again. */
  #goOn(taken: Taken, hasBuried: boolean): void {
    this.#cancelLater?.();
    this.#cancelLater =
      taken.nextVisibleMs === undefined || this.#waiting.size === 0
        ? undefined
        : this.#options.wakeLater(taken.nextVisibleMs);
    if (taken.hasLeft) {
      this.#options.changed();
    }
    if (taken.mayHaveMore || hasBuried) {
      this.#hasChanged = true;
    }
  }

  #remove(waiting: Waiting): void {
    this.#newcomers.delete(waiting);
    this.#waiting.delete(waiting);
    this.#restIfEmpty();
  }

  #restIfEmpty(): void {
    if (this.#waiting.size === 0 && !this.#isServing && this.#stopListening !== undefined) {
      this.#stopListening();
      this.#stopListening = undefined;
      this.#cancelLater?.();
      this.#cancelLater = undefined;
      this.#options.onEmpty();
    }
  }
}
