/** Begins uploads to Storage leases: where the body ends, or anew, and never for a caller who has gone. */
import { Lease_State, Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { type Caller, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import { maxSealsPerKey } from "../content/sealing.ts";
import { LeaseholdError, notFound } from "../errors/leasehold-error.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import { isLeaseRow, type LeaseRow, requireLive, requireState, requireVariant, stateOf } from "../lease/lease-row.ts";
import type { LeaseAt } from "../lease/lease-service.ts";
import { bodyTooLarge, offsetMismatch } from "./body-refusals.ts";
import { unpackDetails } from "./storage-details.ts";
import { beginUpload, lockLease } from "./storage-statements.ts";
import { StorageUpload, type StorageUploadOptions } from "./storage-upload.ts";

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

/** Begins uploads. */
export class StorageUploads {
  readonly #options: StorageUploadOptions;

  constructor(options: StorageUploadOptions) {
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

type BegunRow = LeaseRow & { readonly now: LeaseAt["now"]; readonly seals_left: boolean };

function mayRestart(row: BegunRow): boolean {
  return row.active_time === null && row.content_bytes > 0n;
}

function refusedBegin(row: BegunRow, start: UploadStart): LeaseholdError {
  requireLive(row, row.now);
  requireVariant(row, Lease_Variant.STORAGE, "body");
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
