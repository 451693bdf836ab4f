/** The errors of drops. A dropper has no account, and is told nothing of the mailbox that it needs not know. */
import { maxSealsPerKey } from "../content/sealing.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import { type LeaseRow, leaseEnded } from "../lease/lease-row.ts";
import type { DroppedRow } from "./drop-messages-statement.ts";
import { messageOverheadBytes } from "./mailbox-details.ts";

/** The error of a drop that the statement refused. */
export function refusedDrop(row: DroppedRow): LeaseholdError {
  const value = `${row.value ?? 0}`;
  const limitValue = `${row.limit_value ?? 0}`;
  switch (row.outcome) {
    case "LEASE_ENDED":
      return leaseEnded({ time: row.end_time as DatabaseTime, reason: row.end_reason as LeaseRow["due_reason"] });
    case "DROP_TOKEN_ROTATED":
      return dropTokenRotated();
    case "SIZE_BYTES":
      return mailboxFull(
        "size_bytes",
        `The mailbox holds ${value} of ${limitValue} bytes, and a message takes its body and ${messageOverheadBytes}`,
        limitValue,
        value,
      );
    case "MAX_MESSAGES":
      return mailboxFull("max_messages", `The mailbox holds ${value} of ${limitValue} messages`, limitValue, value);
    case "SEALS_PER_LEASE":
      return new LeaseholdError("LIMIT_REACHED", `The mailbox has taken ${value} messages, as many as it ever can.`, {
        metadata: { limit: "seals_per_lease", limit_value: `${maxSealsPerKey}`, value },
      });
    default:
      throw new Error(`a drop was refused for ${row.outcome}`);
  }
}

/** The error of a token that its mailbox's owner has replaced. */
export function dropTokenRotated(): LeaseholdError {
  return new LeaseholdError(
    "DROP_TOKEN_ROTATED",
    "The drop token was replaced: ask the mailbox's owner for the new one.",
  );
}

/** The error of a body over the mailbox's own limit. `valueBytes` is undefined where the rest was not read. */
export function bodyTooLarge(limitBytes: number, valueBytes?: number): LeaseholdError {
  return new LeaseholdError("BODY_TOO_LARGE", `The mailbox takes bodies of at most ${limitBytes} bytes: send less.`, {
    metadata: {
      limit: "max_message_bytes",
      limit_bytes: `${limitBytes}`,
      ...(valueBytes === undefined ? {} : { value_bytes: `${valueBytes}` }),
    },
  });
}

/** The error of a request_id that dropped something else. It names no field: it may have been another dropper's. */
export function dropRequestIdReused(): LeaseholdError {
  return new LeaseholdError("REQUEST_ID_REUSED", "The request_id was used before with other content: use a new one.");
}

function mailboxFull(limit: string, holds: string, limitValue: string, value: string): LeaseholdError {
  return new LeaseholdError("MAILBOX_FULL", `${holds}: try again when its owner has acknowledged some.`, {
    metadata: { limit, limit_value: limitValue, value },
  });
}
