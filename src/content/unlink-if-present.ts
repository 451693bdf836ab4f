/** Removes a file that may be gone already. */
import { unlink } from "node:fs/promises";
import { hasErrorCode } from "./file-errors.ts";

/** Resolves also where there is nothing to remove. */
export async function unlinkIfPresent(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (!hasErrorCode(error, "ENOENT")) {
      throw error;
    }
  }
}
