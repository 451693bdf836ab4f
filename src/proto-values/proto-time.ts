/** Times and durations between the database and proto messages. */
import { create } from "@bufbuild/protobuf";
import { type Duration, DurationSchema, type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";
import type { DatabaseTime } from "../database/row-types.ts";
import { invalidField } from "../errors/leasehold-error.ts";

/** A database time as a Timestamp; undefined for none. */
export function toTimestamp(time: DatabaseTime): Timestamp;
export function toTimestamp(time: DatabaseTime | null): Timestamp | undefined;
export function toTimestamp(time: DatabaseTime | null): Timestamp | undefined {
  if (time === null) {
    return undefined;
  }
  const seconds = time / 1_000_000n;
  return create(TimestampSchema, { seconds, nanos: Number(time - seconds * 1_000_000n) * 1000 });
}

/** Whole seconds as a Duration. */
export function toDuration(seconds: bigint): Duration {
  return create(DurationSchema, { seconds });
}

/**
 * The whole seconds of a Duration; undefined if it is unset.
 *
 * @throws LeaseholdError INVALID_FIELD if it has a fraction.
 */
export function wholeSeconds(field: string, duration: Duration): bigint;
export function wholeSeconds(field: string, duration: Duration | undefined): bigint | undefined;
export function wholeSeconds(field: string, duration: Duration | undefined): bigint | undefined {
  if (duration !== undefined && duration.nanos !== 0) {
    throw invalidField(field, "must be whole seconds");
  }
  return duration?.seconds;
}

/** A Duration in microseconds, rounded up; undefined if it is unset. */
export function microsOf(duration: Duration): bigint;
export function microsOf(duration: Duration | undefined): bigint | undefined;
export function microsOf(duration: Duration | undefined): bigint | undefined {
  return duration === undefined ? undefined : duration.seconds * 1_000_000n + BigInt(Math.ceil(duration.nanos / 1000));
}
