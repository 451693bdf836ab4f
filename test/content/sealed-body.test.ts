import { randomBytes } from "node:crypto";
import { readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chunkBytes, sealedChunkBytes } from "../../src/content/chunk-layout.ts";
import { DirectoryStore } from "../../src/content/directory-store.ts";
import {
  openTail,
  readSealedBody,
  type SealedBody,
  sealedBodyLength,
  sealTail,
} from "../../src/content/sealed-body.ts";
import { SealedSegmentWriter } from "../../src/content/sealed-segment.ts";
import { collect, filesBelow, temporaryFolder, tinyFileSystem } from "./temporary-folder.ts";

const installationId = "0192f0c1-2a3b-7c4d-8e5f-001122334455";
const leaseId = "0192f0c1-2a3b-7c4d-8e5f-66778899aabb";
const owner = { installationId, leaseId, key: Buffer.alloc(32, 7) };

interface Place {
  readonly root: string;
  readonly store: DirectoryStore;
}

async function newStore(): Promise<Place> {
  const root = temporaryFolder();
  return { root, store: await DirectoryStore.open(root) };
}

function segmentPath({ root }: Place, generation: number): string {
  return join(root, "bb", leaseId, `${generation}.segment`);
}

function newWriter({ store }: Place, generation: number, firstChunk: number): SealedSegmentWriter {
  return new SealedSegmentWriter({ ...owner, store, generation, firstChunk });
}

/** Stores a body as one upload does that breaks and resumes at each of `breaks`: every run has a segment of its own. */
async function writeBody(place: Place, plaintext: Buffer, breaks: readonly number[] = [], pieceBytes = 50_000) {
  const segments: { generation: number; firstChunk: number; chunkCount: number }[] = [];
  let firstChunk = 0;
  let tail: Buffer = Buffer.alloc(0);
  let start = 0;
  for (const [run, end] of [...breaks, plaintext.length].entries()) {
    const generation = run + 1;
    const writer = newWriter(place, generation, firstChunk);
    await writer.append(tail);
    for (; start < end; start += pieceBytes) {
      await writer.append(plaintext.subarray(start, Math.min(start + pieceBytes, end)));
    }
    start = end;
    await writer.sync();
    if (writer.chunkCount > 0) {
      segments.push({ generation, firstChunk, chunkCount: writer.chunkCount });
    }
    firstChunk += writer.chunkCount;
    tail = Buffer.from(writer.tail);
    await writer.close();
  }
  const body: SealedBody = {
    ...owner,
    segments,
    tail: { sealed: sealTail(owner, tail, firstChunk, true), final: true },
  };
  return body;
}

async function read(place: Place, body: SealedBody, offset = 0n, limitBytes?: bigint): Promise<Buffer> {
  return Buffer.concat(await collect(readSealedBody(place.store, body, offset, limitBytes)));
}

