/** One upload to a Storage lease: begins where the body ends, seals what arrives, and commits it once it is synced. */
import { createHash, type Hash } from "node:crypto";
import { Lease_State, Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { type Caller, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import { chunkBytes } from "../content/chunk-layout.ts";
import type { ContentStore } from "../content/content-store.ts";
import { openTail, sealTail } from "../content/sealed-body.ts";
import { SealedSegmentWriter } from "../content/sealed-segment.ts";
import { maxSealsPerKey } from "../content/sealing.ts";
import type { Database } from "../database/database.ts";
import { LeaseholdError, notFound } from "../errors/leasehold-error.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import { isLeaseRow, type LeaseRow, requireLive, requireState, stateOf } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import type { LeaseAt } from "../lease/lease-service.ts";
import { requireStorage } from "./require-storage.ts";
import type { StorageBodies } from "./storage-body.ts";
import { packDetails, unpackDetails } from "./storage-details.ts";
import { beginUpload, commitUpload, findBody, lockLease } from "./storage-statements.ts";

/** What uploads need. */
export interface StorageUploadsOptions {
  readonly database: Database;
  readonly seals: LeaseSeals;
  readonly store: ContentStore;
  readonly bodies: StorageBodies;
}

/** Where an upload starts, and what is known of it. */
export interface UploadStart {
  /** Must be the offset stored. */
  readonly offset: bigint;
  /** Whether an offset of 0 drops what is stored, instead. */
  readonly restart: boolean;
  /** How many bytes are sure to come. If they do not fit, nothing is begun. */
  readonly leastBytes: bigint;
  /** How many may come. Undefined: as many as fit. */
  readonly mostBytes: bigint | undefined;
  /** Of the call. One whose peer has hung up begins nothing: a later upload may have taken its place. */
  readonly signal: AbortSignal;
  /** What the whole body is, if this ends it and its SHA-256 was sent ahead. */
  readonly whole?: { readonly bodyBytes: bigint; readonly sha256: Uint8Array } | undefined;
}

/** A Content-Length may be larger than a column of 64 bits. No lease is. */
const mostBytesTold = 2n ** 62n;

/** How much of a stream may be lost to a crash: it is synced and committed each time this much has arrived. */
const commitEveryBytes = 64n * 1024n * 1024n;

/** Begins uploads. */
export class StorageUploads {
  readonly #options: StorageUploadsOptions;

  constructor(options: StorageUploadsOptions) {
    this.#options = options;
  }

  /**
   * Begins to write. From now on every earlier writer of the lease fails. What is refused changes nothing: neither what
   * is stored, nor who is writing.
   *
   * A lease that is active with just this whole body is given as it is: the answer to an earlier finish may have been
   * lost, and its repeat has nothing left to do.
   *
   * @throws LeaseholdError OFFSET_MISMATCH, BODY_TOO_LARGE, LEASE_ENDED, WRONG_STATE, WRONG_VARIANT, LIMIT_REACHED,
   * NOT_FOUND.
   */
  async begin(caller: Caller, leaseId: LeaseUuid, start: UploadStart): Promise<StorageUpload | LeaseAt> {
    start.signal.throwIfAborted();
    let row = await this.#begin(caller, leaseId, start, false);
    start.signal.throwIfAborted();
    if (row.upload_generation === null && start.restart && start.offset === 0n && mayRestart(row)) {
      row = await this.#begin(caller, leaseId, start, true);
      if (row.upload_generation !== null) {
        await this.#options.store.removeEarlierSegments(leaseId, row.upload_generation);
      }
    }
    if (row.upload_generation === null) {
      if (await this.#isFinished(row, start)) {
        return { lease: row, now: row.now };
      }
      throw refusedBegin(row, start);
    }
    return await StorageUpload.open(this.#options, caller, row, {
      generation: row.upload_generation,
      sealedTail: row.sealed_tail,
      now: row.now,
    });
  }

  async #isFinished(row: BegunRow, { whole }: UploadStart): Promise<boolean> {
    if (whole === undefined || whole.sha256.length === 0 || row.variant !== Lease_Variant.STORAGE) {
      return false;
    }
    if (stateOf(row, row.now) !== Lease_State.ACTIVE || row.content_bytes !== whole.bodyBytes) {
      return false;
    }
    const { sha256 } = unpackDetails(await this.#options.seals.openDetails(row));
    return Buffer.compare(sha256, whole.sha256) === 0;
  }

  async #begin(caller: Caller, leaseId: LeaseUuid, start: UploadStart, restart: boolean) {
    const values = [
      caller.ownerId,
      caller.keyId,
      scopeBits.write,
      leaseId,
      start.offset,
      restart,
      maxSealsPerKey,
      start.leastBytes < mostBytesTold ? start.leastBytes : mostBytesTold,
      start.mostBytes ?? null,
    ];
    const [row] = restart
      ? await this.#options.database.transaction(
          async (transaction) => {
            await transaction.run(lockLease, [caller.ownerId, leaseId]);
            return await transaction.run(beginUpload, values);
          },
          { repeatable: true },
        )
      : await this.#options.database.run(beginUpload, values, { repeatable: true });
    requireAccess(row?.access, "write");
    if (row === undefined || !isLeaseRow(row)) {
      throw notFound("lease");
    }
    return restart && row.upload_generation !== null ? { ...row, content_bytes: 0n } : row;
  }
}

