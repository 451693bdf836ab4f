/** Seals a body that is to become a version: up to 64 KiB for its row, and what is before them into a file. */
import { createHash, randomUUID } from "node:crypto";
import { chunkBytes } from "../content/chunk-layout.ts";
import { type SealedBodyOwner, sealTail } from "../content/sealed-body.ts";
import { SealedSegmentWriter } from "../content/sealed-segment.ts";
import { seal } from "../content/sealing.ts";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import { packVersion, type VersionDetails, versionPart } from "./checkpoint-details.ts";
import { type CheckpointFile, type CheckpointFiles, touchIntervalMs } from "./checkpoint-files.ts";

/** A body as it is put. */
export interface SealedVersion {
  readonly bodyId: string;
  readonly bodyBytes: bigint;
  readonly fileGeneration: number | null;
  readonly fileChunks: number;
  readonly sealedDetails: Buffer;
  readonly sealedTail: Buffer;
}

/** What a writer needs. */
export interface CheckpointWriterOptions {
  readonly seals: LeaseSeals;
  readonly files: CheckpointFiles;
  readonly leaseId: LeaseUuid;
  /** The lease's key. */
  readonly key: Uint8Array;
  /** The largest body. */
  readonly sizeBytes: bigint;
  /** Begins the body's file. Called once, and only for a body over 64 KiB. */
  readonly beginFile: () => Promise<CheckpointFile>;
}

/**
 * Writes one body. One call at a time. Memory is 64 KiB for a body that fits, and else that of a SealedSegmentWriter.
 * `keep` or `discard` ends it.
 */
export class CheckpointWriter {
  readonly #options: CheckpointWriterOptions;
  readonly #owner: SealedBodyOwner & { readonly bodyId: string };
  readonly #hash = createHash("sha256");
  #head: Uint8Array[] = [];
  #receivedBytes = 0n;
  #file: CheckpointFile | undefined;
  #segment: SealedSegmentWriter | undefined;
  #touchedAtMs = performance.now();

  constructor(options: CheckpointWriterOptions) {
    const { seals, leaseId, key } = options;
    this.#options = options;
    this.#owner = { installationId: seals.installationId, leaseId, key, bodyId: randomUUID() };
  }

  get receivedBytes(): bigint {
    return this.#receivedBytes;
  }

  /**
   * Takes the bytes that follow those received.
   *
   * @throws LeaseholdError BODY_TOO_LARGE, DISK_FULL, STREAM_SUPERSEDED, or whatever the file's beginning is refused for.
   */
  async append(data: Uint8Array): Promise<void> {
    const received = this.#receivedBytes + BigInt(data.length);
    requireRoom(this.#options.sizeBytes, received);
    this.#hash.update(data);
    this.#receivedBytes = received;
    if (this.#segment === undefined && received <= chunkBytes) {
      this.#head.push(data);
      return;
    }
    this.#segment ??= await this.#begin();
    await this.#segment.append(data);
    await this.#touch(this.#file);
  }

  /** The SHA-256 of what was received. Nothing can be appended after. */
  digest(): Buffer {
    return this.#hash.digest();
  }

  /** Seals the body's end and what is said of it, once all that is before it is on the disk. */
  async seal(details: VersionDetails): Promise<SealedVersion> {
    const { seals, leaseId, key } = this.#options;
    await this.#segment?.sync();
    const chunks = this.#segment?.chunkCount ?? 0;
    const { bodyId } = this.#owner;
    return {
      bodyId,
      bodyBytes: this.#receivedBytes,
      fileGeneration: chunks === 0 ? null : (this.#file?.generation ?? null),
      fileChunks: chunks,
      sealedDetails: seal(key, packVersion(details), seals.context(leaseId, versionPart(bodyId))),
      sealedTail: sealTail(this.#owner, this.#segment?.tail ?? oneOf(this.#head), chunks, true),
    };
  }

  /** Ends the writer and leaves the file, which a version has or may have. */
  async keep(): Promise<void> {
    await this.#segment?.close();
  }

  /** Ends the writer and removes the file. Never throws: what cannot be removed now is tidied later. */
  async discard(): Promise<void> {
    try {
      await this.#segment?.discard(0);
      if (this.#file !== undefined) {
        await this.#options.files.giveUp(this.#file, this.#segment?.chunkCount ?? 0);
      }
    } catch {
      // The database or the disk is away. The file's row stays, and is found by it when its time is over.
      return;
    }
  }

  async #begin(): Promise<SealedSegmentWriter> {
    this.#file = await this.#options.beginFile();
    const { generation } = this.#file;
    const { store } = this.#options.files;
    const segment = new SealedSegmentWriter({ ...this.#owner, store, generation, firstChunk: 0 });
    for (const piece of this.#head) {
      await segment.append(piece);
    }
    this.#head = [];
    return segment;
  }

  async #touch(file: CheckpointFile | undefined): Promise<void> {
    if (file !== undefined && performance.now() - this.#touchedAtMs >= touchIntervalMs) {
      this.#touchedAtMs = performance.now();
      if (!(await this.#options.files.touch(file))) {
        throw writerGivenUp();
      }
    }
  }
}

/** @throws LeaseholdError BODY_TOO_LARGE. */
export function requireRoom(sizeBytes: bigint, bodyBytes: bigint): void {
  if (bodyBytes > sizeBytes) {
    throw new LeaseholdError(
      "BODY_TOO_LARGE",
      `The body is at least ${bodyBytes} bytes, and the lease has room for ${sizeBytes}: make it smaller, or make a larger lease.`,
      { metadata: { limit: "size_bytes", limit_bytes: `${sizeBytes}`, value_bytes: `${bodyBytes}` } },
    );
  }
}

/** The error of a writer that was silent for so long that its file was removed. */
export function writerGivenUp(): LeaseholdError {
  return new LeaseholdError("STREAM_SUPERSEDED", "The body was silent for too long, and was given up: put it again.", {
    metadata: { stored_offset: "0" },
  });
}

function oneOf(pieces: readonly Uint8Array[]): Uint8Array {
  const [only] = pieces;
  return only !== undefined && pieces.length === 1 ? only : Buffer.concat(pieces);
}
