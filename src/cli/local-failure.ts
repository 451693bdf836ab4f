/** Owns how a failure of the local file system is told, and which failures of a transfer leave something to go on with. */
import { CallError } from "../client/call-error.ts";
import { TargetExistsError } from "../client/part-file.ts";
import { CommandError } from "./exit-codes.ts";

/** A failure to read or write a file becomes one that says what to do, and ends with a fitting exit code. */
export function localFailure(error: unknown): unknown {
  if (error instanceof TargetExistsError) {
    return new CommandError("failure", `${error.message}: --force replaces it, and -o gives another name`);
  }
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const path = error instanceof Error && "path" in error ? `${error.path}` : "The file";
  switch (code) {
    case "ENOENT":
      return new CommandError("usage", `${path} does not exist`);
    case "EISDIR":
      return new CommandError("usage", `${path} is a folder`);
    case "EACCES":
    case "EPERM":
      return new CommandError("failure", `${path} may not be opened by this user`);
    case "ENOSPC":
      return new CommandError("failure", "The disk is full: make room, and repeat the command to go on");
    default:
      return error;
  }
}

/** Whether a transfer that failed like this keeps what was moved, so that it can be taken up later. */
export function canGoOn(error: unknown): boolean {
  return error instanceof CallError && (error.isTransient || error.reason === "DISK_FULL");
}
