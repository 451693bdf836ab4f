/**
 * The folder, outside Postgres, of the keys on which the end of content rests: one per epoch, and the server's own.
 *
 * Several servers and sweepers share it. A key file is created once, never changed, and found by its name:
 * `installation` says whose folder this is, `epoch-<start second>.key` wraps the keys of the leases that are due to end
 * in that epoch, `server-<version>.key` is what tokens and digests are derived with.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { syncFolder } from "./folder-sync.ts";
import { adoptFolder, foreignKeys, readInstallation, refuseExposedFolder } from "./installation-file.ts";
import { KeyCache, withCopiedKey } from "./key-cache.ts";
import { createKeyFile, type InstallationFile, readKeyFile, temporaryPrefix } from "./key-file.ts";
import { KeyFolderError } from "./key-folder-error.ts";
import { keyBytes } from "./sealing.ts";
import { ServerKeys } from "./server-keys.ts";
import { unlinkIfPresent } from "./unlink-if-present.ts";

export class KeyFolder {
  readonly dir: string;
  readonly installationId: string;
  readonly epochLengthSeconds: number;
  /** The keys that tokens and digests are derived with. */
  readonly serverKeys: ServerKeys;
  readonly #epochKeys = new KeyCache<number, EpochKey>({ maxEntries: 1024, maxAgeMs: 60_000 });
  readonly #epochKeysBeingMade = new Map<number, Promise<EpochKey>>();
  #destroyedThroughSeconds = -1;

  private constructor(dir: string, installation: InstallationFile) {
    this.dir = dir;
    this.installationId = installation.installationId;
    this.epochLengthSeconds = installation.epochLengthSeconds;
    this.serverKeys = new ServerKeys(dir, installation.installationId);
  }

  /**
   * Opens the folder of this installation. With `createIfMissing` a missing or empty folder becomes it.
   *
   * The epoch length is fixed with the folder: under another length an epoch could start at or before one whose key was
   * destroyed, and its leases would need that key again. Throws KeyFolderError FOLDER_MISSING, FOLDER_FOREIGN,
   * FOLDER_EXPOSED, EPOCH_LENGTH_DIFFERS or FILE_INVALID.
   */
  static async open(options: KeyFolderOptions): Promise<KeyFolder> {
    const { installationId, epochLengthSeconds } = options;
    if (!Number.isSafeInteger(epochLengthSeconds) || epochLengthSeconds < 1) {
      throw new RangeError(`an epoch of ${epochLengthSeconds} s is not a whole number of seconds from 1`);
    }
    const dir = resolve(options.dir);
    let installation = await readInstallation(dir);
    if (installation === undefined && !options.createIfMissing) {
      throw new KeyFolderError(
        "FOLDER_MISSING",
        `${dir} is not a key folder, and existing leases need theirs: restore it`,
      );
    }
    installation ??= await adoptFolder(dir, { installationId, epochLengthSeconds });
    if (installation.installationId !== installationId) {
      throw foreignKeys(dir, installation.installationId, installationId);
    }
    if (installation.epochLengthSeconds !== epochLengthSeconds) {
      const { epochLengthSeconds: actual } = installation;
      const message = `the key folder ${dir} was made for epochs of ${actual} s, not ${epochLengthSeconds} s: set it back`;
      throw new KeyFolderError("EPOCH_LENGTH_DIFFERS", message);
    }
    await refuseExposedFolder(dir);
    return new KeyFolder(dir, installation);
  }

  /** The installation a folder belongs to, or undefined where there is no folder or nothing in it yet. */
  static async installationIdOf(dir: string): Promise<string | undefined> {
    return (await readInstallation(resolve(dir)))?.installationId;
  }

  /**
   * The key of the epoch that starts at this second, made if there is none. Its file is durable before the key is
   * returned, whichever process made it. Throws EPOCH_DESTROYED up to the mark given to `verify`, and LeaseholdError
   * DISK_FULL.
   */
  async epochKey(startSeconds: number): Promise<EpochKey> {
    const cached = this.#epochKeys.get(startSeconds);
    if (cached !== undefined) {
      return cached;
    }
    const beingMade = this.#epochKeysBeingMade.get(startSeconds);
    return withCopiedKey(await (beingMade ?? this.#makeEpochKeyOnce(startSeconds)));
  }

  /**
   * The key with this id of the epoch that starts at this second; never makes one. Throws KEY_MISSING or KEY_REPLACED.
   *
   * It does not sync the folder: an id that a committed row names was durable before that row was.
   */
  async existingEpochKey(startSeconds: number, keyId: string): Promise<EpochKey> {
    const cached = this.#epochKeys.get(startSeconds);
    if (cached?.keyId === keyId) {
      return cached;
    }
    const path = this.#epochPath(startSeconds);
    const key = await this.#readEpochKey(startSeconds);
    if (key === undefined) {
      throw new KeyFolderError("KEY_MISSING", `${path} is missing, and leases are sealed under its key ${keyId}`);
    }
    if (key.keyId !== keyId) {
      throw new KeyFolderError("KEY_REPLACED", `${path} holds key ${key.keyId}, and leases are sealed under ${keyId}`);
    }
    this.#epochKeys.put(startSeconds, key);
    return key;
  }

  /** The start seconds of all epochs that have a key, ascending. */
  async listEpochs(): Promise<number[]> {
    const names = await readdir(this.dir);
    const starts = names.flatMap((name) => epochNamePattern.exec(name)?.[1] ?? []).map(Number);
    return starts.sort((one, other) => one - other);
  }

  /**
   * Removes the epoch's key, from the folder for good and from this process. Resolves when the removal is durable, also
   * if an earlier run had removed the file but not synced the folder. Other processes forget the key within 60 s.
   *
   * The file is not overwritten first: file systems that journal, copy on write or sit on flash put the new bytes
   * elsewhere, so that would only look safer. Freed blocks are the business of an encrypted or discarding volume.
   */
  async destroyEpoch(startSeconds: number): Promise<void> {
    await unlinkIfPresent(this.#epochPath(startSeconds));
    const leftoverPrefix = temporaryPrefix(epochFileName(startSeconds));
    for (const name of await readdir(this.dir)) {
      if (name.startsWith(leftoverPrefix)) {
        await unlinkIfPresent(join(this.dir, name));
      }
    }
    await syncFolder(this.dir);
    this.#epochKeysBeingMade.delete(startSeconds);
    this.#epochKeys.forget(startSeconds);
  }

  /**
   * Checks the folder against what the database holds, for the start of a process. Resolves when nothing is wrong;
   * throws KeyFolderError FOLDER_FOREIGN, KEY_IS_BACK, KEY_MISSING, KEY_REPLACED or FILE_INVALID otherwise.
   *
   * From then on no key is made for an epoch at or before `destroyedThroughSeconds`.
   */
  async verify(expected: ExpectedKeys): Promise<void> {
    if (expected.installationId !== this.installationId) {
      throw foreignKeys(this.dir, this.installationId, expected.installationId);
    }
    const mark = expected.destroyedThroughSeconds ?? -1;
    const back = (await this.listEpochs()).find((startSeconds) => startSeconds <= mark);
    if (back !== undefined) {
      const path = join(this.dir, epochFileName(back));
      throw new KeyFolderError(
        "KEY_IS_BACK",
        `${path} exists, but keys through ${mark} were destroyed: remove it again`,
      );
    }
    this.#destroyedThroughSeconds = mark;
    for (let first = 0; first < expected.neededEpochs.length; first += keysVerifiedAtOnce) {
      const some = expected.neededEpochs.slice(first, first + keysVerifiedAtOnce);
      await Promise.all(some.map((needed) => this.existingEpochKey(needed.startSeconds, needed.keyId)));
    }
  }

  /** Callers that need one missing key at the same time share one creation. */
  async #makeEpochKeyOnce(startSeconds: number): Promise<EpochKey> {
    const making = this.#makeEpochKey(startSeconds);
    this.#epochKeysBeingMade.set(startSeconds, making);
    try {
      const made = await making;
      if (this.#epochKeysBeingMade.get(startSeconds) === making) {
        this.#epochKeys.put(startSeconds, made);
      }
      return made;
    } finally {
      if (this.#epochKeysBeingMade.get(startSeconds) === making) {
        this.#epochKeysBeingMade.delete(startSeconds);
      }
    }
  }

  async #makeEpochKey(startSeconds: number): Promise<EpochKey> {
    const path = this.#epochPath(startSeconds);
    if (startSeconds <= this.#destroyedThroughSeconds) {
      throw new KeyFolderError(
        "EPOCH_DESTROYED",
        `the key of epoch ${startSeconds} was destroyed: no lease can end in it`,
      );
    }
    let key = await this.#readEpochKey(startSeconds);
    if (key === undefined) {
      await createKeyFile(path, {
        format: 1,
        kind: "epoch",
        keyId: randomUUID(),
        installationId: this.installationId,
        epochStartSeconds: startSeconds,
        epochLengthSeconds: this.epochLengthSeconds,
        key: randomBytes(keyBytes).toString("base64"),
      });
      key = await this.#readEpochKey(startSeconds);
    }
    if (key === undefined) {
      throw new KeyFolderError("KEY_MISSING", `${path} was removed while it was being made`);
    }
    await syncFolder(this.dir);
    return key;
  }

  async #readEpochKey(startSeconds: number): Promise<EpochKey | undefined> {
    const path = this.#epochPath(startSeconds);
    const file = await readKeyFile(path);
    if (file === undefined) {
      return undefined;
    }
    if (file.installationId !== this.installationId) {
      throw foreignKeys(path, file.installationId, this.installationId);
    }
    if (file.kind !== "epoch" || file.epochStartSeconds !== startSeconds) {
      throw new KeyFolderError("FILE_INVALID", `${path} is not the key file of epoch ${startSeconds}: restore it`);
    }
    return { keyId: file.keyId, startSeconds, key: Buffer.from(file.key, "base64") };
  }

  #epochPath(startSeconds: number): string {
    if (!Number.isSafeInteger(startSeconds) || startSeconds < 0 || startSeconds % this.epochLengthSeconds !== 0) {
      throw new RangeError(`no epoch of ${this.epochLengthSeconds} s starts at ${startSeconds}`);
    }
    return join(this.dir, epochFileName(startSeconds));
  }
}

export interface KeyFolderOptions {
  readonly dir: string;
  readonly installationId: string;
  readonly epochLengthSeconds: number;
  /** Set it only for an installation that has no lease yet: a folder that went missing must not be made anew. */
  readonly createIfMissing: boolean;
}

export interface EpochKey {
  readonly keyId: string;
  /** Seconds since 1970-01-01 UTC. */
  readonly startSeconds: number;
  /** 32 bytes, the caller's own copy. */
  readonly key: Buffer;
}

/** What the database says of the folder. */
export interface ExpectedKeys {
  readonly installationId: string;
  /** The highest epoch start up to which all keys were destroyed; undefined if none was. */
  readonly destroyedThroughSeconds: number | undefined;
  /** The epoch keys under which unexpired leases are sealed. */
  readonly neededEpochs: readonly { readonly startSeconds: number; readonly keyId: string }[];
}

const keysVerifiedAtOnce = 32;
const epochNamePattern = /^epoch-([0-9]+)\.key$/;

function epochFileName(startSeconds: number): string {
  return `epoch-${startSeconds}.key`;
}
