/** What a failure of Postgres, or of the way to it, means to the caller of an RPC. */
import { LeaseholdError } from "../errors/leasehold-error.ts";

/** A judged failure. */
export interface DatabaseFailure {
  /** Whether the connection can no longer be used. */
  readonly connectionLost: boolean;
  /** Whether the statement itself is at fault, and would fail again: a batch is then split to find the culprit. */
  readonly statementAtFault: boolean;
  /** The error to throw. `unknownOutcomeMatters`: a lost answer may hide a change that must not be made twice. */
  asCallerSees(unknownOutcomeMatters: boolean): Error;
}

/** SQLSTATE classes and codes after which nothing of the statement has been done and a repeat may succeed. */
const nothingDone = new Set([
  "40001", // serialization_failure
  "40P01", // deadlock_detected
  "53200", // out_of_memory
  "53300", // too_many_connections
  "55P03", // lock_not_available
  "57014", // query_canceled
  "57P03", // cannot_connect_now
]);

/** SQLSTATE codes and Node codes that end the connection. */
const connectionCodes =
  /^(08(?!P01)|57P01|57P02|57P05|ECONNRESET|ECONNREFUSED|EPIPE|ETIMEDOUT|ENOENT|EHOSTUNREACH|ENOTFOUND)/;

const retryAfterMs = 500;

/** Judges whatever node-postgres threw. */
export function classifyFailure(error: unknown): DatabaseFailure {
  const code = codeOf(error);
  const text = error instanceof Error ? error.message : String(error);
  if (code !== undefined && nothingDone.has(code)) {
    return { connectionLost: false, statementAtFault: false, asCallerSees: () => unavailable(error) };
  }
  if (
    (code !== undefined && connectionCodes.test(code)) ||
    /Connection terminated|timeout exceeded|Query read timeout|Client (was closed|has encountered)/.test(text)
  ) {
    return {
      connectionLost: true,
      statementAtFault: false,
      asCallerSees: (unknownOutcomeMatters) => (unknownOutcomeMatters ? outcomeUnknown(error) : unavailable(error)),
    };
  }
  if (code === "53100") {
    const full = new LeaseholdError("DISK_FULL", "The database's disk is full: nothing was changed. Try again later.", {
      cause: error,
    });
    return { connectionLost: false, statementAtFault: false, asCallerSees: () => full };
  }
  const fault = error instanceof Error ? error : new Error(text);
  return { connectionLost: false, statementAtFault: true, asCallerSees: () => fault };
}

/** Whether a failure, as `Database` throws it, is the statement's own: one that was judged already never is. */
export function isStatementFault(error: unknown): boolean {
  return !(error instanceof LeaseholdError) && classifyFailure(error).statementAtFault;
}

/** Whether a failure, as `Database` throws it, is that the database cannot be reached: any other statement fails too. */
export function isOutage(error: unknown): boolean {
  return error instanceof LeaseholdError && error.cause !== undefined && classifyFailure(error.cause).connectionLost;
}

/** What a caller that can repeat its call safely sees of a failure that another was told of as OUTCOME_UNKNOWN. */
export function asRepeatableSees(error: unknown): unknown {
  return error instanceof LeaseholdError && error.reason === "OUTCOME_UNKNOWN" ? unavailable(error.cause) : error;
}

function codeOf(error: unknown): string | undefined {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  return typeof code === "string" ? code : undefined;
}

function unavailable(cause: unknown): LeaseholdError {
  return new LeaseholdError("DATABASE_UNAVAILABLE", "The database is away: try again.", { retryAfterMs, cause });
}

function outcomeUnknown(cause: unknown): LeaseholdError {
  return new LeaseholdError(
    "OUTCOME_UNKNOWN",
    "The answer of the database was lost: it may or may not have been done. Look before trying again, and send a request_id next time.",
    { cause },
  );
}
