/** Owns the exit codes: what each one means, and which failure ends with which. */
import { CallError, type FailureReason } from "../client/call-error.ts";
import { ConfigError } from "../config/config-error.ts";

/** Every exit code, in the order of `--help`. */
export const exitCodes = {
  ok: { code: 0, meaning: "done" },
  failure: { code: 1, meaning: "failed, for a reason that none of the others names" },
  usage: { code: 2, meaning: "called wrongly: an unknown option, a bad value, a setting that is not allowed" },
  notFound: { code: 3, meaning: "there is no such thing, or it is not yours" },
  gone: {
    code: 4,
    meaning: "it was there and is over: a lease has ended, a token is used up, too old or revoked, a receipt is stale",
  },
  credential: { code: 5, meaning: "the API key or admin token is missing, wrong, or not allowed to do this" },
  payment: { code: 6, meaning: "the balance, a price limit or a spend ceiling is too low" },
  unavailable: { code: 7, meaning: "the server is away, busy or full: the same command may succeed later" },
  conflict: { code: 8, meaning: "somebody else was first: look at what is there now, then decide" },
} as const;

export type ExitName = keyof typeof exitCodes;

/** A failure that the command line itself finds. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly exit: ExitName;

  constructor(exit: ExitName, message: string, options?: ErrorOptions) {
    super(message, options);
    this.exit = exit;
  }
}

/** How a command ends that failed with this. */
export function exitOf(error: unknown): ExitName {
  if (error instanceof CommandError) {
    return error.exit;
  }
  if (error instanceof CallError) {
    return exitOfReason[error.reason] ?? (error.isTransient ? "unavailable" : "failure");
  }
  return error instanceof ConfigError ? "usage" : "failure";
}

/** The table of exit codes for `--help`. */
export function exitCodesText(): string {
  return Object.values(exitCodes)
    .map(({ code, meaning }) => `  ${code}  ${meaning}`)
    .join("\n");
}

const exitOfReason: Readonly<Partial<Record<FailureReason, ExitName>>> = {
  CREDENTIAL_MISSING: "credential",
  CREDENTIAL_INVALID: "credential",
  SCOPE_MISSING: "credential",
  ACCOUNT_SUSPENDED: "credential",
  INVALID_FIELD: "usage",
  OUT_OF_BOUNDS: "usage",
  TOKEN_MALFORMED: "usage",
  NOT_FOUND: "notFound",
  LEASE_ENDED: "gone",
  HANDOFF_EXHAUSTED: "gone",
  HANDOFF_EXPIRED: "gone",
  HANDOFF_REVOKED: "gone",
  CLAIM_ENDED: "gone",
  DROP_TOKEN_ROTATED: "gone",
  VERSION_GONE: "gone",
  HANDOFF_BUSY: "unavailable",
  PAYMENT_REQUIRED: "payment",
  PRICE_TOO_HIGH: "payment",
  SPEND_CEILING: "payment",
  DISK_FULL: "unavailable",
  MAILBOX_FULL: "unavailable",
  SCRATCHPAD_FULL: "unavailable",
  WORKFLOW_IN_USE: "conflict",
  VERSION_MISMATCH: "conflict",
};
