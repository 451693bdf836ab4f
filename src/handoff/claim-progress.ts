/** How far a claim's stream has come: recorded every few seconds, kept within what it may send, and cut when it may not go on. */
import { Claim_State } from "#gen/leasehold/v1/handoff_pb.js";
import type { DatabaseTime } from "../database/row-types.ts";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import type { LeaseRow } from "../lease/lease-row.ts";
import type { Call } from "../server/call.ts";
import { LongTimer } from "../server/long-timer.ts";
import { aheadOf } from "./claim-allowance.ts";
import { holdEnded } from "./claim-refusals.ts";
import type { Claims, OpenClaim } from "./claims.ts";
import type { ClaimRow } from "./handoff-row.ts";

/**
 * How often a stream at least looks whether it may go on, in milliseconds: one whose lease ended, whose token was revoked
 * or whose claim was taken up elsewhere is cut within 5 s.
 */
const longestIntervalMs = 4_000;

/** Watches over one stream, from its first piece until `stop`. */
export class ClaimProgress {
  readonly open: OpenClaim;
  readonly #claims: Claims;
  readonly #call: Call;
  readonly #forget: () => void;
  readonly #interval: NodeJS.Timeout;
  #holdTimer: LongTimer;
  /** How far pieces were handed to the transport, the one that is on its way included. */
  #sentOffset: bigint;
  #recordedOffset: bigint;
  #allowedOffset: bigint;
  #isDelivered: boolean;
  #isLooking = false;
  #isOver = false;
  #last: Promise<void> = Promise.resolve();
  #failure: { readonly error: unknown } | undefined;

  constructor(open: OpenClaim, claims: Claims, call: Call) {
    this.open = open;
    this.#claims = claims;
    this.#call = call;
    this.#sentOffset = open.offset;
    this.#recordedOffset = open.offset;
    this.#allowedOffset = open.allowedOffset;
    this.#isDelivered = open.claim.state === Claim_State.DELIVERED;
    this.#holdTimer = this.#timeHold(open.lease, open.claim, open.now);
    this.#interval = setInterval(() => this.#look(), Math.min(longestIntervalMs, (claims.holdSeconds * 1000) / 3));
    this.#forget = claims.run(this);
  }

  /**
   * Resolves when a piece that ends at an offset may be handed to the transport. The slot is spent by then if it is the
   * last.
   */
  async send(endOffset: bigint): Promise<void> {
    const isLast = endOffset === this.open.content.totalBytes;
    this.#requireGoingOn();
    while (endOffset > this.#allowedOffset || (isLast && !this.#isDelivered)) {
      await (endOffset > this.#allowedOffset ? this.#allow(endOffset) : this.deliver());
    }
    // Nothing is awaited between the last look at what is allowed and this, so that `record` cannot give it back.
    this.#sentOffset = endOffset;
  }

  /** Spends the claim's slot, unless it was spent before or the call has ended. */
  async deliver(): Promise<void> {
    if (this.#isDelivered) {
      return;
    }
    await this.#last;
    this.#requireGoingOn();
    await this.#claims.deliver(this.open);
    this.#isDelivered = true;
  }

  /** Refuses to let a stream look whole that ended early. */
  requireWhole(): void {
    const { totalBytes } = this.open.content;
    if (this.#sentOffset !== totalBytes) {
      throw new Error(`the content of a claim ended at ${this.#sentOffset} of ${totalBytes} bytes`);
    }
  }

  /** Records how far the stream has come, and gives back what was counted and not sent. */
  async record(): Promise<void> {
    try {
      await this.#advance(() => this.#sentOffset - this.#allowedOffset);
    } catch (error) {
      // The claim is over or taken up elsewhere, or the database is away: it stays as far as it was recorded before.
      if (!(error instanceof LeaseholdError)) {
        this.#failure = { error };
      }
    }
  }

  /** Ends the stream while it runs, even if its peer takes nothing. */
  cut(error: LeaseholdError): void {
    this.#call.abort(error);
  }

  /** Ends the stream. One that broke says how far it came. */
  async stop(): Promise<void> {
    this.#isOver = true;
    clearInterval(this.#interval);
    this.#holdTimer.cancel();
    if (this.#sentOffset !== this.open.content.totalBytes) {
      await this.record();
    }
    this.#forget();
    if (this.#failure !== undefined) {
      throw this.#failure.error;
    }
  }

  /** Throws what the call has ended with, so that nothing is sent or spent for it. */
  #requireGoingOn(): void {
    this.#call.signal.throwIfAborted();
    if (this.#failure !== undefined) {
      throw this.#failure.error;
    }
  }

  async #allow(endOffset: bigint): Promise<void> {
    await this.#advance(() => {
      const isAllowed = endOffset <= this.#allowedOffset;
      return isAllowed ? 0n : aheadOf(this.open.content.totalBytes - this.#allowedOffset);
    });
  }

  /** One at a time, so that each is judged by what the one before has left. */
  #advance(moreBytes: () => bigint): Promise<void> {
    const next = this.#last.catch(() => undefined).then(() => this.#advanceBy(moreBytes()));
    this.#last = next;
    return next;
  }

  async #advanceBy(moreBytes: bigint): Promise<void> {
    const deliveredBytes = this.#sentOffset;
    const hasMoved = deliveredBytes !== this.#recordedOffset;
    this.#allowedOffset += moreBytes < 0n ? moreBytes : 0n;
    const found = await this.#claims.advance(this.open, { deliveredBytes, moreBytes, hasMoved });
    this.#allowedOffset += moreBytes > 0n ? moreBytes : 0n;
    this.#recordedOffset = deliveredBytes;
    if (!this.#isOver) {
      this.#holdTimer.cancel();
      this.#holdTimer = this.#timeHold(found, found.claim, found.now);
    }
  }

  /** Looks whether the stream may go on, unless an earlier look is not over. */
  #look(): void {
    if (this.#isLooking) {
      return;
    }
    this.#isLooking = true;
    this.#advance(() => 0n)
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#isLooking = false;
      });
  }

  /** What is not for the caller's eyes is thrown by the next `send`, and becomes a fault of the server there. */
  #fail(error: unknown): void {
    if (!(error instanceof LeaseholdError)) {
      this.#failure = { error };
    } else if (!this.#isOver) {
      this.cut(error);
    }
  }

  #timeHold(lease: LeaseRow, claim: ClaimRow, now: DatabaseTime): LongTimer {
    const remainingMs = Math.max(0, Number((claim.hold_expire_time - now) / 1000n));
    return new LongTimer(remainingMs, () => this.cut(holdEnded(lease, this.open.handoff, claim)));
  }
}
