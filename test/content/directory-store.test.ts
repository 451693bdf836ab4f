import { open, readdir, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { sealedChunkBytes } from "../../src/content/chunk-layout.ts";
import { DirectoryStore } from "../../src/content/directory-store.ts";
import { asDiskFull } from "../../src/content/file-errors.ts";
import { collect, filesBelow, fillFileSystem, temporaryFolder, tinyFileSystem } from "./temporary-folder.ts";

const leaseId = "0192f0c1-2a3b-7c4d-8e5f-66778899aabb";
const sameShardId = "0192f0c1-2a3b-7c4d-8e5f-0000000000bb";
const otherId = "0192f0c1-2a3b-7c4d-8e5f-66778899aacc";

function chunk(byte: number, count = 1): Buffer {
  return Buffer.alloc(sealedChunkBytes * count, byte);
}

async function newStore(): Promise<{ root: string; store: DirectoryStore }> {
  const root = join(temporaryFolder(), "data", "content");
  return { root, store: await DirectoryStore.open(root) };
}

async function readAll(store: DirectoryStore, generation: number, count: number): Promise<Buffer> {
  const reader = await store.openSegment(leaseId, generation);
  try {
    return await reader.read(0, count, Buffer.alloc(count * sealedChunkBytes));
  } finally {
    await reader.close();
  }
}

async function writeLease(store: DirectoryStore, id: string): Promise<void> {
  const writer = await store.createSegment(id, 1);
  await writer.append(chunk(1));
  await writer.sync();
  await writer.close();
}

describe("dropping earlier segments", () => {
  test("removes those of generations before, and no later one, no other lease's and no other file", async () => {
    const { root, store } = await newStore();
    for (const generation of [1, 2, 3, 10]) {
      await (await store.createSegment(leaseId, generation)).close();
    }
    await writeLease(store, sameShardId);
    await writeFile(join(root, "bb", leaseId, "note"), "");
    await store.removeEarlierSegments(leaseId, 3);
    const kept = ["10.segment", "3.segment", "note"].map((name) => `bb/${leaseId}/${name}`);
    expect(await filesBelow(root)).toEqual([`bb/${sameShardId}/1.segment`, ...kept]);
  });

  test("of a lease that has none is fine", async () => {
    const { store } = await newStore();
    await store.removeEarlierSegments(otherId, 5);
  });
});

describe("writing segments", () => {
  test("chunks are read back from any place, and a segment has one file for its owner only", async () => {
    const { root, store } = await newStore();
    const writer = await store.createSegment(leaseId, 4);
    await writer.append(Buffer.concat([chunk(1), chunk(2)]));
    await writer.append(chunk(3));
    await writer.sync();
    await writer.close();
    expect(await filesBelow(root)).toEqual([`bb/${leaseId}/4.segment`]);
    expect((await stat(join(root, "bb", leaseId, "4.segment"))).mode & 0o777).toBe(0o600);
    const reader = await store.openSegment(leaseId, 4);
    expect(await reader.read(1, 2, Buffer.alloc(5 * sealedChunkBytes))).toEqual(Buffer.concat([chunk(2), chunk(3)]));
    expect(await reader.read(2, 1, chunk(0))).toEqual(chunk(3));
    await expect(reader.read(0, 2, chunk(0))).rejects.toThrow(RangeError);
    await reader.close();
  });

  test("a generation has one writer: a second one cannot open it", async () => {
    const { store } = await newStore();
    const writer = await store.createSegment(leaseId, 1);
    await expect(store.createSegment(leaseId, 1)).rejects.toMatchObject({ code: "EEXIST" });
    await writer.close();
    await expect(store.createSegment(leaseId, 1)).rejects.toMatchObject({ code: "EEXIST" });
  });

  test("a late writer of an old generation changes no byte of the new one, nor those of its own that were synced", async () => {
    const { store } = await newStore();
    const late = await store.createSegment(leaseId, 1);
    await late.append(chunk(1, 2));
    await late.sync();
    const current = await store.createSegment(leaseId, 2);
    await current.append(chunk(2));
    await current.sync();
    await current.close();
    await late.append(chunk(9));
    await late.discard(2);
    expect(await readAll(store, 1, 2)).toEqual(chunk(1, 2));
    expect(await readAll(store, 2, 1)).toEqual(chunk(2));
    await expect(readAll(store, 1, 3)).rejects.toMatchObject({ reason: "TRUNCATED" });
  });

  test("a discarded segment is gone", async () => {
    const { root, store } = await newStore();
    const writer = await store.createSegment(leaseId, 1);
    await writer.append(chunk(1));
    await writer.discard(0);
    expect(await filesBelow(root)).toEqual([]);
    await expect(store.openSegment(leaseId, 1)).rejects.toMatchObject({ reason: "MISSING" });
  });

  test("discarding never makes a segment longer, whatever it is told to keep", async () => {
    const { store } = await newStore();
    const writer = await store.createSegment(leaseId, 1);
    await writer.append(chunk(1));
    await writer.discard(2);
    expect(await readAll(store, 1, 1)).toEqual(chunk(1));
    await expect(readAll(store, 1, 2)).rejects.toMatchObject({ reason: "TRUNCATED" });
  });

  test("only whole chunks are taken", async () => {
    const { store } = await newStore();
    const writer = await store.createSegment(leaseId, 1);
    await expect(writer.append(Buffer.alloc(1000))).rejects.toThrow(RangeError);
    await writer.close();
  });

  test("no text but a lease id becomes part of a path", async () => {
    const { store } = await newStore();
    for (const id of ["../../../../etc/passwd", `${leaseId}/..`, leaseId.toUpperCase(), "", "a\0b"]) {
      await expect(store.createSegment(id, 1)).rejects.toThrow(TypeError);
      await expect(store.destroyLeases([id])).rejects.toThrow(TypeError);
    }
    await expect(store.createSegment(leaseId, -1)).rejects.toThrow(RangeError);
  });
});

describe("a full disk", () => {
  test("is DISK_FULL; what was synced before stays, and the room of the failed write is free again", async (context) => {
    const root = tinyFileSystem(1024 * 1024);
    if (root === undefined) {
      context.skip("needs the right to mount");
      return;
    }
    const store = await DirectoryStore.open(root);
    const writer = await store.createSegment(leaseId, 1);
    await writer.append(chunk(1, 10));
    await writer.sync();
    await expect(writer.append(chunk(2, 16))).rejects.toMatchObject({ name: "LeaseholdError", reason: "DISK_FULL" });
    await writer.append(chunk(3));
    await writer.sync();
    await writer.close();
    expect(await readAll(store, 1, 11)).toEqual(Buffer.concat([chunk(1, 10), chunk(3)]));
    await expect(readAll(store, 1, 12)).rejects.toMatchObject({ reason: "TRUNCATED" });
    fillFileSystem(root);
    const late = await store.createSegment(leaseId, 2);
    await expect(late.append(chunk(1))).rejects.toMatchObject({ reason: "DISK_FULL" });
    await late.discard(0);
    await store.destroyLeases([leaseId]);
    expect(await filesBelow(root)).toEqual(["filler"]);
  });

  test("is told from other failures by what the system says", async () => {
    const device = await open("/dev/full", "w");
    const full: unknown = await device.write("x").catch((error: unknown) => error);
    await device.close();
    expect(asDiskFull(full)).toMatchObject({ name: "LeaseholdError", reason: "DISK_FULL", cause: full });
    expect(asDiskFull(Object.assign(new Error("quota"), { code: "EDQUOT" }))).toMatchObject({ reason: "DISK_FULL" });
    const other = Object.assign(new Error("io"), { code: "EIO" });
    expect(asDiskFull(other)).toBe(other);
  });
});

describe("destroying leases", () => {
  test("a destroyed lease leaves no file, others stay, and destroying again is fine", async () => {
    const { root, store } = await newStore();
    for (const id of [leaseId, sameShardId, otherId]) {
      await writeLease(store, id);
    }
    const writing = await store.createSegment(leaseId, 2);
    await writing.append(chunk(1));
    await store.destroyLeases([leaseId, otherId]);
    await store.destroyLeases([leaseId, otherId, "0192f0c1-2a3b-7c4d-8e5f-0000000000dd"]);
    expect(await filesBelow(root)).toEqual([`bb/${sameShardId}/1.segment`]);
    expect((await readdir(join(root, "bb"))).length).toBe(1);
    await writing.discard(0);
    expect(await filesBelow(root)).toEqual([`bb/${sameShardId}/1.segment`]);
  });

  test("more leases than are removed at once all go", async () => {
    const { root, store } = await newStore();
    const ids = Array.from({ length: 50 }, (_, index) => `${leaseId.slice(0, -2)}${(index + 16).toString(16)}`);
    for (const id of ids) {
      await writeLease(store, id);
    }
    await store.destroyLeases(ids);
    expect(await filesBelow(root)).toEqual([]);
  });
});

describe("listing leases for the search for orphans", () => {
  test("lists each lease that has content and was not added to since, and nothing else", async () => {
    const { root, store } = await newStore();
    for (const id of [leaseId, sameShardId, otherId]) {
      await writeLease(store, id);
    }
    await utimes(join(root, "bb", leaseId), new Date(1000), new Date(1000));
    await utimes(join(root, "cc", otherId), new Date(1000), new Date(1000));
    await writeFile(join(root, "notes.txt"), "");
    await DirectoryStore.open(join(root, "lost+found", leaseId));
    await DirectoryStore.open(join(root, "cc", leaseId));
    expect(await collect(store.listLeaseIds(new Date(2000)))).toEqual([leaseId, otherId]);
    const all = await collect(store.listLeaseIds(new Date(Date.now() + 3_600_000)));
    expect(all.sort()).toEqual([sameShardId, leaseId, otherId]);
  });

  test("a lease that is destroyed while the list is read is no failure", async () => {
    const { store } = await newStore();
    await writeLease(store, leaseId);
    await writeLease(store, otherId);
    const listed: string[] = [];
    for await (const id of store.listLeaseIds(new Date(Date.now() + 3_600_000))) {
      listed.push(id);
      await store.destroyLeases([leaseId, otherId]);
    }
    expect(listed).toEqual([leaseId]);
  });
});
