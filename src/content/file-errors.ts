/** Tells a full disk from other failures of the file system. */
import { LeaseholdError } from "../errors/leasehold-error.ts";

/** The error to throw for a failed file operation: DISK_FULL for a full disk or quota, the same error otherwise. */
export function asDiskFull(error: unknown): unknown {
  if (!hasErrorCode(error, "ENOSPC") && !hasErrorCode(error, "EDQUOT")) {
    return error;
  }
  return new LeaseholdError(
    "DISK_FULL",
    "The server's disk is full. Nothing that was acknowledged is lost; repeat the call when the operator has made room.",
    { cause: error },
  );
}

/** Whether `error` is a failed system call with this code, for example `ENOENT`. */
export function hasErrorCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
