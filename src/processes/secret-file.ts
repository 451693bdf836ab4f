/** Owns files that hold one secret: made once, whole, and readable by their owner alone. */
import { randomUUID } from "node:crypto";
import { link, open, readFile, rename, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { makeDataFolder } from "../database/embedded/cluster-folder.ts";
import { hasCode } from "../database/embedded/has-code.ts";

/** The secret in a file, or undefined if there is no such file. */
export async function readSecretFile(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (error) {
    if (hasCode(error, "ENOENT")) {
      return undefined;
    }
    throw error;
  }
}

/** The secret in a file, which is made if it is missing. Two that make it at once get the same secret. */
export async function ensureSecretFile(path: string, makeSecret: () => string): Promise<string> {
  const found = await readSecretFile(path);
  if (found !== undefined) {
    return found;
  }
  await writeWhole(path, makeSecret(), async (unfinished) => {
    try {
      await link(unfinished, path);
    } catch (error) {
      if (!hasCode(error, "EEXIST")) {
        throw error;
      }
    } finally {
      await unlink(unfinished);
    }
  });
  const made = await readSecretFile(path);
  if (made === undefined) {
    throw new Error(`${path} was removed just after it was made`);
  }
  return made;
}

/** Writes a secret in place of whatever the file held. */
export async function replaceSecretFile(path: string, secret: string): Promise<void> {
  await writeWhole(path, secret, (unfinished) => rename(unfinished, path));
}

/** Writes the file beside its place, and lets `place` put it there once it is on disk. */
async function writeWhole(path: string, secret: string, place: (unfinished: string) => Promise<void>): Promise<void> {
  await makeDataFolder(dirname(path));
  const unfinished = `${path}.${randomUUID()}`;
  const file = await open(unfinished, "wx", 0o600);
  try {
    await file.writeFile(`${secret}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await place(unfinished);
  const folder = await open(join(dirname(path), "."), "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