interface Writing {
  readonly generation: number;
  readonly sealedTail: Buffer | null;
  readonly now: LeaseAt["now"];
}

/** An upload under way. One call at a time; `finish` or `suspend` ends it. */
export class StorageUpload {
  readonly #options: StorageUploadsOptions;
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

  private constructor(options: StorageUploadsOptions, caller: Caller, lease: LeaseRow, writing: Writing, key: Buffer) {
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
    options: StorageUploadsOptions,
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

/** The error of data that does not have the checksum sent with it. */
export function checksumMismatch(field: string): LeaseholdError {
  return new LeaseholdError("CHECKSUM_MISMATCH", `The data does not have the ${field} sent with it: send it again.`, {
    metadata: { field },
  });
}

/** The error of data that does not follow what is stored. */
export function offsetMismatch(offset: bigint, storedOffset: bigint): LeaseholdError {
  return new LeaseholdError(
    "OFFSET_MISMATCH",
    `Data was sent for offset ${offset}, and ${storedOffset} is next: go on from there.`,
    {
      metadata: { stored_offset: `${storedOffset}` },
    },
  );
}

function superseded(storedOffset: bigint): LeaseholdError {
  return new LeaseholdError(
    "STREAM_SUPERSEDED",
    `A later upload took this one's place, and ${storedOffset} bytes are stored.`,
    {
      metadata: { stored_offset: `${storedOffset}` },
    },
  );
}

type BegunRow = LeaseRow & { readonly now: LeaseAt["now"]; readonly seals_left: boolean };

function mayRestart(row: BegunRow): boolean {
  return row.active_time === null && row.content_bytes > 0n;
}

function refusedBegin(row: BegunRow, start: UploadStart): LeaseholdError {
  requireLive(row, row.now);
  requireStorage(row);
  requireState(row, row.now, Lease_State.CREATED);
  if (!row.seals_left) {
    return new LeaseholdError("LIMIT_REACHED", "The lease's key has sealed as often as it may: make a new lease.", {
      metadata: { limit: "seals_per_lease", limit_value: `${maxSealsPerKey}` },
    });
  }
  const { offset, leastBytes } = start;
  if (offset !== row.content_bytes && !(start.restart && offset === 0n)) {
    return offsetMismatch(offset, row.content_bytes);
  }
  return bodyTooLarge(row, offset + leastBytes);
}

function bodyTooLarge(lease: LeaseRow, bodyBytes: bigint): LeaseholdError {
  const { size_bytes } = lease;
  return new LeaseholdError(
    "BODY_TOO_LARGE",
    `The body is at least ${bodyBytes} bytes, and the lease has room for ${size_bytes}: finish it, or make a larger lease.`,
    { metadata: { limit: "size_bytes", limit_bytes: `${size_bytes}`, value_bytes: `${bodyBytes}` } },
  );
}

/** How many whole chunks lie before the tail of a body: the tail is its last chunk, full or not. */
function chunksBeforeTail(bytes: bigint): number {
  return bytes === 0n ? 0 : Number((bytes - 1n) / BigInt(chunkBytes));
}
