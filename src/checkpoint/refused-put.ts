/** Why a put was refused, by what its statement found, and whether one that failed may have been done. */
import { maxSealsPerKey } from "../content/sealing.ts";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import { writerGivenUp } from "./checkpoint-writer.ts";
import type { PutRow } from "./put-checkpoints-statement.ts";

/** The error of a put that a live lease of the caller's refused. */
export function refusedPut(row: PutRow, expectedVersion: bigint | undefined): LeaseholdError {
  switch (row.outcome) {
    case "MISMATCH":
      return new LeaseholdError(
        "VERSION_MISMATCH",
        `The checkpoint is at version ${row.version}, and ${expectedVersion} was expected: get it, and put again.`,
        { metadata: { expected_version: `${expectedVersion}`, current_version: `${row.version}` } },
      );
    case "SEALS":
      return new LeaseholdError("LIMIT_REACHED", "The lease's key has sealed as often as it may: make a new lease.", {
        metadata: { limit: "seals_per_lease", limit_value: `${maxSealsPerKey}`, value: `${maxSealsPerKey}` },
      });
    case "LOST":
      return writerGivenUp();
    default:
      throw new Error(`a put was refused for ${row.outcome}`);
  }
}

/** Whether a put may have been done all the same. */
export function isUnknown(error: unknown): boolean {
  const reasons = ["OUTCOME_UNKNOWN", "DATABASE_UNAVAILABLE"];
  return !(error instanceof LeaseholdError) || reasons.includes(error.reason);
}
