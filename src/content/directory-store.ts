/** A content store in a directory: `<root>/<last byte of the lease id in hex>/<lease id>/<generation>.segment`. */
import type { Dirent } from "node:fs";
import { mkdir, open, readdir, rm, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { ContentStore, SegmentReader, SegmentWriter } from "./content-store.ts";
import { DirectorySegmentReader, DirectorySegmentWriter } from "./directory-segment.ts";
import { asDiskFull, hasErrorCode } from "./file-errors.ts";
import { makeSyncedFolder, syncFolder } from "./folder-sync.ts";
import { unlinkIfPresent } from "./unlink-if-present.ts";
import { assertUuid, isUuid } from "./uuid-bytes.ts";

/**
 * Several servers may share one directory, on one machine or a network mount that honours fsync and exclusive creation.
 * The last byte of a lease id is random, so the 256 folders under the root fill evenly.
 */
export class DirectoryStore implements ContentStore {
  readonly #root: string;

  private constructor(root: string) {
    this.#root = root;
  }

  /** Makes the directory, for its owner only, if it is missing. */
  static async open(dir: string): Promise<DirectoryStore> {
    const root = resolve(dir);
    await makeSyncedFolder(root);
    return new DirectoryStore(root);
  }

  async createSegment(leaseId: string, generation: number): Promise<SegmentWriter> {
    const path = this.#segmentPath(leaseId, generation);
    const shardFolder = this.#shardFolder(leaseId);
    const leaseFolder = this.#leaseFolder(leaseId);
    for (let attempt = 1; ; attempt += 1) {
      try {
        await mkdir(leaseFolder, { recursive: true, mode: 0o700 });
        const file = await open(path, "wx", 0o600);
        return new DirectorySegmentWriter(file, path, [leaseFolder, shardFolder, this.#root]);
      } catch (error) {
        // Between the two calls the lease's folder may have been destroyed.
        if (!hasErrorCode(error, "ENOENT") || attempt === 3) {
          throw asDiskFull(error);
        }
      }
    }
  }

  openSegment(leaseId: string, generation: number): Promise<SegmentReader> {
    return DirectorySegmentReader.open(this.#segmentPath(leaseId, generation));
  }

  /** A reader that has a file open keeps its sealed bytes on the disk until it closes it. */
  async destroyLeases(leaseIds: readonly string[]): Promise<void> {
    const leaseFolders = leaseIds.map((leaseId) => this.#leaseFolder(leaseId));
    for (let first = 0; first < leaseFolders.length; first += destroyedAtOnce) {
      const some = leaseFolders.slice(first, first + destroyedAtOnce);
      await Promise.all(some.map((folder) => rm(folder, { recursive: true, force: true, maxRetries: 3 })));
    }
    for (const shardFolder of new Set(leaseIds.map((leaseId) => this.#shardFolder(leaseId)))) {
      // Also where nothing was left to remove: an earlier run may have been cut short before its sync.
      await syncIfPresent(shardFolder);
    }
  }

  /** Not synced: a segment that is back after a power failure is in nobody's way, and goes with its lease. */
  async removeEarlierSegments(leaseId: string, generation: number): Promise<void> {
    const leaseFolder = this.#leaseFolder(leaseId);
    for (const name of await namesIn(leaseFolder)) {
      const found = segmentPattern.exec(name)?.[1];
      if (found !== undefined && Number(found) < generation) {
        await unlinkIfPresent(join(leaseFolder, name));
      }
    }
  }

  async removeSegment(leaseId: string, generation: number): Promise<void> {
    await unlinkIfPresent(this.#segmentPath(leaseId, generation));
    await syncIfPresent(this.#leaseFolder(leaseId));
  }

  async *listLeaseIds(unchangedSince: Date): AsyncGenerator<string, void, undefined> {
    for (const shard of await foldersIn(this.#root)) {
      if (!shardPattern.test(shard)) {
        continue;
      }
      for (const leaseId of await foldersIn(join(this.#root, shard))) {
        if (isUuid(leaseId) && leaseId.endsWith(shard) && (await this.#isUnchangedSince(leaseId, unchangedSince))) {
          yield leaseId;
        }
      }
    }
  }

  async #isUnchangedSince(leaseId: string, time: Date): Promise<boolean> {
    try {
      return (await stat(this.#leaseFolder(leaseId))).mtimeMs < time.getTime();
    } catch (error) {
      if (hasErrorCode(error, "ENOENT")) {
        return false;
      }
      throw error;
    }
  }

  #shardFolder(leaseId: string): string {
    return join(this.#root, leaseId.slice(-2));
  }

  /** The id is checked here, so that no other text ever becomes part of a path. */
  #leaseFolder(leaseId: string): string {
    assertUuid(leaseId);
    return join(this.#shardFolder(leaseId), leaseId);
  }

  #segmentPath(leaseId: string, generation: number): string {
    if (!Number.isSafeInteger(generation) || generation < 0) {
      throw new RangeError(`generation ${generation} is not a whole number from 0`);
    }
    return join(this.#leaseFolder(leaseId), `${generation}.segment`);
  }
}

const destroyedAtOnce = 16;
const shardPattern = /^[0-9a-f]{2}$/;
const segmentPattern = /^(\d+)\.segment$/;

async function syncIfPresent(folder: string): Promise<void> {
  try {
    await syncFolder(folder);
  } catch (error) {
    if (!hasErrorCode(error, "ENOENT")) {
      throw error;
    }
  }
}

async function foldersIn(folder: string): Promise<string[]> {
  return (await entriesIn(folder)).filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}

async function namesIn(folder: string): Promise<string[]> {
  return (await entriesIn(folder)).map((entry) => entry.name);
}

/** Nothing for a folder that was removed meanwhile. */
async function entriesIn(folder: string): Promise<Dirent[]> {
  try {
    return await readdir(folder, { withFileTypes: true });
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) {
      return [];
    }
    throw error;
  }
}
