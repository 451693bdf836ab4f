/** The file that says which installation a key folder belongs to, and the adoption of an empty folder. */
import { chmod, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { asDiskFull } from "./file-errors.ts";
import { makeSyncedFolder, syncFolder } from "./folder-sync.ts";
import { createKeyFile, type InstallationFile, readKeyFile } from "./key-file.ts";
import { KeyFolderError } from "./key-folder-error.ts";

/** What the folder says of itself, or undefined where there is no folder or no such file. */
export async function readInstallation(dir: string): Promise<InstallationFile | undefined> {
  const path = join(dir, fileName);
  const file = await readKeyFile(path);
  if (file !== undefined && file.kind !== "installation") {
    throw new KeyFolderError("FILE_INVALID", `${path} does not say whose keys these are: restore it`);
  }
  return file;
}

/**
 * Makes the folder, or takes over an empty one, and returns what it says of itself then: that is another process's word
 * if that was faster.
 *
 * A folder with files but without this one is not taken over: it is half of a restored backup, or not a key folder.
 */
export async function adoptFolder(
  dir: string,
  wanted: Pick<InstallationFile, "installationId" | "epochLengthSeconds">,
): Promise<InstallationFile> {
  try {
    await makeSyncedFolder(dir);
  } catch (error) {
    throw asDiskFull(error);
  }
  const found = (await readdir(dir)).find((name) => !name.startsWith(".") && name !== "lost+found");
  if (found === undefined) {
    await chmod(dir, 0o700);
    await createKeyFile(join(dir, fileName), { format: 1, kind: "installation", ...wanted });
    await syncFolder(dir);
  }
  // Read after the folder was listed: whoever made the first key file had made this one before.
  const installation = await readInstallation(dir);
  if (installation === undefined) {
    throw new KeyFolderError(
      "FOLDER_FOREIGN",
      `${dir} holds ${found} but no file ${fileName}: it is no whole key folder`,
    );
  }
  return installation;
}

/** Throws FOLDER_EXPOSED when anyone but its owner can enter the folder. */
export async function refuseExposedFolder(dir: string): Promise<void> {
  const { mode } = await stat(dir);
  if ((mode & 0o077) !== 0) {
    const shown = (mode & 0o777).toString(8);
    throw new KeyFolderError("FOLDER_EXPOSED", `the key folder ${dir} has mode ${shown}: run chmod 700 on it`);
  }
}

/** The error for keys that are not this installation's. */
export function foreignKeys(path: string, actualId: string, expectedId: string): KeyFolderError {
  return new KeyFolderError(
    "FOLDER_FOREIGN",
    `${path} belongs to installation ${actualId}, but the database is installation ${expectedId}: use its own keys`,
  );
}

const fileName = "installation";
