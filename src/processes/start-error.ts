/** Owns the error that says, in one line, why a process cannot start or go on, and what to do about it. */
export class StartError extends Error {
  override readonly name = "StartError";
}
