/** Ids: a prefix and a UUIDv7 in Crockford base32, lower case. Stored as `uuid`, so that they sort by time. */
import { randomFillSync } from "node:crypto";

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
const idDigits = 26;

declare const idKind: unique symbol;

/** A UUID in its usual text form, lower case, of a thing of one kind. */
export type Uuid<Kind extends string> = string & { readonly [idKind]: Kind };

export type AccountUuid = Uuid<"acc">;
export type KeyUuid = Uuid<"key">;
export type LeaseUuid = Uuid<"lse">;
export type HandoffUuid = Uuid<"hnd">;
export type ClaimUuid = Uuid<"clm">;
export type EntryUuid = Uuid<"ent">;
export type TransactionUuid = Uuid<"txn">;
export type MessageUuid = Uuid<"msg">;
export type RunUuid = Uuid<"run">;

/** The prefixes of public ids. */
export type IdKind = "acc" | "key" | "lse" | "hnd" | "clm" | "ent" | "txn" | "msg" | "run";

let lastMs = 0;
let lastCount = 0;
const scratch = Buffer.alloc(16);

/**
 * A new UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, a 12-bit count of the ids of that millisecond,
 * and 62 random bits. Those of one process ascend, also within a millisecond and when the host's clock is set back.
 */
export function newUuid<Kind extends IdKind>(): Uuid<Kind> {
  const nowMs = Date.now();
  if (nowMs > lastMs) {
    lastMs = nowMs;
    lastCount = 0;
  } else {
    lastCount = (lastCount + 1) & 0xfff;
    lastMs += lastCount === 0 ? 1 : 0;
  }
  scratch.writeUIntBE(lastMs, 0, 6);
  scratch.writeUInt16BE(0x7000 | lastCount, 6);
  fillRandom(scratch, 8);
  scratch[8] = 0x80 | ((scratch[8] ?? 0) & 0x3f);
  return withHyphens(scratch.toString("hex")) as Uuid<Kind>;
}

/** The public form of a UUID: `lse_` and 26 characters, of which the first stands for 3 bits and the rest for 5. */
export function formatId<Kind extends IdKind>(kind: Kind, uuid: Uuid<Kind>): string {
  let text = `${kind}_`;
  let bits = 0;
  let bitCount = 2;
  for (let place = 0; place < uuid.length; place++) {
    const digit = hexValues[uuid.charCodeAt(place)] ?? noValue;
    if (digit === noValue) {
      continue;
    }
    bits = (bits << 4) | digit;
    bitCount += 4;
    if (bitCount >= 5) {
      bitCount -= 5;
      text += alphabet[bits >>> bitCount];
      bits &= (1 << bitCount) - 1;
    }
  }
  return text;
}

/** The UUID of a public id, or undefined if it is not a well-formed id of this kind. */
export function parseId<Kind extends IdKind>(kind: Kind, id: string): Uuid<Kind> | undefined {
  const start = kind.length + 1;
  if (id.length !== start + idDigits || !id.startsWith(`${kind}_`) || (idValues[id.charCodeAt(start)] ?? noValue) > 7) {
    return undefined;
  }
  let hex = "";
  let bits = 0;
  let bitCount = -2;
  for (let place = start; place < id.length; place++) {
    const digit = idValues[id.charCodeAt(place)] ?? noValue;
    if (digit === noValue) {
      return undefined;
    }
    bits = (bits << 5) | digit;
    bitCount += 5;
    while (bitCount >= 4) {
      bitCount -= 4;
      hex += hexDigits[bits >>> bitCount];
      bits &= (1 << bitCount) - 1;
    }
  }
  return withHyphens(hex) as Uuid<Kind>;
}

const hexDigits = "0123456789abcdef";
const noValue = 0xff;
const hexValues = valuesOf(hexDigits);
const idValues = valuesOf(alphabet);

/** The value of each digit of an alphabet by its ASCII code, and noValue for every other code. */
function valuesOf(digits: string): Uint8Array {
  const values = new Uint8Array(128).fill(noValue);
  for (let value = 0; value < digits.length; value++) {
    values[digits.charCodeAt(value)] = value;
  }
  return values;
}

const randomPool = Buffer.alloc(4096);
let randomPoolOffset = randomPool.length;

/** Fills the rest of a buffer. Drawn from the system 4 KiB at a time, since a draw costs more than the bytes. */
function fillRandom(bytes: Buffer, start: number): void {
  const length = bytes.length - start;
  if (randomPoolOffset + length > randomPool.length) {
    randomFillSync(randomPool);
    randomPoolOffset = 0;
  }
  randomPool.copy(bytes, start, randomPoolOffset, randomPoolOffset + length);
  randomPoolOffset += length;
}

function withHyphens(hex: string): string {
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
