/** A Storage lease's body, opened for reading: its rows, its key and the range that a reader asked for. */
import { ContentCorruptError } from "../content/content-corrupt-error.ts";
import type { ContentStore } from "../content/content-store.ts";
import { readSealedBody, type SealedBody } from "../content/sealed-body.ts";
import type { Database } from "../database/database.ts";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import { endOf, type LeaseRow, leaseEnded } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import { type BodyColumns, findBody } from "./storage-statements.ts";

/** Opens bodies. */
export class StorageBodies {
  readonly #database: Database;
  readonly #store: ContentStore;
  readonly #seals: LeaseSeals;

  constructor(database: Database, store: ContentStore, seals: LeaseSeals) {
    this.#database = database;
    this.#store = store;
    this.#seals = seals;
  }

  /** Reads a body that a statement has just found, in pieces of at most 64 KiB. limitBytes undefined: to the end. */
  async *read(row: LeaseRow & BodyColumns, offset: bigint, limitBytes: bigint | undefined): AsyncGenerator<Buffer> {
    const body: SealedBody = {
      installationId: this.#seals.installationId,
      leaseId: row.lease_id,
      key: await this.#seals.keyOf(row),
      segments: (row.segments ?? []).map(([firstChunk, chunkCount, generation]) => ({
        firstChunk,
        chunkCount,
        generation,
      })),
      tail: row.sealed_tail === null ? undefined : { sealed: row.sealed_tail, final: row.active_time !== null },
    };
    try {
      yield* readSealedBody(this.#store, body, offset, limitBytes);
    } catch (error) {
      throw error instanceof ContentCorruptError ? await this.#ifEnded(row, error) : error;
    }
  }

  /** A file that is gone under a reader is the end of its lease, unless the lease lives: then it is what it looks like. */
  async #ifEnded(row: LeaseRow, error: ContentCorruptError): Promise<Error> {
    const [found] = await this.#database.run(findBody, [row.owner_id, row.lease_id]);
    const end = found === undefined ? undefined : endOf(found, found.now);
    return end === undefined ? error : leaseEnded(end);
  }
}

/**
 * How many bytes a range holds of a body: all behind offset if limit is 0.
 *
 * @throws LeaseholdError RANGE_PAST_END if it starts past the end. At the end it is empty.
 */
export function rangeBytes(contentBytes: bigint, offset: bigint, limit: bigint): bigint {
  if (offset > contentBytes) {
    throw new LeaseholdError("RANGE_PAST_END", `The range starts at ${offset}, past the end at ${contentBytes}.`, {
      metadata: { content_bytes: `${contentBytes}` },
    });
  }
  const rest = contentBytes - offset;
  return limit === 0n || limit > rest ? rest : limit;
}
