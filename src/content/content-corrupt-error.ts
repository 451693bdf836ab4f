/** The error for stored bytes that are missing, cut, or not what was sealed. */

/**
 * A fault of the store, never of the caller: the server answers INTERNAL and logs the message.
 *
 * MISSING is also what a reader sees whose lease was destroyed under it, so check the lease's state before reporting.
 */
export class ContentCorruptError extends Error {
  override readonly name = "ContentCorruptError";
  readonly reason: ContentCorruptReason;

  constructor(reason: ContentCorruptReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/**
 * MISSING: there is no such file. TRUNCATED: fewer bytes than were counted. UNAUTHENTIC: the bytes were changed, moved
 * from another place, or sealed under another key.
 */
export type ContentCorruptReason = "MISSING" | "TRUNCATED" | "UNAUTHENTIC";
