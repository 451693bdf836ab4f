/** The refusals of a Storage lease's body. */
import { LeaseholdError } from "../errors/leasehold-error.ts";
import type { LeaseRow } from "../lease/lease-row.ts";

/** The error of data that does not follow what is stored. */
export function offsetMismatch(offset: bigint, storedOffset: bigint): LeaseholdError {
  return new LeaseholdError(
    "OFFSET_MISMATCH",
    `Data was sent for offset ${offset}, and ${storedOffset} is next: go on from there.`,
    {
      metadata: { stored_offset: `${storedOffset}` },
    },
  );
}

/** The error of a writer after which another has begun. */
export function superseded(storedOffset: bigint): LeaseholdError {
  return new LeaseholdError(
    "STREAM_SUPERSEDED",
    `A later upload took this one's place, and ${storedOffset} bytes are stored.`,
    {
      metadata: { stored_offset: `${storedOffset}` },
    },
  );
}

/** The error of a body that the lease has no room for. */
export function bodyTooLarge(lease: LeaseRow, bodyBytes: bigint): LeaseholdError {
  const { size_bytes } = lease;
  return new LeaseholdError(
    "BODY_TOO_LARGE",
    `The body is at least ${bodyBytes} bytes, and the lease has room for ${size_bytes}: finish it, or make a larger lease.`,
    { metadata: { limit: "size_bytes", limit_bytes: `${size_bytes}`, value_bytes: `${bodyBytes}` } },
  );
}
