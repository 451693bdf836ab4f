/** One upload to a Storage lease: seals what arrives, and commits it once it is synced. */
import { createHash, type Hash } from "node:crypto";
import { Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { type Caller, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import { chunkBytes } from "../content/chunk-layout.ts";
import type { ContentStore } from "../content/content-store.ts";
import { openTail, sealTail } from "../content/sealed-body.ts";
import { SealedSegmentWriter } from "../content/sealed-segment.ts";
import type { Database } from "../database/database.ts";
import { checksumMismatch, LeaseholdError, notFound } from "../errors/leasehold-error.ts";
import { isLeaseRow, type LeaseRow, requireState } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import type { LeaseAt } from "../lease/lease-service.ts";
import { bodyTooLarge, superseded } from "./body-refusals.ts";
import type { StorageBodies } from "./storage-body.ts";
import { packDetails, unpackDetails } from "./storage-details.ts";
import { commitUpload, findBody } from "./storage-statements.ts";

/** What an upload needs. */
export interface StorageUploadOptions {
  readonly database: Database;
  readonly seals: LeaseSeals;
  readonly store: ContentStore;
  readonly bodies: StorageBodies;
}

/** How much of a stream may be lost to a crash: it is synced and committed each time this much has arrived. */
const commitEveryBytes = 64n * 1024n * 1024n;

interface Writing {
  readonly generation: number;
  readonly sealedTail: Buffer | null;
  readonly now: LeaseAt["now"];
}

/** An upload under way. One call at a time; `finish` or `suspend` ends it. */
export class StorageUpload {
  readonly #options: StorageUploadOptions;
  readonly #caller: Caller;
  readonly #writer: SealedSegmentWriter;
  readonly #key: Buffer;
  readonly #writing: Writing;
  readonly #firstChunk: number;
  /** Of the whole body so far; undefined once it cannot be known without reading the body again. */
  readonly #hash: Hash | undefined;
  #lease: LeaseRow;
  #now: LeaseAt["now"];
  #committedBytes: bigint;
  /** How many chunks a committed row counts on, or may count on because the answer to its commit was lost. */
  #keepChunks = 0;
  #receivedBytes: bigint;

  private constructor(options: StorageUploadOptions, caller: Caller, lease: LeaseRow, writing: Writing, key: Buffer) {
    this.#options = options;
    this.#caller = caller;
    this.#lease = lease;
    this.#now = writing.now;
    this.#writing = writing;
    this.#key = key;
    this.#committedBytes = lease.content_bytes;
    this.#receivedBytes = lease.content_bytes;
    this.#firstChunk = chunksBeforeTail(lease.content_bytes);
    this.#hash = lease.content_bytes === 0n ? createHash("sha256") : undefined;
    this.#writer = new SealedSegmentWriter({
      store: options.store,
      key,
      installationId: options.seals.installationId,
      leaseId: lease.lease_id,
      generation: writing.generation,
      firstChunk: this.#firstChunk,
    });
  }

  static async open(
    options: StorageUploadOptions,
    caller: Caller,
    lease: LeaseRow,
    writing: Writing,
  ): Promise<StorageUpload> {
    const key = await options.seals.keyOf(lease);
    const upload = new StorageUpload(options, caller, lease, writing, key);
    if (writing.sealedTail !== null) {
      await upload.#writer.append(openTail(upload.#owner(), writing.sealedTail, upload.#firstChunk, false));
    }
    return upload;
  }

  /** The lease, as the last statement showed it. */
  get lease(): LeaseRow {
    return this.#lease;
  }

  /** When that was, by the database's clock. */
  get now(): LeaseAt["now"] {
    return this.#now;
  }

  /** How much of the body has arrived, in bytes: where the next data goes. */
  get receivedBytes(): bigint {
    return this.#receivedBytes;
  }

  #requireRoom(moreBytes: bigint): void {
    const received = this.#receivedBytes + moreBytes;
    if (received > this.#lease.size_bytes) {
      throw bodyTooLarge(this.#lease, received);
    }
  }

  /**
   * Takes the bytes that follow those received.
   *
   * @throws LeaseholdError BODY_TOO_LARGE if they do not fit the lease: none of them is kept. DISK_FULL. Whatever a
   * commit is refused for.
   */
  async append(data: Uint8Array): Promise<void> {
    this.#requireRoom(BigInt(data.length));
    this.#hash?.update(data);
    await this.#writer.append(data);
    this.#receivedBytes += BigInt(data.length);
    if (this.#receivedBytes - this.#committedBytes >= commitEveryBytes) {
      await this.#commit(undefined);
    }
  }

  /**
   * Ends the body here and makes the lease active. Reading the body again, where that is needed, ends with the signal.
   *
   * @throws LeaseholdError CHECKSUM_MISMATCH if the whole body does not have this SHA-256. The lease stays CREATED, with
   * all that arrived.
   */
  async finish(expectedSha256: Uint8Array, signal: AbortSignal): Promise<LeaseAt> {
    const sha256 = this.#hash === undefined ? await this.#hashStored(signal) : this.#hash.digest();
    if (expectedSha256.length > 0 && !sha256.equals(expectedSha256)) {
      await this.#commit(undefined);
      throw checksumMismatch("sha256");
    }
    const specified = unpackDetails(await this.#options.seals.openDetails(this.#lease));
    const details = packDetails({ fileName: specified.fileName, contentType: specified.contentType, sha256 });
    const finished = await this.#commit(await this.#options.seals.sealDetails(this.#lease, details));
    await this.#writer.close();
    return finished;
  }

  /** Keeps what has arrived, so that the upload can go on later, and ends this writer. */
  async suspend(): Promise<LeaseAt> {
    if (this.#receivedBytes > this.#committedBytes) {
      await this.#commit(undefined);
    }
    await this.#writer.close();
    return { lease: this.#lease, now: this.#now };
  }

  /** Ends this writer after a failure, keeping what has arrived if that is still possible. Never throws. */
  async abandon(): Promise<void> {
    try {
      await this.suspend();
    } catch (error) {
      // Superseded, disk full or database away: what is committed stays, the rest gives its room back. Of a lease that
      // has ended nothing stays.
      const hasEnded = error instanceof LeaseholdError && error.reason === "LEASE_ENDED";
      await this.#writer.discard(hasEnded ? 0 : this.#keepChunks).catch(() => undefined);
    }
  }

  /** Syncs what arrived, and moves the stored offset to it. */
  async #commit(sealedDetails: Buffer | undefined): Promise<LeaseAt> {
    await this.#writer.sync();
    const chunkCount = this.#writer.chunkCount;
    const final = sealedDetails !== undefined;
    const tail = sealTail(this.#owner(), this.#writer.tail, this.#firstChunk + chunkCount, final);
    const keptBefore = this.#keepChunks;
    this.#keepChunks = chunkCount;
    const [row] = await this.#options.database.run(
      commitUpload,
      [
        this.#caller.ownerId,
        this.#caller.keyId,
        scopeBits.write,
        this.#lease.lease_id,
        this.#writing.generation,
        this.#committedBytes,
        this.#receivedBytes,
        tail,
        this.#firstChunk,
        chunkCount,
        sealedDetails,
      ],
      { repeatable: true },
    );
    requireAccess(row?.access, "write");
    if (row === undefined || !isLeaseRow(row)) {
      throw notFound("lease");
    }
    if (!row.moved) {
      this.#keepChunks = keptBefore;
      requireState(row, row.now, Lease_State.CREATED);
      throw superseded(row.content_bytes);
    }
    this.#lease = row;
    this.#now = row.now;
    this.#committedBytes = this.#receivedBytes;
    return { lease: row, now: row.now };
  }

  /** The SHA-256 of a body of which an earlier writer wrote a part: all of it is read again. */
  async #hashStored(signal: AbortSignal): Promise<Buffer> {
    await this.#commit(undefined);
    const [row] = await this.#options.database.run(findBody, [this.#lease.owner_id, this.#lease.lease_id]);
    if (row === undefined) {
      throw notFound("lease");
    }
    requireState(row, row.now, Lease_State.CREATED);
    const hash = createHash("sha256");
    try {
      for await (const piece of this.#options.bodies.read(row, 0n, undefined)) {
        signal.throwIfAborted();
        hash.update(piece);
      }
    } catch (error) {
      // A later upload that started anew has removed what was being read: it is that one's word, if there is one.
      await this.#commit(undefined);
      throw error;
    }
    return hash.digest();
  }

  #owner() {
    return { installationId: this.#options.seals.installationId, leaseId: this.#lease.lease_id, key: this.#key };
  }
}

/** How many whole chunks lie before the tail of a body: the tail is its last chunk, full or not. */
function chunksBeforeTail(bytes: bigint): number {
  return bytes === 0n ? 0 : Number((bytes - 1n) / BigInt(chunkBytes));
}
