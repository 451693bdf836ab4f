/** What makes a call safe to repeat: a record of its request_id, scoped to owner and RPC, with a keyed digest per field. */
import { hash, timingSafeEqual } from "node:crypto";
import type { DescField, DescMessage, MessageShape } from "@bufbuild/protobuf";
import { isReflectMessage, type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { LeaseholdError } from "../errors/leasehold-error.ts";

/** The RPC a record belongs to, as stored. Numbers are never reused. */
export const idempotencyScope = {
  createLease: 1,
  issueHandoff: 2,
  claimHandoff: 3,
  createApiKey: 4,
  createAccount: 5,
  creditAccount: 6,
  dropMessage: 7,
  putCheckpoint: 8,
  rotateDropToken: 9,
  setEntry: 10,
  deleteEntry: 11,
  appendToEntry: 12,
  incrementEntry: 13,
} as const;

/**
 * The RPCs whose records are kept for requestWindowSeconds: those of a lease's content. The index over them,
 * idempotency_windowed, holds these and all later ones.
 */
export const windowedScopes: readonly number[] = [
  idempotencyScope.dropMessage,
  idempotencyScope.putCheckpoint,
  idempotencyScope.setEntry,
  idempotencyScope.deleteEntry,
  idempotencyScope.appendToEntry,
  idempotencyScope.incrementEntry,
];

/** How long the request_id of a drop, a put or a change of an entry is remembered, in seconds. Those of other calls live as long as what they made. */
export const requestWindowSeconds = 600;

/** The owner of records that no account owns: those of the operator's calls. */
export const operatorOwnerId = "00000000-0000-0000-0000-000000000000";

const digestBytes = 8;
const entryBytes = 4 + digestBytes;

/**
 * Digests of the fields of a request that are set, request_id apart: for each, its number path packed in 4 bytes and 8
 * bytes of a keyed hash of its canonical value. Keyed, so that a stored digest does not confirm a guessed content.
 *
 * The hash is SHA-512/256 with the key in front: it keeps half of its state to itself, so that it cannot be extended
 * and needs no second pass. Measured for a CreateLeaseRequest of nine values: 7 µs of CPU, and 16 with HMAC-SHA-256.
 */
export function digestRequest<Desc extends DescMessage>(
  serverKey: Uint8Array,
  descriptor: Desc,
  request: MessageShape<Desc>,
  skip: readonly string[] = [],
): Buffer {
  const key = Buffer.from(serverKey).toString("hex");
  let entries = "";
  collect(reflect(descriptor, request, false), 0, ["request_id", ...skip], (path, value) => {
    const packedPath = path.toString(16).padStart(8, "0");
    const digest = hash("sha512-256", `${key}idempotency\0${packedPath}\0${value}`, "hex");
    entries += packedPath + digest.slice(0, 2 * digestBytes);
  });
  return Buffer.from(entries, "hex");
}

/**
 * Checks that a repeated call has the content of the first.
 *
 * @throws LeaseholdError REQUEST_ID_REUSED that names the first field that differs.
 */
export function requireSameRequest<Desc extends DescMessage>(descriptor: Desc, first: Buffer, repeated: Buffer): void {
  if (isSameRequest(first, repeated)) {
    return;
  }
  const firstByPath = byPath(first);
  const repeatedByPath = byPath(repeated);
  const paths = [...new Set([...firstByPath.keys(), ...repeatedByPath.keys()])].sort((a, b) => a - b);
  const differing = paths.find((path) => firstByPath.get(path) !== repeatedByPath.get(path)) ?? 0;
  throw requestIdReused(nameOf(descriptor, differing));
}

/** Whether a repeated call has the content of the first, for callers who are not told which field differs. */
export function isSameRequest(first: Buffer, repeated: Buffer): boolean {
  return first.length === repeated.length && timingSafeEqual(first, repeated);
}

/** The refusal of a request_id that was used before with another value of a field. */
export function requestIdReused(field: string): LeaseholdError {
  const message = `The request_id was used before with another ${field}: use a new one.`;
  return new LeaseholdError("REQUEST_ID_REUSED", message, { metadata: { field } });
}

function byPath(digests: Buffer): Map<number, string> {
  const entries = new Map<number, string>();
  for (let at = 0; at < digests.length; at += entryBytes) {
    entries.set(digests.readUInt32BE(at), digests.toString("hex", at + 4, at + entryBytes));
  }
  return entries;
}

/** Visits every set leaf in order of its number path: two levels of field numbers, 16 bits each. */
function collect(
  message: ReflectMessage,
  prefix: number,
  skip: readonly string[],
  visit: (path: number, value: string) => void,
): void {
  for (const field of message.sortedFields) {
    if (skip.includes(field.name) || !message.isSet(field)) {
      continue;
    }
    const path = prefix * 0x10000 + field.number;
    if (field.fieldKind === "message" && prefix === 0 && !field.message.typeName.startsWith("google.protobuf.")) {
      visit(path, "set");
      collect(message.get(field), field.number, skip, visit);
    } else {
      const canonical = canonicalField(message, field);
      visit(path, typeof canonical === "string" ? canonical : JSON.stringify(canonical));
    }
  }
}

/** A value that has one form as JSON for each content: entries of a map by key, fields of a message by number. */
type Canonical = string | readonly Canonical[];

function canonicalField(message: ReflectMessage, field: DescField): Canonical {
  switch (field.fieldKind) {
    case "scalar":
    case "enum":
    case "message":
      return canonicalValue(message.get(field));
    case "list":
      return Array.from(message.get(field), canonicalValue);
    case "map":
      return Array.from(message.get(field), ([key, value]) => [String(key), canonicalValue(value)] as const).sort(
        ([a], [b]) => (a < b ? -1 : 1),
      );
  }
}

function canonicalValue(value: unknown): Canonical {
  if (isReflectMessage(value)) {
    return value.sortedFields
      .filter((field) => value.isSet(field))
      .map((field) => [String(field.number), canonicalField(value, field)]);
  }
  return value instanceof Uint8Array ? Buffer.from(value).toString("base64") : String(value);
}

function nameOf(descriptor: DescMessage, path: number): string {
  const outer = descriptor.fields.find((field) => field.number === (path >>> 16 || path));
  const inner = path > 0xffff ? outer?.message?.fields.find((field) => field.number === (path & 0xffff)) : undefined;
  return [outer?.name, inner?.name].filter((name) => name !== undefined).join(".");
}
