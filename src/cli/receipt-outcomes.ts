/** Owns what became of receipts, as commands show it: those that could not be settled fail the command. */
import {
  type ReceiptResult,
  ReceiptResult_Outcome,
  ReceiptResult_OutcomeSchema,
} from "#gen/leasehold/v1/mailbox_pb.js";
import { CommandError, type ExitName } from "./exit-codes.ts";
import { note, printTable } from "./output.ts";
import { showEnum } from "./show-values.ts";

/** Writes a line for each. */
export function printOutcomes(results: readonly ReceiptResult[]): void {
  printTable(
    ["RECEIPT", "OUTCOME"],
    results.map(({ receipt, outcome }) => [receipt, showEnum(ReceiptResult_OutcomeSchema, outcome)]),
    "There are no receipts.",
  );
}

/** @throws CommandError if a receipt was not settled, whatever became of the others. */
export function requireSettled(results: readonly ReceiptResult[]): void {
  const undone = undoneOf(results);
  if (undone !== undefined) {
    throw new CommandError(undone.exit, undone.message);
  }
}

/** Says so if a receipt was not settled, which is no reason to stop. */
export function reportUndone(results: readonly ReceiptResult[]): void {
  const undone = undoneOf(results);
  if (undone !== undefined) {
    note(undone.message);
  }
}

function undoneOf(results: readonly ReceiptResult[]): { exit: ExitName; message: string } | undefined {
  const count = (outcome: ReceiptResult_Outcome) => results.filter((result) => result.outcome === outcome).length;
  const [unknown, stale] = [count(ReceiptResult_Outcome.UNKNOWN), count(ReceiptResult_Outcome.STALE)];
  if (unknown > 0) {
    return {
      exit: "notFound",
      message: `${unknown} of ${results.length} receipts were never given out by this mailbox`,
    };
  }
  return stale === 0
    ? undefined
    : {
        exit: "gone",
        message: `${stale} of ${results.length} receipts are stale: their messages were delivered again, or died`,
      };
}
