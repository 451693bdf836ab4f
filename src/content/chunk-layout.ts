/** How a body is cut: chunks of 64 KiB, all but the last in segment files, the last (the tail) in its database row. */
import { type SealContext, sealOverheadBytes } from "./sealing.ts";

/**
 * The place of a chunk in a segment file: it opens only in its segment, only as this part of the body, and only of that
 * body where a lease has several.
 */
export function chunkContext(owner: ChunkOwner, generation: number, partIndex: number): SealContext {
  const { installationId, leaseId, bodyId } = owner;
  const objectId = bodyId === undefined ? `${generation}` : `${bodyId} ${generation}`;
  return { installationId, leaseId, kind: "content", objectId, partIndex, final: false };
}

/** Plaintext bytes of every chunk but a body's last, which has 1 to this many (0 only in an empty body). */
export const chunkBytes = 65_536;

/** A chunk's bytes in a segment file: nonce, ciphertext and tag. Chunk i of a segment starts at i times this. */
export const sealedChunkBytes = chunkBytes + sealOverheadBytes;

/** Chunks that are moved between memory and disk at once: 1 MiB. */
export const batchChunks = 16;

interface ChunkOwner {
  readonly installationId: string;
  readonly leaseId: string;
  readonly bodyId?: string | undefined;
}