describe("a stored body", () => {
  test.each([0, 1, 1000, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 196_608, 1_048_576, 1_114_113, 2_500_000])(
    "of %i bytes comes back whole, and has a file only past 64 KiB",
    async (length) => {
      const place = await newStore();
      const plaintext = randomBytes(length);
      const body = await writeBody(place, plaintext);
      expect(sealedBodyLength(body)).toBe(BigInt(length));
      expect((await read(place, body)).equals(plaintext)).toBe(true);
      expect((await filesBelow(place.root)).length).toBe(length > chunkBytes ? 1 : 0);
    },
  );

  test("any range of it comes back exactly, however it was cut into pieces and resumed", async () => {
    const place = await newStore();
    let generated = 0;
    const lengths = fc.oneof(fc.integer({ min: 0, max: 5 * chunkBytes }), fc.constantFrom(chunkBytes, 3 * chunkBytes));
    const fractions = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 3 });
    const near = fc.integer({ min: -2, max: 2 });
    const offsets = fc.oneof(
      fc.nat(6 * chunkBytes),
      fc.tuple(fc.nat(5), near).map(([n, d]) => n * chunkBytes + d),
    );
    const pieces = fc.constantFrom(7777, 16_384, chunkBytes, 200_000);
    await fc.assert(
      fc.asyncProperty(
        lengths,
        fractions,
        pieces,
        offsets,
        offsets,
        async (length, cuts, pieceBytes, offset, limit) => {
          const own: Place = { root: place.root, store: await DirectoryStore.open(join(place.root, `${generated}`)) };
          generated += 1;
          const plaintext = randomBytes(length);
          const breaks = cuts.map((cut) => Math.floor(cut * length)).sort((one, other) => one - other);
          const body = await writeBody(own, plaintext, breaks, pieceBytes);
          expect((await read(own, body)).equals(plaintext)).toBe(true);
          const from = Math.max(0, offset);
          const some = await read(own, body, BigInt(from), BigInt(limit));
          expect(some.equals(plaintext.subarray(from, from + Math.max(0, limit)))).toBe(true);
          expect((await read(own, body, BigInt(from))).equals(plaintext.subarray(from))).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("leaves none of its plaintext on the disk", async () => {
    const place = await newStore();
    const marker = Buffer.from("the marker that must not be found");
    const plaintext = Buffer.alloc(300_000, marker);
    await writeBody(place, plaintext);
    const stored = await readFile(segmentPath(place, 1));
    expect(stored.length).toBe(4 * sealedChunkBytes);
    expect(stored.includes(marker)).toBe(false);
  });

  test("is read in pieces of at most 64 KiB, and leaves no file open when its reader stops early", async () => {
    const place = await newStore();
    const plaintext = randomBytes(40 * chunkBytes);
    const body = await writeBody(place, plaintext);
    let closed = 0;
    const store = {
      async openSegment(id: string, generation: number) {
        const reader = await place.store.openSegment(id, generation);
        return {
          read: reader.read.bind(reader),
          async close() {
            closed += 1;
            await reader.close();
          },
        };
      },
      createSegment: place.store.createSegment.bind(place.store),
      destroyLeases: place.store.destroyLeases.bind(place.store),
      removeEarlierSegments: place.store.removeEarlierSegments.bind(place.store),
      removeSegment: place.store.removeSegment.bind(place.store),
      listLeaseIds: place.store.listLeaseIds.bind(place.store),
    };
    for await (const piece of readSealedBody(store, body, 10n)) {
      expect(piece.equals(plaintext.subarray(10, chunkBytes))).toBe(true);
      break;
    }
    expect(closed).toBe(1);
  });
});

describe("bytes that are not what was sealed", () => {
  async function threeChunks() {
    const place = await newStore();
    const body = await writeBody(place, randomBytes(4 * chunkBytes));
    return { place, body, path: segmentPath(place, 1) };
  }

  test("a changed byte is UNAUTHENTIC, and the chunks before it are still served", async () => {
    const { place, body, path } = await threeChunks();
    const stored = await readFile(path);
    stored.writeUInt8(stored.readUInt8(2 * sealedChunkBytes + 100) ^ 1, 2 * sealedChunkBytes + 100);
    await writeFile(path, stored);
    await expect(read(place, body)).rejects.toMatchObject({ name: "ContentCorruptError", reason: "UNAUTHENTIC" });
    expect((await read(place, body, 0n, BigInt(2 * chunkBytes))).length).toBe(2 * chunkBytes);
  });

  test("two chunks that changed places are UNAUTHENTIC", async () => {
    const { place, body, path } = await threeChunks();
    const stored = await readFile(path);
    const [first, second] = [
      stored.subarray(0, sealedChunkBytes),
      stored.subarray(sealedChunkBytes, 2 * sealedChunkBytes),
    ];
    await writeFile(path, Buffer.concat([second, first, stored.subarray(2 * sealedChunkBytes)]));
    await expect(read(place, body)).rejects.toMatchObject({ reason: "UNAUTHENTIC" });
  });

  test("a segment under another generation's name is UNAUTHENTIC", async () => {
    const { place, body, path } = await threeChunks();
    await writeFile(segmentPath(place, 2), await readFile(path));
    const segments = body.segments.map((segment) => ({ ...segment, generation: 2 }));
    await expect(read(place, { ...body, segments })).rejects.toMatchObject({ reason: "UNAUTHENTIC" });
  });

  test("a cut file is TRUNCATED, a lost one MISSING, and rows with a gap MISSING", async () => {
    const { place, body, path } = await threeChunks();
    const gap = [{ generation: 1, firstChunk: 1, chunkCount: 2 }];
    await expect(read(place, { ...body, segments: gap })).rejects.toMatchObject({ reason: "MISSING" });
    await truncate(path, 3 * sealedChunkBytes - 1);
    await expect(read(place, body)).rejects.toMatchObject({ reason: "TRUNCATED" });
    await place.store.destroyLeases([leaseId]);
    await expect(read(place, body)).rejects.toMatchObject({ reason: "MISSING" });
  });

  test("the tail of an upload that goes on does not pass for the end of a body, nor for a later tail", () => {
    const unfinished = sealTail(owner, Buffer.from("so far"), 2, false);
    const corrupt = expect.objectContaining({ reason: "UNAUTHENTIC" });
    expect(() => openTail(owner, unfinished, 2, true)).toThrow(corrupt);
    expect(() => openTail(owner, unfinished, 3, false)).toThrow(corrupt);
    expect(openTail(owner, unfinished, 2, false).toString()).toBe("so far");
  });

  test("a body that lost a segment's row does not open with its tail", async () => {
    const { place, body } = await threeChunks();
    await expect(read(place, { ...body, segments: [] })).rejects.toMatchObject({ reason: "UNAUTHENTIC" });
  });
});

describe("writing a segment", () => {
  test("what a late writer of an older generation adds after a resume changes nothing of the body", async () => {
    const place = await newStore();
    const plaintext = randomBytes(6 * chunkBytes);
    const late = newWriter(place, 1, 0);
    await late.append(plaintext.subarray(0, 3 * chunkBytes + 1));
    await late.sync();
    const committed = { generation: 1, firstChunk: 0, chunkCount: late.chunkCount };
    const resumed = newWriter(place, 2, 3);
    await resumed.append(plaintext.subarray(3 * chunkBytes));
    await resumed.sync();
    const second = { generation: 2, firstChunk: 3, chunkCount: resumed.chunkCount };
    const tail = { sealed: sealTail(owner, resumed.tail, 5, true), final: true };
    await late.append(randomBytes(3 * chunkBytes));
    await late.sync();
    await late.discard(committed.chunkCount);
    await resumed.close();
    const body = { ...owner, segments: [committed, second], tail };
    expect((await read(place, body)).equals(plaintext)).toBe(true);
  });

  test("the caller's buffer is free again once append has resolved", async () => {
    const place = await newStore();
    const writer = newWriter(place, 1, 0);
    const plaintext = randomBytes(40 * 10_000);
    const reused = Buffer.alloc(10_000);
    for (let start = 0; start < plaintext.length; start += reused.length) {
      plaintext.copy(reused, 0, start);
      await writer.append(reused);
    }
    await writer.sync();
    const { chunkCount } = writer;
    const tail = { sealed: sealTail(owner, writer.tail, chunkCount, true), final: true };
    await writer.close();
    const body = { ...owner, segments: [{ generation: 1, firstChunk: 0, chunkCount }], tail };
    expect((await read(place, body)).equals(plaintext)).toBe(true);
  });

  test("a full disk is DISK_FULL at the latest at sync, stays so, and leaves nothing after discard", async (context) => {
    const root = tinyFileSystem(1024 * 1024);
    if (root === undefined) {
      context.skip("needs the right to mount");
      return;
    }
    const writer = newWriter({ root, store: await DirectoryStore.open(root) }, 1, 0);
    const tooMuch = async (): Promise<void> => {
      await writer.append(randomBytes(20 * chunkBytes));
      await writer.sync();
    };
    await expect(tooMuch()).rejects.toMatchObject({ name: "LeaseholdError", reason: "DISK_FULL" });
    await expect(writer.sync()).rejects.toMatchObject({ reason: "DISK_FULL" });
    await writer.discard(0);
    expect(await filesBelow(root)).toEqual([]);
  });

  test("a generation that was used before is refused, whoever wrote it", async () => {
    const place = await newStore();
    await writeBody(place, randomBytes(3 * chunkBytes));
    const second = newWriter(place, 1, 0);
    await second.append(randomBytes(3 * chunkBytes));
    await expect(second.sync()).rejects.toMatchObject({ code: "EEXIST" });
    await second.discard(0);
    expect((await readFile(segmentPath(place, 1))).length).toBe(2 * sealedChunkBytes);
  });
});
