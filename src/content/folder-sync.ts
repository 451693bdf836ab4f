/** Makes folders, and what was created in, renamed in or removed from them, survive a power failure. */
import { mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";

/** Resolves when the folder's entries are on disk. A file's own fsync does not cover the name it is found by. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes the folder, for its owner only, and any that is missing above it, durably. */
export async function makeSyncedFolder(folder: string): Promise<void> {
  const topmostMade = await mkdir(folder, { recursive: true, mode: 0o700 });
  if (topmostMade === undefined) {
    return;
  }
  for (let made = folder; ; made = dirname(made)) {
    await syncFolder(dirname(made));
    if (made === topmostMade) {
      return;
    }
  }
}
