/** The server's own keys in the key folder, with which tokens and idempotency digests are derived. */
import { randomBytes, randomUUID } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { syncFolder } from "./folder-sync.ts";
import { foreignKeys } from "./installation-file.ts";
import { createKeyFile, readKeyFile } from "./key-file.ts";
import { KeyFolderError } from "./key-folder-error.ts";
import { keyBytes } from "./sealing.ts";

/** Server keys are few, and live as long as the installation: they stay in memory once read. */
export class ServerKeys {
  readonly #dir: string;
  readonly #installationId: string;
  readonly #keys = new Map<number, ServerKey>();
  #latestVersion: number | undefined;

  constructor(dir: string, installationId: string) {
    this.#dir = dir;
    this.#installationId = installationId;
  }

  /** The key of this version; never makes one. Throws KEY_MISSING, FOLDER_FOREIGN or FILE_INVALID. */
  async get(version: number): Promise<ServerKey> {
    let key = this.#keys.get(version);
    if (key === undefined) {
      key = await this.#read(version);
      this.#keys.set(version, key);
    }
    return key;
  }

  /**
   * The key of the highest version, made as version 1 if there is none, and durable before it is returned. A version
   * that is added later is taken up at the next start.
   */
  async latest(): Promise<ServerKey> {
    this.#latestVersion ??= await this.#findLatestVersion();
    return this.get(this.#latestVersion);
  }

  async #findLatestVersion(): Promise<number> {
    const versions = (await readdir(this.#dir)).map((name) => Number(fileNamePattern.exec(name)?.[1] ?? 0));
    const latest = Math.max(0, ...versions);
    if (latest === 0) {
      await createKeyFile(this.#path(1), {
        format: 1,
        kind: "server",
        keyId: randomUUID(),
        installationId: this.#installationId,
        version: 1,
        key: randomBytes(keyBytes).toString("base64"),
      });
    }
    await syncFolder(this.#dir);
    return latest === 0 ? 1 : latest;
  }

  async #read(version: number): Promise<ServerKey> {
    const path = this.#path(version);
    const file = await readKeyFile(path);
    if (file === undefined) {
      throw new KeyFolderError("KEY_MISSING", `${path} is missing: tokens derived from it cannot be made again`);
    }
    if (file.installationId !== this.#installationId) {
      throw foreignKeys(path, file.installationId, this.#installationId);
    }
    if (file.kind !== "server" || file.version !== version) {
      throw new KeyFolderError("FILE_INVALID", `${path} is not the key file of server key ${version}: restore it`);
    }
    return { keyId: file.keyId, version, key: Buffer.from(file.key, "base64") };
  }

  #path(version: number): string {
    if (!Number.isSafeInteger(version) || version < 1) {
      throw new RangeError(`${version} is not a version of a server key`);
    }
    return join(this.#dir, `server-${version}.key`);
  }
}

export interface ServerKey {
  readonly keyId: string;
  readonly version: number;
  /** 32 bytes. It is shared: do not overwrite it. */
  readonly key: Buffer;
}

const fileNamePattern = /^server-([1-9][0-9]*)\.key$/;
