/** One file of the key folder: its JSON, how it is created exactly once, and how it is read. */
import { randomBytes } from "node:crypto";
import { link, open, readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { asDiskFull, hasErrorCode } from "./file-errors.ts";
import { KeyFolderError } from "./key-folder-error.ts";
import { keyBytes } from "./sealing.ts";
import { unlinkIfPresent } from "./unlink-if-present.ts";
import { isUuid } from "./uuid-bytes.ts";

/**
 * Gives `path` this content unless it exists; then the existing file stays as it is. Of many processes that create one
 * file at once, exactly one succeeds, and none ever sees a half-written file: the content is on disk under another name
 * before it is linked to its own.
 *
 * The name itself is not durable before the folder is synced, whoever created it: the caller does that before first use.
 */
export async function createKeyFile(path: string, content: KeyFile): Promise<void> {
  const temporaryPath = join(dirname(path), `${temporaryPrefix(basename(path))}${randomBytes(8).toString("hex")}.tmp`);
  try {
    await writeSynced(temporaryPath, `${JSON.stringify(content, null, 2)}\n`);
    await link(temporaryPath, path);
  } catch (error) {
    if (!hasErrorCode(error, "EEXIST")) {
      throw asDiskFull(error);
    }
  } finally {
    await unlinkIfPresent(temporaryPath);
  }
}

/** The file's content, or undefined where there is none. Throws FILE_INVALID for anything that is not a key file. */
export async function readKeyFile(path: string): Promise<KeyFile | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) {
      return undefined;
    }
    throw error;
  }
  const file = parseKeyFile(text);
  if (file === undefined) {
    throw new KeyFolderError("FILE_INVALID", `${path} is not a key file of format ${keyFileFormat}: restore it`);
  }
  return file;
}

/**
 * What the names of unfinished copies of a file start with. After a crash such a copy may be a second name of the very
 * key: destroying the key means removing these too.
 */
export function temporaryPrefix(fileName: string): string {
  return `.${fileName}.`;
}

export type KeyFile = InstallationFile | EpochKeyFile | ServerKeyFile;

export interface InstallationFile {
  readonly format: 1;
  readonly kind: "installation";
  readonly installationId: string;
  readonly epochLengthSeconds: number;
}

interface EpochKeyFile {
  readonly format: 1;
  readonly kind: "epoch";
  readonly keyId: string;
  readonly installationId: string;
  readonly epochStartSeconds: number;
  readonly epochLengthSeconds: number;
  /** 32 bytes in base64. */
  readonly key: string;
}

interface ServerKeyFile {
  readonly format: 1;
  readonly kind: "server";
  readonly keyId: string;
  readonly installationId: string;
  readonly version: number;
  /** 32 bytes in base64. */
  readonly key: string;
}

const keyFileFormat = 1;

async function writeSynced(path: string, text: string): Promise<void> {
  const handle = await open(path, "wx", 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function parseKeyFile(text: string): KeyFile | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) {
      return undefined;
    }
    throw error;
  }
  return isKeyFile(value) ? value : undefined;
}

function isKeyFile(value: unknown): value is KeyFile {
  if (typeof value !== "object" || value === null) {
    return false;
  }
  const fields: Record<string, unknown> = { ...value };
  if (fields.format !== keyFileFormat || !isUuidField(fields.installationId)) {
    return false;
  }
  switch (fields.kind) {
    case "installation":
      return isWholeNumber(fields.epochLengthSeconds);
    case "epoch":
      return hasKey(fields) && isWholeNumber(fields.epochStartSeconds) && isWholeNumber(fields.epochLengthSeconds);
    case "server":
      return hasKey(fields) && isWholeNumber(fields.version);
    default:
      return false;
  }
}

function hasKey(fields: Record<string, unknown>): boolean {
  const key = fields.key;
  return isUuidField(fields.keyId) && typeof key === "string" && Buffer.from(key, "base64").length === keyBytes;
}

function isUuidField(value: unknown): boolean {
  return typeof value === "string" && isUuid(value);
}

function isWholeNumber(value: unknown): boolean {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
