/** The one error that callers are meant to see: a reason of the catalogue, a message that says what to do next, and its variable parts. */
import type { Reason } from "./error-catalog.ts";

/** What an error carries besides its reason and message. */
export interface LeaseholdErrorOptions {
  /** Every variable part of the message, by the names the catalogue gives. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** How long to wait before trying again, in milliseconds. Sent as RetryInfo and Retry-After. */
  readonly retryAfterMs?: number;
  /** The request's fields that break their rules. Sent as BadRequest. */
  readonly fieldViolations?: readonly FieldViolation[];
  /** What led to it. Logged, and never sent. */
  readonly cause?: unknown;
}

/** One field that breaks its rule. */
export interface FieldViolation {
  /** The field's path in the request, in proto names. */
  readonly field: string;
  /** What the field must be. */
  readonly description: string;
}

/** A failure with a place in the catalogue. Mapped to the wire in `server/error-to-wire.ts`, and nowhere else. */
export class LeaseholdError extends Error {
  override readonly name = "LeaseholdError";
  readonly reason: Reason;
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryAfterMs: number | undefined;
  readonly fieldViolations: readonly FieldViolation[];

  constructor(reason: Reason, message: string, options: LeaseholdErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.reason = reason;
    this.metadata = options.metadata ?? {};
    this.retryAfterMs = options.retryAfterMs;
    this.fieldViolations = options.fieldViolations ?? [];
  }
}

/** An INVALID_FIELD for one field. */
export function invalidField(field: string, description: string): LeaseholdError {
  return new LeaseholdError("INVALID_FIELD", `${field} ${description}.`, {
    metadata: { field },
    fieldViolations: [{ field, description }],
  });
}

/** An OUT_OF_BOUNDS for one number. */
export function outOfBounds(field: string, value: bigint, min: bigint, max: bigint): LeaseholdError {
  const description = `must be from ${min} to ${max}`;
  return new LeaseholdError("OUT_OF_BOUNDS", `${field} ${description}, and is ${value}.`, {
    metadata: { field, value: `${value}`, min: `${min}`, max: `${max}` },
    fieldViolations: [{ field, description }],
  });
}

/** The error of data that does not have the checksum sent with it. */
export function checksumMismatch(field: string): LeaseholdError {
  return new LeaseholdError("CHECKSUM_MISMATCH", `The data does not have the ${field} sent with it: send it again.`, {
    metadata: { field },
  });
}

/** The one NOT_FOUND: unknown and foreign things give the same bytes, so it takes nothing that could tell them apart. */
export function notFound(
  noun: "lease" | "handoff" | "key" | "account" | "token" | "claim" | "checkpoint" | "entry",
): LeaseholdError {
  return new LeaseholdError("NOT_FOUND", `There is no such ${noun}.`);
}
