/** The error for a key folder, or a key in it, that is not what the database says it must be. */

/** The message is one line that names the file or folder and what is wrong with it: it is fit to end a start with. */
export class KeyFolderError extends Error {
  override readonly name = "KeyFolderError";
  readonly reason: KeyFolderReason;

  constructor(reason: KeyFolderReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/**
 * FOLDER_MISSING: no key folder where one must be. FOLDER_FOREIGN: it, or a key in it, is another installation's.
 * FOLDER_EXPOSED: other users of the machine can enter it. EPOCH_LENGTH_DIFFERS: it was made for epochs of another
 * length. FILE_INVALID: a file cannot be understood. KEY_MISSING: a needed key is not there. KEY_REPLACED: another key
 * is in its place. KEY_IS_BACK: a key that was destroyed exists again. EPOCH_DESTROYED: a new key was asked for an epoch
 * whose key was destroyed.
 */
export type KeyFolderReason =
  | "FOLDER_MISSING"
  | "FOLDER_FOREIGN"
  | "FOLDER_EXPOSED"
  | "EPOCH_LENGTH_DIFFERS"
  | "FILE_INVALID"
  | "KEY_MISSING"
  | "KEY_REPLACED"
  | "KEY_IS_BACK"
  | "EPOCH_DESTROYED";
