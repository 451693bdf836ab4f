/** Why a write was refused, by what its statement found. */
import { maxSealsPerKey } from "../content/sealing.ts";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import { appendOverheadBytes, entryOverheadBytes } from "./scratchpad-details.ts";
import { type WriteOutcome, type WrittenRow, writeKinds } from "./write-entries-statement.ts";

/** What was asked for by a write, as its refusal tells it. */
export interface AskedWrite {
  readonly pad: { readonly max_entry_bytes: number };
  readonly kind: number;
  readonly expectedVersion: bigint | undefined;
  readonly value: { readonly bodyBytes: number };
}

/** What became of the write that a call was part of. */
export interface RefusedCall {
  readonly write: { readonly calls: readonly unknown[] };
  readonly row: WrittenRow;
}

/** The error of a write that a live lease of the caller's refused. */
export function refusedWrite(row: WrittenRow, write: AskedWrite): LeaseholdError {
  switch (row.outcome) {
    case "MISMATCH":
      return new LeaseholdError(
        "VERSION_MISMATCH",
        `The entry is at version ${row.version}, and ${write.expectedVersion} was expected: get it, and write again.`,
        { metadata: { expected_version: `${write.expectedVersion}`, current_version: `${row.version}` } },
      );
    case "ENTRY_FULL":
      return entryTooLarge(write.pad.max_entry_bytes, keptBytes(row, write) + write.value.bodyBytes);
    case "FULL":
      return scratchpadFull(row);
    case "SEALS":
      return new LeaseholdError("LIMIT_REACHED", "The lease's key has sealed as often as it may: make a new lease.", {
        metadata: { limit: "seals_per_lease", limit_value: `${maxSealsPerKey}`, value: `${maxSealsPerKey}` },
      });
    default:
      throw new Error(`a write was refused for ${row.outcome}`);
  }
}

/** Whether it is the lease as a whole that refuses. */
export function isRefusalOfLease(outcome: WriteOutcome): boolean {
  return outcome === "NOT_FOUND" || outcome === "ENDED" || outcome === "WRONG_VARIANT";
}

/**
 * Whether a write for several calls was refused for what may be one call's alone: each is to be asked for by itself.
 */
export function isRefusedForAnother({ write, row }: RefusedCall): boolean {
  const isForAll = row.outcome === "REFUSED" || isRefusalOfLease(row.outcome);
  return write.calls.length > 1 && row.outcome !== "DONE" && !isForAll;
}

/** How much of the value that was there would have stayed. */
function keptBytes(row: WrittenRow, write: AskedWrite): number {
  return write.kind === writeKinds.append ? (row.value_bytes ?? 0) : 0;
}

/** The error of a value over its scratchpad's own limit. */
export function entryTooLarge(limitBytes: number, valueBytes: number): LeaseholdError {
  return new LeaseholdError(
    "BODY_TOO_LARGE",
    `The value would have ${valueBytes} bytes, and the scratchpad's entries have at most ${limitBytes}: keep less in it.`,
    { metadata: { limit: "max_entry_bytes", limit_bytes: `${limitBytes}`, value_bytes: `${valueBytes}` } },
  );
}

function scratchpadFull({ used_bytes, size_bytes }: WrittenRow): LeaseholdError {
  return new LeaseholdError(
    "SCRATCHPAD_FULL",
    `The scratchpad has ${used_bytes} of ${size_bytes} bytes in use, and an entry takes its key, its value and ${entryOverheadBytes}, an append its bytes and ${appendOverheadBytes}: delete entries, or make a larger one.`,
    { metadata: { limit: "size_bytes", limit_value: `${size_bytes}`, value: `${used_bytes}` } },
  );
}
