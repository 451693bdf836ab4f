/** The state of one call from its headers to its end: deadline, stall, abort, and whether it was answered. */
import type { DescMethod } from "@bufbuild/protobuf";
import type { LeaseholdError } from "../errors/leasehold-error.ts";
import type { Call } from "./call.ts";
import { deadlineExceeded, hungUp, stalled } from "./call-failures.ts";
import { LongTimer } from "./long-timer.ts";
import { StallWatch } from "./stall-watch.ts";

/** Where a call came in. */
export type Door = "native" | "http";

/** What carries a call: a stream of one of the doors. */
export interface Wire {
  /** The caller's address, for the log. */
  readonly peer: string;
  /** Names and values of the request's headers, one after the other. */
  readonly rawHeaders: readonly string[];
  header(name: string): string | undefined;
  /** Sends the error if it can still be sent, and sees to it that the stream ends. Called at most once. */
  cut(error: LeaseholdError): void;
  /** Ends the stream without another word. */
  destroy(): void;
}

/** What a call is a call of. */
export interface CallTarget {
  readonly descriptor: DescMethod;
  readonly name: string;
  readonly servedWhileDraining: boolean;
}

/** Who hears of a call's progress. */
export interface CallObserver {
  /** The answer, or the error, is on its way. Called once. */
  answered(call: ActiveCall): void;
  /** Neither its stream nor its handler is left. Called once. */
  ended(call: ActiveCall): void;
}

/** A call under way. */
export class ActiveCall implements Call {
  readonly target: CallTarget;
  readonly door: Door;
  readonly stall: StallWatch;
  readonly startMs = performance.now();
  readonly #wire: Wire;
  readonly #observer: CallObserver;
  #deadline: LongTimer | undefined;
  #controller: AbortController | undefined;
  #interrupts: Set<(error: LeaseholdError) => void> | undefined;
  #failure: LeaseholdError | undefined;
  #answered = false;
  #closed = false;
  #endsWithDrain = false;
  #handlers = 0;

  constructor(target: CallTarget, door: Door, wire: Wire, observer: CallObserver, stallMs: number) {
    this.target = target;
    this.door = door;
    this.#wire = wire;
    this.#observer = observer;
    this.stall = new StallWatch(stallMs, () => this.#stalled(stallMs));
  }

  get method(): DescMethod {
    return this.target.descriptor;
  }

  get name(): string {
    return this.target.name;
  }

  get peer(): string {
    return this.#wire.peer;
  }

  /** The size of the request's headers, as RFC 9113, section 6.5.2, counts it. */
  get headerBytes(): number {
    const { rawHeaders } = this.#wire;
    return rawHeaders.reduce((bytes, text) => bytes + text.length, 16 * rawHeaders.length);
  }

  get bearer(): string | undefined {
    return /^Bearer +(\S+) *$/i.exec(this.#wire.header("authorization") ?? "")?.[1];
  }

  /** Made when it is first asked for: most calls end before anybody does. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#failure !== undefined) {
        this.#controller.abort(this.#failure);
      }
    }
    return this.#controller.signal;
  }

  get deadlineMs(): number | undefined {
    return this.#deadline?.remainingMs;
  }

  /** Why the call failed, if it did. */
  get failure(): LeaseholdError | undefined {
    return this.#failure;
  }

  header(name: string): string | undefined {
    return this.#wire.header(name);
  }

  /** Whether it has no end of its own. */
  get endsWithDrain(): boolean {
    return this.#endsWithDrain;
  }

  abort(error: LeaseholdError): void {
    this.fail(error);
  }

  endWithDrain(): void {
    this.#endsWithDrain = true;
  }

  /** Fails the call with DEADLINE after this time. */
  setDeadline(deadlineMs: number): void {
    this.#deadline = new LongTimer(deadlineMs, () => this.fail(deadlineExceeded(deadlineMs)));
  }

  /** Ends the call with an error. The first one counts, and none does after the answer. */
  fail(error: LeaseholdError): void {
    if (this.#failure !== undefined || this.#answered) {
      return;
    }
    this.#failure = error;
    this.#controller?.abort(error);
    for (const interrupt of this.#interrupts ?? []) {
      interrupt(error);
    }
    this.#wire.cut(error);
  }

  /** The promise's outcome, or the call's failure if that comes first. */
  interruptible<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure);
      }
      this.#interrupts ??= new Set();
      const interrupts = this.#interrupts.add(reject);
      promise.then(
        (value) => {
          interrupts.delete(reject);
          resolve(value);
        },
        (error: unknown) => {
          interrupts.delete(reject);
          reject(error);
        },
      );
    });
  }

  /** The answer, or the failure, was handed to the transport, or there is nobody to hand it to. */
  answered(): void {
    if (this.#answered) {
      return;
    }
    this.#answered = true;
    this.#deadline?.cancel();
    this.#observer.answered(this);
  }

  /** The stream is gone. If the call was not answered by then, its caller hung up. */
  closed(cause?: unknown): void {
    if (this.#closed) {
      return;
    }
    this.#closed = true;
    if (!this.#answered) {
      this.fail(hungUp(cause));
      this.answered();
    }
    this.stall.stop();
    this.#endIfOver();
  }

  /** A handler starts to work for the call. */
  enter(): void {
    this.#handlers += 1;
  }

  /** That handler is done, whatever became of the call. */
  leave(): void {
    this.#handlers -= 1;
    this.#endIfOver();
  }

  #stalled(stallMs: number): void {
    if (this.#answered) {
      this.#wire.destroy();
    } else {
      this.fail(stalled(stallMs));
    }
  }

  #endIfOver(): void {
    if (this.#closed && this.#handlers === 0) {
      this.#observer.ended(this);
    }
  }
}
