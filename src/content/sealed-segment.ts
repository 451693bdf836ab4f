/** Turns a stream of plaintext into sealed chunks of one segment, and holds back the chunk that may be the last. */
import { batchChunks, chunkBytes, chunkContext, sealedChunkBytes } from "./chunk-layout.ts";
import type { ContentStore, SegmentWriter } from "./content-store.ts";
import { sealInto } from "./sealing.ts";

/**
 * A chunk is sealed when a byte behind it arrives; until then it is the tail, which belongs in the row. So a body of up
 * to 64 KiB never makes a file. One call at a time.
 *
 * Memory is one chunk of plaintext and, from the first sealed chunk on, two batches of 1 MiB: one is filled while the
 * other is being written. After a failed write every call rejects with that failure, except `close` and `discard`.
 *
 * End every writer with `close` or `discard`: Node throws, out of any call, when it collects a file left open.
 */
export class SealedSegmentWriter {
  readonly #options: SealedSegmentOptions;
  readonly #tail = Buffer.allocUnsafeSlow(chunkBytes);
  #tailLength = 0;
  #chunkCount = 0;
  #segment: SegmentWriter | undefined;
  #filling: Buffer | undefined;
  #filledLength = 0;
  #spare: Buffer | undefined;
  #writing: Promise<void> = Promise.resolve();
  #failure: { readonly error: unknown } | undefined;

  constructor(options: SealedSegmentOptions) {
    this.#options = options;
  }

  /** Chunks of this segment sealed so far. They count once `sync` has resolved and a row says so. */
  get chunkCount(): number {
    return this.#chunkCount;
  }

  /** The plaintext that follows the sealed chunks, 0 to 65,536 bytes. Valid until the next `append` or the end. */
  get tail(): Buffer {
    return this.#tail.subarray(0, this.#tailLength);
  }

  /** Takes plaintext of any length. Copies it, so the caller may reuse the buffer. Waits while both batches are full. */
  async append(plaintext: Uint8Array): Promise<void> {
    for (let taken = 0; taken < plaintext.length; ) {
      if (this.#tailLength === chunkBytes) {
        await this.#sealTail();
      }
      const part = plaintext.subarray(taken, taken + chunkBytes - this.#tailLength);
      this.#tail.set(part, this.#tailLength);
      this.#tailLength += part.length;
      taken += part.length;
    }
  }

  /** Resolves when all sealed chunks survive a power failure. Commit the row with `chunkCount` and `tail` after it. */
  async sync(): Promise<void> {
    await this.#startWriting();
    await this.#finishWriting();
    await this.#segment?.sync();
  }

  /** Ends the writer and leaves what was written. */
  async close(): Promise<void> {
    await this.#writing;
    this.#tail.fill(0);
    await this.#segment?.close();
  }

  /** Ends the writer and gives back the room of all chunks but the first `keepChunks`, which committed rows count on. */
  async discard(keepChunks: number): Promise<void> {
    await this.#writing;
    this.#tail.fill(0);
    await this.#segment?.discard(keepChunks);
  }

  async #sealTail(): Promise<void> {
    const { key, firstChunk } = this.#options;
    this.#filling ??= Buffer.allocUnsafeSlow(batchChunks * sealedChunkBytes);
    const context = chunkContext(this.#options, this.#options.generation, firstChunk + this.#chunkCount);
    this.#filledLength += sealInto(key, this.tail, context, this.#filling, this.#filledLength);
    this.#chunkCount += 1;
    this.#tailLength = 0;
    if (this.#filledLength === this.#filling.length) {
      await this.#startWriting();
    }
  }

  /** Hands the filled batch to the file once the batch before it is written, and goes on with the other buffer. */
  async #startWriting(): Promise<void> {
    await this.#finishWriting();
    if (this.#filling === undefined || this.#filledLength === 0) {
      return;
    }
    const batch = this.#filling;
    this.#writing = this.#write(batch.subarray(0, this.#filledLength));
    this.#filling = this.#spare;
    this.#spare = batch;
    this.#filledLength = 0;
  }

  async #finishWriting(): Promise<void> {
    await this.#writing;
    if (this.#failure !== undefined) {
      throw this.#failure.error;
    }
  }

  /** Never rejects, as nobody may be waiting: the next call that writes or syncs throws the failure. */
  async #write(sealedChunks: Buffer): Promise<void> {
    const { store, leaseId, generation } = this.#options;
    try {
      this.#segment ??= await store.createSegment(leaseId, generation);
      await this.#segment.append(sealedChunks);
    } catch (error) {
      this.#failure = { error };
    }
  }
}

export interface SealedSegmentOptions {
  readonly store: ContentStore;
  /** The lease's key. It is used until the writer ends; do not overwrite it before. */
  readonly key: Uint8Array;
  readonly installationId: string;
  readonly leaseId: string;
  /** Which of the lease's bodies it is. Undefined where a lease has one only. */
  readonly bodyId?: string | undefined;
  /** Names the segment: no other writer of the lease has, had or gets this number. */
  readonly generation: number;
  /** Position in the whole body of this segment's first chunk. */
  readonly firstChunk: number;
}
