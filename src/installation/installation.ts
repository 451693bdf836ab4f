/** The installation: the identity that database and key folder share, checked against each other at every start. */
import { randomUUID } from "node:crypto";
import { KeyFolder } from "../content/key-folder.ts";
import type { Database } from "../database/database.ts";
import { findInstallation, findNeededEpochs, insertInstallation } from "./installation-statements.ts";

/** Where the keys are. */
export interface InstallationOptions {
  readonly keysDir: string;
  readonly epochSeconds: number;
}

/**
 * Opens the key folder that belongs to a database, making both known to each other on the first start.
 *
 * @throws KeyFolderError, with one line that names what is wrong, for a foreign folder, a destroyed key that is back, or
 * a key that a lease still needs and that is missing. An older database with the current folder is let through: what
 * has ended since stays unreadable.
 */
export async function openKeyFolder(database: Database, options: InstallationOptions): Promise<KeyFolder> {
  await database.run(insertInstallation, [randomUUID()]);
  const [installation] = await database.run(findInstallation, []);
  if (installation === undefined) {
    throw new Error("the database has no installation");
  }
  const folder = await KeyFolder.open({
    dir: options.keysDir,
    installationId: installation.installation_id,
    epochLengthSeconds: options.epochSeconds,
    createIfMissing: !installation.has_keys,
  });
  const needed = await database.run(findNeededEpochs, []);
  await folder.verify({
    installationId: installation.installation_id,
    destroyedThroughSeconds:
      installation.destroyed_through_seconds < 0n ? undefined : Number(installation.destroyed_through_seconds),
    neededEpochs: needed.map((epoch) => ({ startSeconds: Number(epoch.epoch_seconds), keyId: epoch.key_id })),
  });
  return folder;
}
