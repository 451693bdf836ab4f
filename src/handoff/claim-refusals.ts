/** The errors of calls about claims, each in the order of the catalogue. */
import { Claim_State, Handoff_State } from "#gen/leasehold/v1/handoff_pb.js";
import { Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import type { DatabaseTime } from "../database/row-types.ts";
import { LeaseholdError, notFound } from "../errors/leasehold-error.ts";
import { endOf, type LeaseRow, leaseEnded, requireLive, requireState } from "../lease/lease-row.ts";
import { servedLimitOf } from "./claim-allowance.ts";
import type { ClaimStatementRow } from "./claim-statement-parts.ts";
import {
  type ClaimRow,
  claimOf,
  type HandoffColumns,
  type HandoffRow,
  handoffOf,
  handoffStateOf,
  timeText,
} from "./handoff-row.ts";

/** What a stream asked of its claim. */
export interface ClaimDemand {
  /** The stream's own generation. Undefined for one that takes the claim over. */
  readonly generation?: number;
  readonly offset?: bigint;
  readonly moreBytes?: bigint;
}

/** A statement's row with what it found. */
export type FoundClaim = ClaimStatementRow & { readonly claim: ClaimRow; readonly handoff: HandoffRow };

/**
 * Refuses what a statement about a claim did not do.
 *
 * @throws LeaseholdError NOT_FOUND, LEASE_ENDED, HANDOFF_EXPIRED, HANDOFF_REVOKED, CLAIM_ENDED, STREAM_SUPERSEDED,
 * OFFSET_MISMATCH or CLAIM_BYTES_EXCEEDED.
 */
export function requireDone(row: ClaimStatementRow | undefined, demand: ClaimDemand): FoundClaim {
  const { shown, claim, handoff } = requireClaim(row);
  if (shown.done) {
    return { ...shown, claim, handoff };
  }
  requireOpen(shown, handoff, claim);
  if (demand.generation !== undefined && demand.generation !== claim.stream_generation) {
    throw superseded();
  }
  if (demand.offset !== undefined && demand.offset > claim.delivered_bytes) {
    throw notDelivered(demand.offset, claim.delivered_bytes);
  }
  throw bytesExceeded(claim, demand.moreBytes ?? 0n);
}

/**
 * Refuses to confirm a claim that confirmClaim did not make used, and that was not used before.
 *
 * @throws LeaseholdError NOT_FOUND, LEASE_ENDED, HANDOFF_EXPIRED, HANDOFF_REVOKED, CLAIM_ENDED or CLAIM_NOT_DELIVERED.
 */
export function requireUsed(row: ClaimStatementRow | undefined): FoundClaim {
  const { shown, claim, handoff } = requireClaim(row);
  if (claim.state === Claim_State.USED) {
    return { ...shown, claim, handoff };
  }
  requireOpen(shown, handoff, claim);
  throw new LeaseholdError(
    "CLAIM_NOT_DELIVERED",
    `The claim was delivered up to ${claim.delivered_bytes} of ${claim.content_bytes} bytes: resume it first.`,
    { metadata: { delivered_bytes: `${claim.delivered_bytes}`, content_bytes: `${claim.content_bytes}` } },
  );
}

/** The error of a handoff that has no slot for a claim. */
export function refusedReservation(row: LeaseRow & HandoffColumns & { readonly now: DatabaseTime }): LeaseholdError {
  const handoff = handoffOf(row);
  if (handoff === undefined) {
    return notFound("token");
  }
  requireState(row, row.now, Lease_State.ACTIVE);
  const state = handoffStateOf(handoff, undefined, row.now);
  switch (state) {
    case Handoff_State.EXHAUSTED:
      return new LeaseholdError("HANDOFF_EXHAUSTED", "Every claim of the token is used: ask its issuer for another.");
    case Handoff_State.EXPIRED:
      return handoffExpired(handoff);
    case Handoff_State.REVOKED:
      return handoffRevoked(handoff);
    case Handoff_State.BUSY:
      return new LeaseholdError("HANDOFF_BUSY", "Every claim of the token is held just now: one may come free.", {
        retryAfterMs: busyRetryAfterMs,
      });
    default:
      throw new Error(`a handoff in state ${Handoff_State[state]} takes claims`);
  }
}

/** The error of a claim whose hold has run out: what it was cut to, if that is over too. */
export function holdEnded(lease: LeaseRow, handoff: HandoffRow, claim: ClaimRow): LeaseholdError {
  const leaseEnd = endOf(lease, claim.hold_expire_time);
  if (leaseEnd !== undefined) {
    return leaseEnded(leaseEnd);
  }
  return handoff.expire_time <= claim.hold_expire_time ? handoffExpired(handoff) : claimEnded(claim);
}

/** The error of a stream whose claim goes on with another. */
export function superseded(): LeaseholdError {
  return new LeaseholdError("STREAM_SUPERSEDED", "The claim was resumed by a later call, which took this one's place.");
}

/** The error of a claim over what cannot tell its items apart. Nothing is reserved for it. */
export function severalItems(): LeaseholdError {
  return new LeaseholdError(
    "WRONG_VARIANT",
    "The claim delivers several items, which plain HTTP cannot tell apart: use ClaimHandoff.",
  );
}

/** The error of an offset that lies behind what was delivered. */
export function notDelivered(offset: bigint, deliveredBytes: bigint): LeaseholdError {
  return new LeaseholdError(
    "OFFSET_MISMATCH",
    `The claim was delivered up to ${deliveredBytes}, and cannot go on from ${offset}.`,
    {
      metadata: { stored_offset: `${deliveredBytes}` },
    },
  );
}

function requireClaim(row: ClaimStatementRow | undefined) {
  const handoff = row === undefined ? undefined : handoffOf(row);
  if (row === undefined || handoff === undefined) {
    throw notFound("token");
  }
  const claim = claimOf(row);
  if (claim === undefined) {
    throw notFound("claim");
  }
  return { shown: row, handoff, claim };
}

function requireOpen(row: LeaseRow & { readonly now: DatabaseTime }, handoff: HandoffRow, claim: ClaimRow): void {
  requireLive(row, row.now);
  if (handoff.expire_time <= row.now) {
    throw handoffExpired(handoff);
  }
  if (handoff.revoke_time !== null) {
    throw handoffRevoked(handoff);
  }
  const isOpen = claim.state === Claim_State.HELD || claim.state === Claim_State.DELIVERED;
  if (!isOpen || claim.hold_expire_time <= row.now) {
    throw claimEnded(claim);
  }
}

function handoffExpired(handoff: HandoffRow): LeaseholdError {
  const expireTime = timeText(handoff.expire_time);
  return new LeaseholdError(
    "HANDOFF_EXPIRED",
    `The token's time was over at ${expireTime}: ask its issuer for another.`,
    {
      metadata: { expire_time: expireTime },
    },
  );
}

function handoffRevoked(handoff: HandoffRow): LeaseholdError {
  const revokeTime = handoff.revoke_time === null ? "" : timeText(handoff.revoke_time);
  return new LeaseholdError("HANDOFF_REVOKED", `The token's issuer stopped it at ${revokeTime}.`, {
    metadata: { revoke_time: revokeTime },
  });
}

function claimEnded(claim: ClaimRow): LeaseholdError {
  const state = `STATE_${Claim_State[claim.state]}`;
  const until = timeText(claim.hold_expire_time);
  return new LeaseholdError("CLAIM_ENDED", `The claim is over (${state}, held until ${until}): make a new one.`, {
    metadata: { claim_state: state },
  });
}

function bytesExceeded(claim: ClaimRow, moreBytes: bigint): LeaseholdError {
  const limit = servedLimitOf(claim.content_bytes);
  return new LeaseholdError(
    "CLAIM_BYTES_EXCEEDED",
    `The claim may be sent ${limit} bytes in all, and has used them up: make a new one.`,
    {
      metadata: { limit_bytes: `${limit}`, value_bytes: `${claim.served_bytes + moreBytes}` },
    },
  );
}

/** Claims come free when a hold ends, which the caller is not told: a guess that neither hurries nor sleeps. */
const busyRetryAfterMs = 2_000;
