/** How the values of entries are sealed in their rows, and opened again. */
import { randomUUID } from "node:crypto";
import { open, type SealContext, seal, sealOverheadBytes } from "../content/sealing.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import type { ValueColumns } from "./entry-row.ts";

/** A value, or a piece of one, as it is stored. */
export interface SealedValue {
  /** What the seal is bound to. */
  readonly bodyId: string;
  /** The size of what is sealed. */
  readonly bodyBytes: number;
  readonly sealed: Buffer;
}

/** Seals a value, or what is appended to one, under its lease's key. */
export function sealValue(seals: LeaseSeals, key: Uint8Array, leaseId: LeaseUuid, value: Uint8Array): SealedValue {
  const bodyId = randomUUID();
  return { bodyId, bodyBytes: value.length, sealed: seal(key, value, contextOf(seals, leaseId, bodyId)) };
}

/** What stands for a value where there is none. */
export function noValue(): SealedValue {
  return { bodyId: randomUUID(), bodyBytes: 0, sealed: Buffer.alloc(0) };
}

/**
 * Opens an entry's value: what was set, and what was appended to it, in order.
 *
 * @throws ContentCorruptError for anything that was not sealed for this place.
 */
export function openValue(seals: LeaseSeals, key: Uint8Array, leaseId: LeaseUuid, row: ValueColumns): Buffer {
  const base = open(key, row.sealed, contextOf(seals, leaseId, row.body_id));
  const appended = openAppends(seals, key, leaseId, row);
  return appended.length === 0 ? base : Buffer.concat([base, ...appended]);
}

/** Opens the pieces that a row has of an entry's appends, in order. */
export function openAppends(
  seals: LeaseSeals,
  key: Uint8Array,
  leaseId: LeaseUuid,
  row: Pick<ValueColumns, "append_ids" | "append_bytes" | "sealed_appends">,
): Buffer[] {
  const { append_ids, append_bytes, sealed_appends } = row;
  if (append_ids === null || append_bytes === null || sealed_appends === null) {
    return [];
  }
  let at = 0;
  return append_ids.map((bodyId, index) => {
    const end = at + (append_bytes[index] ?? 0) + sealOverheadBytes;
    const piece = open(key, sealed_appends.subarray(at, end), contextOf(seals, leaseId, bodyId));
    at = end;
    return piece;
  });
}

/** Seals what an increment answered, for a repeat of it. */
export function sealAnswer(
  seals: LeaseSeals,
  key: Uint8Array,
  leaseId: LeaseUuid,
  requestId: string,
  value: bigint,
): Buffer {
  const answer = Buffer.alloc(8);
  answer.writeBigInt64BE(value);
  return seal(key, answer, answerContext(seals, leaseId, requestId));
}

/** Opens what sealAnswer made. */
export function openAnswer(
  seals: LeaseSeals,
  key: Uint8Array,
  leaseId: LeaseUuid,
  requestId: string,
  sealed: Uint8Array,
): bigint {
  return open(key, sealed, answerContext(seals, leaseId, requestId)).readBigInt64BE();
}

function answerContext(seals: LeaseSeals, leaseId: LeaseUuid, requestId: string): SealContext {
  return seals.context(leaseId, { kind: "entry_answer", objectId: requestId, partIndex: 0, final: true });
}

function contextOf(seals: LeaseSeals, leaseId: LeaseUuid, bodyId: string): SealContext {
  return seals.context(leaseId, { kind: "entry", objectId: bodyId, partIndex: 0, final: true });
}
