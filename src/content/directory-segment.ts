/** A segment as a file: how it is written so that what was synced stays, and how it is read. */
import { type FileHandle, open } from "node:fs/promises";
import { sealedChunkBytes } from "./chunk-layout.ts";
import { ContentCorruptError } from "./content-corrupt-error.ts";
import type { SegmentReader, SegmentWriter } from "./content-store.ts";
import { asDiskFull, hasErrorCode } from "./file-errors.ts";
import { syncFolder } from "./folder-sync.ts";
import { unlinkIfPresent } from "./unlink-if-present.ts";

/** How much is written before the disk is told to begin, in bytes. */
const writeBackBytes = 16 * 1024 * 1024;

/**
 * The file is created under its final name, and only if there is none. A temporary name and a rename would add a step
 * and a state after a crash, and prove nothing: rows say how many chunks count, a file grows through many commits, and
 * no reader opens a file that no committed row names. That the name must be new is what keeps a second writer of the
 * same generation out.
 */
export class DirectorySegmentWriter implements SegmentWriter {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #folders: readonly string[];
  #lengthBytes = 0;
  #unsyncedBytes = 0;
  #writingBack: Promise<void> | undefined;
  #namesSynced = false;
  #syncFailure: unknown;
  #closed = false;

  /** `folders` are those whose entries lead to the file, to be synced with it. */
  constructor(file: FileHandle, path: string, folders: readonly string[]) {
    this.#file = file;
    this.#path = path;
    this.#folders = folders;
  }

  /** Writes behind what was appended before and nowhere else, so it never changes a byte that may count already. */
  async append(sealedChunks: Uint8Array): Promise<void> {
    if (sealedChunks.length % sealedChunkBytes !== 0) {
      throw new RangeError(`${sealedChunks.length} bytes are not whole chunks of ${sealedChunkBytes}`);
    }
    try {
      await writeFully(this.#file, sealedChunks, this.#lengthBytes);
    } catch (error) {
      await this.#giveBackUnfinished();
      throw asDiskFull(error);
    }
    this.#lengthBytes += sealedChunks.length;
    this.#unsyncedBytes += sealedChunks.length;
    if (this.#unsyncedBytes >= writeBackBytes) {
      this.#writeBack();
    }
  }

  async sync(): Promise<void> {
    await this.#writingBack;
    if (this.#syncFailure !== undefined) {
      throw this.#syncFailure;
    }
    try {
      await this.#file.datasync();
      if (!this.#namesSynced) {
        for (const folder of this.#folders) {
          await syncFolder(folder);
        }
        this.#namesSynced = true;
      }
    } catch (error) {
      this.#syncFailure = asDiskFull(error);
      throw this.#syncFailure;
    }
  }

  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      await this.#writingBack;
      await this.#file.close();
    }
  }

  async discard(keepChunks: number): Promise<void> {
    const keepBytes = keepChunks * sealedChunkBytes;
    try {
      if (keepBytes < this.#lengthBytes && keepBytes > 0) {
        await this.#file.truncate(keepBytes);
      }
    } finally {
      await this.close();
    }
    if (keepBytes === 0) {
      await unlinkIfPresent(this.#path);
    }
  }

  /** Has the disk write while the next bytes arrive, so that `sync` waits for the last of them only. */
  #writeBack(): void {
    if (this.#writingBack !== undefined) {
      return;
    }
    this.#unsyncedBytes = 0;
    this.#writingBack = this.#file
      .datasync()
      .catch((error: unknown) => {
        this.#syncFailure = asDiskFull(error);
      })
      .finally(() => {
        this.#writingBack = undefined;
      });
  }

  /** A full disk gets its room back at once. */
  async #giveBackUnfinished(): Promise<void> {
    try {
      await this.#file.truncate(this.#lengthBytes);
    } catch {
      // The failed append is what the caller must learn of; bytes behind the counted ones are never read, and the next
      // append writes over them.
      return;
    }
  }
}

export class DirectorySegmentReader implements SegmentReader {
  readonly #file: FileHandle;
  readonly #path: string;

  private constructor(file: FileHandle, path: string) {
    this.#file = file;
    this.#path = path;
  }

  static async open(path: string): Promise<DirectorySegmentReader> {
    try {
      return new DirectorySegmentReader(await open(path, "r"), path);
    } catch (cause) {
      if (hasErrorCode(cause, "ENOENT")) {
        throw new ContentCorruptError("MISSING", `${path} is missing`, { cause });
      }
      throw cause;
    }
  }

  async read(firstIndex: number, count: number, target: Buffer): Promise<Buffer> {
    const wanted = target.subarray(0, count * sealedChunkBytes);
    if (wanted.length !== count * sealedChunkBytes) {
      throw new RangeError(`${count} sealed chunks do not fit into ${target.length} bytes`);
    }
    const offset = firstIndex * sealedChunkBytes;
    for (let done = 0; done < wanted.length; ) {
      const { bytesRead } = await this.#file.read(wanted, done, wanted.length - done, offset + done);
      if (bytesRead === 0) {
        const last = firstIndex + count - 1;
        throw new ContentCorruptError(
          "TRUNCATED",
          `${this.#path} ends at ${offset + done}, before its chunk ${last} does`,
        );
      }
      done += bytesRead;
    }
    return wanted;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

async function writeFully(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}
