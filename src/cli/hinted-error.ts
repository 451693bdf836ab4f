/** Owns what is said of a failure besides its reason: how to go on from there. */
export class HintedError extends Error {
  override readonly name = "HintedError";
  /** What failed: it decides on the exit code. */
  readonly failure: unknown;
  /** What to do next, as a sentence's end. */
  readonly hint: string;
  /** What to go on with, for programs. */
  readonly ids: Readonly<Record<string, string>>;

  constructor(failure: unknown, hint: string, ids: Readonly<Record<string, string>>) {
    super(`${failure instanceof Error ? failure.message : failure}`, { cause: failure });
    this.failure = failure;
    this.hint = hint;
    this.ids = ids;
  }
}
