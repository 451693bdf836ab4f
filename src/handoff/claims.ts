/** Claims: made or taken up again, confirmed, and settled when their holds are over. */
import { Handoff_State } from "#gen/leasehold/v1/handoff_pb.js";
import { GroupCommit } from "../database/group-commit.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { type LeaseholdError, notFound } from "../errors/leasehold-error.ts";
import type { ClaimUuid } from "../ids/ids.ts";
import type { LeaseDestroyer } from "../lease/lease-destroyer.ts";
import { endOf, type LeaseRow } from "../lease/lease-row.ts";
import type { LeaseContent, LeaseVariants } from "../lease/lease-variant.ts";
import { aheadBytes, aheadOf } from "./claim-allowance.ts";
import {
  type FoundClaim,
  notDelivered,
  refusedReservation,
  requireDone,
  requireUsed,
  severalItems,
  superseded,
} from "./claim-refusals.ts";
import { ClaimReservations, type Reservation, type ReservationsOptions } from "./claim-reservations.ts";
import type { ClaimStatementRow } from "./claim-statement-parts.ts";
import { advanceClaim, confirmClaim, deliverClaim, resumeClaim } from "./claim-statements.ts";
import { type ClaimRow, claimOf, type HandoffRow, handoffOf, stateOfRow } from "./handoff-row.ts";
import { findHandoff } from "./handoff-statements.ts";
import { findRequestedClaim, type ReservedRow } from "./reserve-claims-statement.ts";
import { settleHandoff } from "./settle-handoff-statement.ts";
import type { HandoffPlace, HeldHandoff, TokenHolders } from "./token-holders.ts";

/** What claims need. */
export interface ClaimsOptions extends ReservationsOptions {
  readonly holders: TokenHolders;
  readonly variants: LeaseVariants;
  readonly destroyer: LeaseDestroyer;
}

/** A redemption: a new claim, or one to go on with. */
export interface ClaimRequest {
  readonly token: string;
  readonly claimId: ClaimUuid | undefined;
  readonly offset: bigint;
  readonly requestId: string | undefined;
  /** Whether what carries the claim cannot tell items apart. */
  readonly needsOneItem?: boolean;
}

/** A claim that may be streamed from an offset. */
export interface OpenClaim {
  readonly held: HeldHandoff;
  readonly lease: LeaseRow;
  readonly handoff: HandoffRow;
  readonly claim: ClaimRow;
  readonly now: DatabaseTime;
  readonly content: LeaseContent;
  readonly offset: bigint;
  /** How far the stream may send before it must ask to send more. */
  readonly allowedOffset: bigint;
}

/** How far a stream has come. */
export interface StreamAdvance {
  readonly deliveredBytes: bigint;
  /** How much more is counted as sent; less than zero gives back what was counted and not sent. */
  readonly moreBytes: bigint;
  /** Whether anything was sent since the last time, which extends the hold. */
  readonly hasMoved: boolean;
}

/** A claim's stream that runs in this process. */
export interface RunningStream {
  readonly open: OpenClaim;
  /** Records how far it has come, so that the claim can be resumed from there. Never fails. */
  record(): Promise<void>;
  /** Ends it. */
  cut(error: LeaseholdError): void;
}

/** Redeems tokens. */
export class Claims {
  readonly #options: ClaimsOptions;
  readonly #reservations: ClaimReservations;
  readonly #settlements: GroupCommit<HandoffPlace, boolean>;
  readonly #running = new Map<ClaimUuid, RunningStream>();

  constructor(options: ClaimsOptions) {
    this.#options = options;
    this.#reservations = new ClaimReservations(options);
    this.#settlements = new GroupCommit({ serve: (_, items) => this.#settleOnce(items) });
  }

  get holdSeconds(): number {
    return this.#options.holdSeconds;
  }

  /**
   * Makes a claim, or takes one up again: the one named, or the one that the request_id made before.
   *
   * @throws LeaseholdError TOKEN_MALFORMED, NOT_FOUND, LEASE_ENDED, HANDOFF_EXHAUSTED, HANDOFF_EXPIRED, HANDOFF_REVOKED,
   * CLAIM_ENDED, HANDOFF_BUSY, OFFSET_MISMATCH, CLAIM_BYTES_EXCEEDED, VERSION_GONE, or WRONG_VARIANT if it needs one item.
   */
  async open(request: ClaimRequest): Promise<OpenClaim> {
    const held = await this.#options.holders.find(request.token);
    const requestId = request.requestId?.toLowerCase() ?? null;
    const variant = this.#options.variants.of(held);
    if (request.needsOneItem === true && !variant.hasOneItem) {
      throw severalItems();
    }
    if (request.claimId !== undefined) {
      return await this.#resume(held, request.claimId, request.offset);
    }
    if (request.offset !== 0n) {
      return await this.#openRequested(held, requestId, request.offset);
    }
    await variant.refresh?.(held.ownerId, held.leaseId);
    return await this.#openNew({ held, requestId, isLasting: variant.sizeOfVersion === undefined });
  }

  /**
   * Makes a delivered claim used. Succeeds again for a used one, also after the lease's end.
   *
   * @throws LeaseholdError as requireUsed does.
   */
  async confirm(token: string, claimId: ClaimUuid): Promise<{ claim: ClaimRow; leaseEnded: boolean }> {
    const { database, destroyer, holders } = this.#options;
    const held = await holders.find(token);
    const values = [held.ownerId, held.leaseId, held.handoffId, claimId];
    const [row] = await database.run(confirmClaim, values, { repeatable: true });
    const found = requireUsed(row);
    if (row?.ended === true) {
      await destroyer.destroy([found]);
    }
    if (row?.ended === true || endOf(found, found.now) !== undefined) {
      return { claim: found.claim, leaseEnded: true };
    }
    // The holds of the others may be over without anybody having said so: then this was the last.
    const leaseEnded = found.done && found.handoff.delete_on_claim && (await this.settle(held));
    return { claim: found.claim, leaseEnded };
  }

