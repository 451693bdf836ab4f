/** Owns a file that is being downloaded: it carries another name until it is whole and checked. */
import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, link, open, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";

/** The name that the file is to have is taken. */
export class TargetExistsError extends Error {
  override readonly name = "TargetExistsError";
}

/** An open part file. What an earlier download has left in it counts. */
export class PartFile {
  readonly #file: FileHandle;
  #path: string;
  #sizeBytes: bigint;
  /** Of all that is in the file; undefined once that cannot be known without reading it. */
  #hash: Hash | undefined;

  private constructor(path: string, file: FileHandle, sizeBytes: bigint) {
    this.#path = path;
    this.#file = file;
    this.#sizeBytes = sizeBytes;
    this.#hash = sizeBytes === 0n ? createHash("sha256") : undefined;
  }

  /** Opens the file, or makes it. */
  static async open(path: string): Promise<PartFile> {
    const file = await open(path, "a+");
    return new PartFile(path, file, (await file.stat({ bigint: true })).size);
  }

  get path(): string {
    return this.#path;
  }

  get sizeBytes(): bigint {
    return this.#sizeBytes;
  }

  async append(bytes: Uint8Array): Promise<void> {
    await this.#file.appendFile(bytes);
    this.#hash?.update(bytes);
    this.#sizeBytes += BigInt(bytes.length);
  }

  /** Gives it another name, under which a later download finds it. */
  async moveTo(path: string): Promise<void> {
    await rename(this.#path, path);
    this.#path = path;
  }

  /** Drops what lies beyond. */
  async truncate(sizeBytes: bigint): Promise<void> {
    if (sizeBytes < this.#sizeBytes) {
      await this.#file.truncate(Number(sizeBytes));
      this.#sizeBytes = sizeBytes;
      this.#hash = sizeBytes === 0n ? createHash("sha256") : undefined;
    }
  }

  /** The SHA-256 of what is in the file. */
  async digest(): Promise<Buffer> {
    if (this.#hash !== undefined) {
      return this.#hash.copy().digest();
    }
    const hash = createHash("sha256");
    for await (const chunk of createReadStream(this.#path, { highWaterMark: 1024 * 1024 }) as AsyncIterable<Buffer>) {
      hash.update(chunk);
    }
    return hash.digest();
  }

  /**
   * Gives the file its name, and returns when both are on disk.
   *
   * @throws TargetExistsError if there is a file of that name and it is not to be replaced; the part file stays.
   */
  async complete(target: string, options: { readonly replace: boolean }): Promise<void> {
    await this.#file.sync();
    await this.#file.close();
    if (options.replace) {
      await rename(this.#path, target);
    } else {
      await linkNew(this.#path, target);
      await unlink(this.#path);
    }
    await syncFolder(dirname(target));
  }

  /** Keeps what is there under its present name, and returns when it is on disk; its folder's entry may not be. */
  async settle(): Promise<void> {
    await this.#file.sync();
    await this.#file.close();
  }

  /** Keeps what is there for a later download. */
  async close(): Promise<void> {
    await this.#file.close();
  }

  /** Removes the file. */
  async discard(): Promise<void> {
    await this.#file.close();
    await unlink(this.#path);
  }
}

/** Returns when a folder's entries are on disk. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** A link never replaces a file, where a rename that looks first can. */
async function linkNew(path: string, target: string): Promise<void> {
  try {
    await link(path, target);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") {
      throw new TargetExistsError(`${target} exists`, { cause: error });
    }
    throw error;
  }
}
