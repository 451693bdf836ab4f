/** Content of any length that costs next to nothing to make, and in which every 64 KiB differs from every other. */

const blockBytes = 65_536;

/** The bytes from `start` to `end` of the one endless content of a seed. */
export function generatedBytes(seed: number, start: number, end: number): Buffer {
  const bytes = Buffer.allocUnsafe(end - start);
  for (let at = start; at < end; ) {
    const from = at % blockBytes;
    const to = Math.min(blockBytes, from + end - at);
    blockOf(seed, (at - from) / blockBytes).copy(bytes, at - start, from, to);
    at += to - from;
  }
  return bytes;
}

/** The first `length` bytes of it in pieces, which are not to be kept: each takes the place of the one before. */
export function* generatedPieces(seed: number, length: number, pieceBytes: number): Generator<Buffer> {
  const piece = Buffer.allocUnsafe(pieceBytes);
  for (let at = 0; at < length; at += pieceBytes) {
    const size = Math.min(pieceBytes, length - at);
    generatedBytes(seed, at, at + size).copy(piece);
    yield piece.subarray(0, size);
  }
}

/** A block is the seed's noise with its number written over the front. */
function blockOf(seed: number, index: number): Buffer {
  const noise = noiseOf(seed);
  noise.writeUInt32BE(index, 0);
  return noise;
}

const noises = new Map<number, Buffer>();

/** Weyl's sequence, mixed: the same in every process. */
function noiseOf(seed: number): Buffer {
  let noise = noises.get(seed);
  if (noise === undefined) {
    noise = Buffer.alloc(blockBytes);
    let state = seed >>> 0;
    for (let at = 0; at < blockBytes; at += 4) {
      state = (state + 0x9e3779b9) >>> 0;
      noise.writeUInt32BE(Math.imul(state ^ (state >>> 15), 0x85ebca6b) >>> 0, at);
    }
    noises.set(seed, noise);
  }
  return noise;
}
