/** A body as it is stored: reads its plaintext from any offset, and seals and opens the tail that lies in its row. */
import { batchChunks, chunkBytes, chunkContext, sealedChunkBytes } from "./chunk-layout.ts";
import { ContentCorruptError } from "./content-corrupt-error.ts";
import type { ContentStore, SegmentReader } from "./content-store.ts";
import { open, type SealContext, seal, sealOverheadBytes } from "./sealing.ts";

/**
 * Yields the bytes from `offset` up to `offset + limitBytes` (to the end if undefined) in pieces of at most 64 KiB, each
 * in a buffer of its own. An offset at or past the end yields nothing.
 *
 * Holds two batches of 1 MiB, whatever the body's size: the next is read while the last is opened and consumed. Throws
 * ContentCorruptError, and never yields a byte that is not authentic.
 *
 * The file in use is closed when the generator ends or is returned; a started one must come to either, as Node throws,
 * out of any call, when it collects a file left open. `body.key` must not be overwritten before.
 */
export async function* readSealedBody(
  store: ContentStore,
  body: SealedBody,
  offset: bigint,
  limitBytes?: bigint,
): AsyncGenerator<Buffer, void, undefined> {
  const lengthBytes = sealedBodyLength(body);
  const endOffset = limitBytes === undefined || offset + limitBytes > lengthBytes ? lengthBytes : offset + limitBytes;
  if (offset < 0n || offset >= endOffset) {
    return;
  }
  const firstChunk = Number(offset / BigInt(chunkBytes));
  const lastChunk = Number((endOffset - 1n) / BigInt(chunkBytes));
  for await (const { index, plaintext } of readChunks(store, body, firstChunk, lastChunk)) {
    const from = index === firstChunk ? Number(offset % BigInt(chunkBytes)) : 0;
    const to = index === lastChunk ? Number((endOffset - 1n) % BigInt(chunkBytes)) + 1 : plaintext.length;
    yield plaintext.subarray(from, to);
  }
}

/** The plaintext's length, which the rows alone tell. */
export function sealedBodyLength(body: Pick<SealedBody, "segments" | "tail">): bigint {
  const chunks = body.segments.reduce((sum, segment) => sum + segment.chunkCount, 0);
  const tailBytes = body.tail === undefined ? 0 : body.tail.sealed.length - sealOverheadBytes;
  return BigInt(chunks) * BigInt(chunkBytes) + BigInt(tailBytes);
}

/**
 * Seals the tail for its row. `partIndex` is the number of chunks before the tail; `final` is whether the body ends with it, so that the tail of an
 * upload that goes on cannot pass for the end of the body.
 */
export function sealTail(owner: SealedBodyOwner, tail: Uint8Array, partIndex: number, final: boolean): Buffer {
  return seal(owner.key, tail, tailContext(owner, partIndex, final));
}

/** Opens what `sealTail` made with the same arguments. Throws ContentCorruptError. */
export function openTail(owner: SealedBodyOwner, sealed: Uint8Array, partIndex: number, final: boolean): Buffer {
  return open(owner.key, sealed, tailContext(owner, partIndex, final));
}

export interface SealedBodyOwner {
  readonly installationId: string;
  readonly leaseId: string;
  /** The lease's key. */
  readonly key: Uint8Array;
  /** Which of the lease's bodies it is, a name that no other has. Undefined where a lease has one only. */
  readonly bodyId?: string | undefined;
}

/** A body as its rows describe it. */
export interface SealedBody extends SealedBodyOwner {
  /** In the body's order, without gap or overlap. */
  readonly segments: readonly BodySegment[];
  /** What follows the segments; undefined where the row has none. */
  readonly tail: { readonly sealed: Uint8Array; readonly final: boolean } | undefined;
}

export interface BodySegment {
  readonly generation: number;
  /** Position in the body of the segment's first chunk. */
  readonly firstChunk: number;
  readonly chunkCount: number;
}

function tailContext(owner: SealedBodyOwner, partIndex: number, final: boolean): SealContext {
  const { installationId, leaseId, bodyId = "" } = owner;
  return { installationId, leaseId, kind: "tail", objectId: bodyId, partIndex, final };
}

interface OpenedChunk {
  readonly index: number;
  readonly plaintext: Buffer;
}

async function* readChunks(
  store: ContentStore,
  body: SealedBody,
  firstChunk: number,
  lastChunk: number,
): AsyncGenerator<OpenedChunk, void, undefined> {
  let segmentStart = 0;
  for (const segment of body.segments) {
    if (segment.firstChunk !== segmentStart) {
      const place = `segment ${segment.generation} of lease ${body.leaseId}`;
      throw new ContentCorruptError("MISSING", `${place} starts at ${segment.firstChunk}, not ${segmentStart}`);
    }
    segmentStart += segment.chunkCount;
    const from = Math.max(firstChunk, segment.firstChunk);
    const to = Math.min(lastChunk, segmentStart - 1);
    if (from <= to) {
      yield* readSegment(store, body, segment, from, to);
    }
  }
  if (body.tail !== undefined && lastChunk >= segmentStart) {
    yield { index: segmentStart, plaintext: openTail(body, body.tail.sealed, segmentStart, body.tail.final) };
  }
}

/** Yields chunks `from` to `to` of the body, all of which lie in this segment. */
async function* readSegment(
  store: ContentStore,
  body: SealedBody,
  segment: BodySegment,
  from: number,
  to: number,
): AsyncGenerator<OpenedChunk, void, undefined> {
  const reader = await store.openSegment(body.leaseId, segment.generation);
  const batchBytes = Math.min(batchChunks, to - from + 1) * sealedChunkBytes;
  let arriving = Buffer.allocUnsafeSlow(batchBytes);
  let arrived = to - from < batchChunks ? arriving : Buffer.allocUnsafeSlow(batchBytes);
  let reading = readBatch(reader, segment, from, to, arriving);
  try {
    for (let first = from; first <= to; first += batchChunks) {
      const batch = await reading;
      [arriving, arrived] = [arrived, arriving];
      if (first + batchChunks <= to) {
        reading = readBatch(reader, segment, first + batchChunks, to, arriving);
      }
      yield* openChunks(body, segment, first, batch);
    }
  } finally {
    await reading;
    await reader.close();
  }
}

/** Never rejects, as a consumer that stops early leaves nobody to catch it: `openChunks` throws the failure. */
async function readBatch(
  reader: SegmentReader,
  segment: BodySegment,
  first: number,
  to: number,
  target: Buffer,
): Promise<ReadBatch> {
  try {
    const count = Math.min(batchChunks, to - first + 1);
    return { sealed: await reader.read(first - segment.firstChunk, count, target) };
  } catch (failure) {
    return { failure };
  }
}

function* openChunks(body: SealedBody, segment: BodySegment, first: number, batch: ReadBatch): Generator<OpenedChunk> {
  if ("failure" in batch) {
    throw batch.failure;
  }
  const count = batch.sealed.length / sealedChunkBytes;
  for (let position = 0; position < count; position += 1) {
    const index = first + position;
    const sealed = batch.sealed.subarray(position * sealedChunkBytes, (position + 1) * sealedChunkBytes);
    yield { index, plaintext: open(body.key, sealed, chunkContext(body, segment.generation, index)) };
  }
}

type ReadBatch = { readonly sealed: Buffer } | { readonly failure: unknown };