  /** Applies the ends of a handoff's overdue holds, and destroys the lease's content if that ended it: then it is true. */
  async settle(held: HandoffPlace): Promise<boolean> {
    return await this.#settlements.submit(held.handoffId, held);
  }

  /** Records how far a stream has come, lets it send more, and extends its hold. */
  async advance(open: OpenClaim, advance: StreamAdvance): Promise<FoundClaim> {
    const { deliveredBytes, moreBytes, hasMoved } = advance;
    const generation = open.claim.stream_generation;
    const values = [generation, deliveredBytes, moreBytes, this.#options.holdSeconds, hasMoved];
    const row = await this.#onClaim(advanceClaim, open.held, open.claim.claim_id, values);
    return requireDone(row, { generation, moreBytes });
  }

  /** Spends the claim's slot. Nothing is changed if it was delivered before. */
  async deliver(open: OpenClaim): Promise<void> {
    const generation = open.claim.stream_generation;
    const values = [generation, this.#options.holdSeconds];
    requireDone(await this.#onClaim(deliverClaim, open.held, open.claim.claim_id, values), { generation });
  }

  /** Makes a stream known to those who take its claim up again, until the returned function is called. */
  run(stream: RunningStream): () => void {
    const claimId = stream.open.claim.claim_id;
    this.#running.set(claimId, stream);
    return () => {
      if (this.#running.get(claimId) === stream) {
        this.#running.delete(claimId);
      }
    };
  }

  /** Reserves, or finds what the request_id reserved before. If every slot is held, holds that are over are settled once. */
  async #openNew(reservation: Reservation, maySettle = true): Promise<OpenClaim> {
    const { held, requestId } = reservation;
    const row = await this.#reservations.reserve(reservation);
    const claim = claimOf(row);
    if (claim !== undefined) {
      return await this.#opened(held, row, claim, 0n);
    }
    const before = await this.#findRequested(held, requestId);
    if (before !== undefined) {
      return await this.#resume(held, before, 0n);
    }
    if (!maySettle || stateOfRow(row) !== Handoff_State.BUSY) {
      throw refusedReservation(row);
    }
    await this.settle(held);
    return await this.#openNew(reservation, false);
  }

  /** Goes on from an offset with the claim that the request_id made before. */
  async #openRequested(held: HeldHandoff, requestId: string | null, offset: bigint): Promise<OpenClaim> {
    const before = await this.#findRequested(held, requestId);
    if (before !== undefined) {
      return await this.#resume(held, before, offset);
    }
    const [row] = await this.#options.database.run(findHandoff, [held.ownerId, held.handoffId]);
    if (row === undefined) {
      throw notFound("token");
    }
    throw stateOfRow(row) === Handoff_State.OPEN ? notDelivered(offset, 0n) : refusedReservation(row);
  }

  /**
   * Takes a claim up again. A stream of it that runs in this process says first how far it has come, and is cut once
   * there is another; one that runs elsewhere finds out when it next says so.
   */
  async #resume(held: HeldHandoff, claimId: ClaimUuid, offset: bigint): Promise<OpenClaim> {
    const running = this.#running.get(claimId);
    const earlier = running?.open.held.handoffId === held.handoffId ? running : undefined;
    await earlier?.record();
    const row = await this.#onClaim(resumeClaim, held, claimId, [offset, aheadBytes, this.#options.holdSeconds]);
    const found = requireDone(row, { offset, moreBytes: aheadBytes });
    earlier?.cut(superseded());
    return await this.#opened(held, found, found.claim, offset);
  }

  async #onClaim(
    statement: typeof advanceClaim,
    held: HeldHandoff,
    claimId: ClaimUuid,
    values: readonly unknown[],
  ): Promise<ClaimStatementRow | undefined> {
    const all = [held.ownerId, held.leaseId, held.handoffId, claimId, ...values];
    const [row] = await this.#options.database.run(statement, all, { repeatable: true });
    return row;
  }

  async #opened(
    held: HeldHandoff,
    row: ClaimStatementRow | ReservedRow,
    claim: ClaimRow,
    offset: bigint,
  ): Promise<OpenClaim> {
    const handoff = handoffOf(row);
    if (handoff === undefined) {
      throw notFound("token");
    }
    const content = await this.#options.variants.of(row).openContent(row, claim.content_version);
    const allowedOffset = offset + aheadOf(claim.content_bytes - offset);
    return { held, lease: row, handoff, claim, now: row.now, content, offset, allowedOffset };
  }

  /** One statement serves all who have asked since the last one began. */
  async #settleOnce(items: readonly HandoffPlace[]): Promise<readonly boolean[]> {
    const [held] = items;
    if (held === undefined) {
      return [];
    }
    const { database, destroyer } = this.#options;
    const values = [held.ownerId, held.leaseId, held.handoffId];
    const ended = await database.run(settleHandoff, values, { repeatable: true });
    if (ended.length > 0) {
      await destroyer.destroy(ended);
    }
    return items.map(() => ended.length > 0);
  }

  async #findRequested(held: HeldHandoff, requestId: string | null): Promise<ClaimUuid | undefined> {
    if (requestId === null) {
      return undefined;
    }
    const [row] = await this.#options.database.run(findRequestedClaim, [held.ownerId, held.handoffId, requestId]);
    return row?.claim_id;
  }
}
