/** Range, Content-Range and Repr-Digest: the headers by which plain HTTP moves parts of bodies and checks the whole. */
import { parse as parseRangeHeader } from "range-parser";
import { invalidField, LeaseholdError } from "../errors/leasehold-error.ts";

/** What a request's Content-Range says. */
export interface ByteRange {
  readonly first: bigint;
  readonly last: bigint;
  /** The whole body's length; undefined for `*`. */
  readonly total: bigint | undefined;
}

/**
 * Reads `bytes N-M/T` or `bytes N-M/*` (RFC 9110, section 14.4). Undefined if there is none.
 *
 * @throws LeaseholdError INVALID_FIELD.
 */
export function parseContentRange(header: string | undefined): ByteRange | undefined {
  if (header === undefined) {
    return undefined;
  }
  const parts = /^bytes (\d{1,18})-(\d{1,18})\/(\d{1,18}|\*)$/.exec(header);
  const first = BigInt(parts?.[1] ?? -1);
  const last = BigInt(parts?.[2] ?? -1);
  const total = parts?.[3] === undefined || parts[3] === "*" ? undefined : BigInt(parts[3]);
  if (parts === null || last < first || (total !== undefined && last >= total)) {
    throw invalidField(
      "content-range",
      "must be bytes FIRST-LAST/TOTAL, or bytes FIRST-LAST/* if the total is not known yet",
    );
  }
  return { first, last, total };
}

/** What range-parser says of a header that is well formed, and of which no range lies in the body. */
const unsatisfiable = 2;

/** The part of a body to send: from start up to, and without, end. */
export interface SentRange {
  readonly start: bigint;
  readonly end: bigint;
  /** Whether the request asked for a range, and 206 is the answer. */
  readonly partial: boolean;
}

/**
 * The part of a body that a Range header asks for. A header of another unit, or with several ranges, is ignored, as RFC
 * 9110, section 14.2, allows.
 *
 * @throws LeaseholdError RANGE_PAST_END.
 */
export function parseRange(header: string | undefined, contentBytes: bigint): SentRange {
  const whole = { start: 0n, end: contentBytes, partial: false };
  if (header === undefined) {
    return whole;
  }
  const parsed = parseRangeHeader(Number(contentBytes), header);
  if (parsed.type === "bytes" && parsed.code === unsatisfiable) {
    throw new LeaseholdError("RANGE_PAST_END", `The range starts past the end at ${contentBytes}.`, {
      metadata: { content_bytes: `${contentBytes}` },
    });
  }
  const [range] = parsed.type === "bytes" && parsed.code === 0 && parsed.ranges.length === 1 ? parsed.ranges : [];
  return range === undefined ? whole : { start: BigInt(range.start), end: BigInt(range.end) + 1n, partial: true };
}

/**
 * Where `Range: bytes=N-` starts, for a resource whose length is not known yet. 0 if there is none.
 *
 * @throws LeaseholdError INVALID_FIELD for any other form.
 */
export function parseResumeOffset(header: string | undefined): bigint {
  if (header === undefined) {
    return 0n;
  }
  const offset = /^bytes=(\d{1,18})-$/.exec(header)?.[1];
  if (offset === undefined) {
    throw invalidField("range", "must be bytes=OFFSET-");
  }
  return BigInt(offset);
}

/**
 * The SHA-256 in a Repr-Digest header (RFC 9530, section 3). Empty if there is no header, or it has other digests only.
 *
 * @throws LeaseholdError INVALID_FIELD if there is one that is not 32 bytes in base64.
 */
export function parseReprDigest(header: string | undefined): Uint8Array {
  const encoded = /(?:^|,)\s*sha-256=:([^:]*):/i.exec(header ?? "")?.[1];
  if (encoded === undefined) {
    return new Uint8Array();
  }
  const digest = Buffer.from(encoded, "base64");
  if (digest.length !== 32) {
    throw invalidField("repr-digest", "must be sha-256=:BASE64 OF 32 BYTES:");
  }
  return digest;
}
