/** What a Scratchpad lease is measured by, and what it keeps sealed in its row. */
import type { ScratchpadSpec } from "#gen/leasehold/v1/scratchpad_pb.js";

/** The sealed details. */
export interface SealedScratchpad {
  /** The largest value of an entry. */
  readonly maxEntryBytes: number;
}

/** What an entry takes of size_bytes beside its key and its value. */
export const entryOverheadBytes = 256;
/** What each append to an entry takes of size_bytes beside its bytes. */
export const appendOverheadBytes = 128;
/** Of how many appends an entry is gathered into one value: whoever reads it opens each. */
export const longAppends = 1_000;
/** The largest max_entry_bytes. */
export const maxEntryBytesLimit = 1_048_576;
/** How many entries that are gone a lease can still tell its watchers of. */
export const rememberedDeletions = 1_000;

/** The limits of a request, with what is unset filled in. */
export function specifiedScratchpad(spec: ScratchpadSpec, sizeBytes: bigint): SealedScratchpad {
  const roomyBytes = sizeBytes < BigInt(maxEntryBytesLimit) ? Number(sizeBytes) : maxEntryBytesLimit;
  return { maxEntryBytes: spec.maxEntryBytes || roomyBytes };
}

/** Packs details for sealing. */
export function packScratchpad(details: SealedScratchpad): Uint8Array {
  return Buffer.from(JSON.stringify(details));
}

/** Unpacks opened details. */
export function unpackScratchpad(packed: Uint8Array): SealedScratchpad {
  const details: unknown = JSON.parse(Buffer.from(packed).toString("utf8"));
  return details as SealedScratchpad;
}
