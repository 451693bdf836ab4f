/** Files of bodies over 64 KiB: begun by a row, taken by the put, and removed with their rows once no version has them. */
import { type Caller, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import type { ContentStore } from "../content/content-store.ts";
import type { Database } from "../database/database.ts";
import { notFound } from "../errors/leasehold-error.ts";
import type { AccountUuid, LeaseUuid } from "../ids/ids.ts";
import { isLeaseRow, requireLive } from "../lease/lease-row.ts";
import {
  beginFile,
  beginFirstFile,
  countSeals,
  type FileRow,
  findFilesToRemove,
  forgetFile,
  giveUpFile,
  giveUpSilentFiles,
  touchFile,
} from "./checkpoint-file-statements.ts";

/** A file by its number. */
export interface CheckpointFile {
  readonly ownerId: AccountUuid;
  readonly leaseId: LeaseUuid;
  readonly generation: number;
}

/** For how long the writer of a file may say nothing before it is given up, in seconds. */
const silentSeconds = 3_600;
/** How often a writer says that it goes on, in milliseconds. */
export const touchIntervalMs = 600_000;

const firstGeneration = 1;

/**
 * A row is committed before its file exists, and goes in the commit that gives the file to a version. So a crash at any
 * step leaves either no file, or one with a row by which `tidy` finds it.
 */
export class CheckpointFiles {
  readonly #database: Database;
  readonly store: ContentStore;

  constructor(database: Database, store: ContentStore) {
    this.#database = database;
    this.store = store;
  }

  /**
   * Begins a file of a caller's live lease.
   *
   * @throws LeaseholdError NOT_FOUND, LEASE_ENDED, or the refusal of the key.
   */
  async begin(caller: Caller, leaseId: LeaseUuid): Promise<CheckpointFile> {
    const { ownerId, keyId } = caller;
    const values = [ownerId, keyId, scopeBits.write, leaseId];
    const [row] = await this.#database.run(beginFile, values, { repeatable: true });
    requireAccess(row?.access, "write");
    if (row === undefined || !isLeaseRow(row)) {
      throw notFound("lease");
    }
    requireLive(row, row.now);
    if (row.file_generation === null) {
      throw new Error("a live lease gave no number to a file");
    }
    return { ownerId, leaseId, generation: row.file_generation };
  }

  /** Begins the file of the first version of a lease that is about to be made. */
  async beginFirst(ownerId: AccountUuid, leaseId: LeaseUuid): Promise<CheckpointFile> {
    const file = { ownerId, leaseId, generation: firstGeneration };
    await this.#database.run(beginFirstFile, keyOf(file), { repeatable: true });
    return file;
  }

  /** Says that a file is still being written. False if its writer was given up. */
  async touch(file: CheckpointFile): Promise<boolean> {
    const rows = await this.#database.run(touchFile, keyOf(file), { repeatable: true });
    return rows.length > 0;
  }

  /**
   * Gives up a file and removes it, unless a version has it. `seals`: how many the lease's key made for it, which count
   * all the same.
   */
  async giveUp(file: CheckpointFile, seals: number): Promise<void> {
    const given = await this.#database.run(giveUpFile, keyOf(file), { repeatable: true });
    if (given.length > 0) {
      await this.remove(file);
      await this.#database.run(countSeals, [file.ownerId, file.leaseId, seals], { repeatable: true });
    }
  }

  /** Removes a file that no version has any more, and then its row. */
  async remove(file: CheckpointFile): Promise<void> {
    await this.store.removeSegment(file.leaseId, file.generation);
    await this.#database.run(forgetFile, keyOf(file), { repeatable: true });
  }

  /** Finishes what crashes have left: files whose writers are silent, and files that were pushed out. */
  async tidy(limit: number): Promise<number> {
    await this.#database.run(giveUpSilentFiles, [limit, silentSeconds], { repeatable: true });
    const rows = await this.#database.run(findFilesToRemove, [limit]);
    for (const row of rows) {
      await this.remove(fileOf(row));
    }
    return rows.length;
  }
}

function keyOf(file: CheckpointFile): readonly unknown[] {
  return [file.ownerId, file.leaseId, file.generation];
}

function fileOf(row: FileRow): CheckpointFile {
  return { ownerId: row.owner_id, leaseId: row.lease_id, generation: row.file_generation };
}
