/** What has reached the disk when a promise resolves, seen by watching which files and folders are synced. */
import { existsSync, readdirSync, readlinkSync, statSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { chunkBytes, sealedChunkBytes } from "../../src/content/chunk-layout.ts";
import { DirectoryStore } from "../../src/content/directory-store.ts";
import { KeyFolder } from "../../src/content/key-folder.ts";
import { SealedSegmentWriter } from "../../src/content/sealed-segment.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const installationId = "0192f0c1-2a3b-7c4d-8e5f-001122334455";
const leaseId = "0192f0c1-2a3b-7c4d-8e5f-66778899aabb";

afterEach(() => {
  vi.restoreAllMocks();
});

/** Records the path of everything that is synced, with what `look` sees at that moment. */
async function watchSyncs<Seen>(look: () => Seen): Promise<{ path: string; seen: Seen }[]> {
  const handle = await open("/dev/null");
  const prototype: FileHandle = Object.getPrototypeOf(handle);
  await handle.close();
  const syncs: { path: string; seen: Seen }[] = [];
  for (const method of ["sync", "datasync"] as const) {
    const original = prototype[method];
    vi.spyOn(prototype, method).mockImplementation(function (this: FileHandle) {
      syncs.push({ path: readlinkSync(`/proc/self/fd/${this.fd}`), seen: look() });
      return original.call(this);
    });
  }
  return syncs;
}

describe.skipIf(process.platform !== "linux")("durability", () => {
  const openKeys = (dir: string): Promise<KeyFolder> =>
    KeyFolder.open({ dir, installationId, epochLengthSeconds: 3600, createIfMissing: true });

  test("a key's content is on disk before it has its name, and its name before the key is used", async () => {
    const dir = join(temporaryFolder(), "keys");
    const folder = await openKeys(dir);
    const syncs = await watchSyncs(() => existsSync(join(dir, "epoch-7200.key")));
    await folder.epochKey(7200);
    expect(syncs).toEqual([
      { path: expect.stringMatching(/\/keys\/\.epoch-7200\.key\.[0-9a-f]+\.tmp$/), seen: false },
      { path: dir, seen: true },
    ]);
  });

  test("a key that another process made is used only once its name is on disk", async () => {
    const dir = join(temporaryFolder(), "keys");
    await (await openKeys(dir)).epochKey(7200);
    const folder = await openKeys(dir);
    const syncs = await watchSyncs(() => true);
    await folder.epochKey(7200);
    expect(syncs).toEqual([{ path: dir, seen: true }]);
  });

  test("a server key, and the folder itself, are on disk before they are used", async () => {
    const parent = temporaryFolder();
    const dir = join(parent, "data", "keys");
    const syncs = await watchSyncs(() =>
      existsSync(dir) ? readdirSync(dir).filter((name) => !name.startsWith(".")) : [],
    );
    const folder = await openKeys(dir);
    expect(syncs.map(({ path }) => path)).toEqual(expect.arrayContaining([parent, join(parent, "data"), dir]));
    expect(syncs.at(-1)).toEqual({ path: dir, seen: ["installation"] });
    await folder.serverKeys.latest();
    expect(syncs.at(-1)).toEqual({ path: dir, seen: ["installation", "server-1.key"] });
  });

  test("a destroyed key is off the disk when that is reported, also after a run that was cut short", async () => {
    const dir = join(temporaryFolder(), "keys");
    const folder = await openKeys(dir);
    await folder.epochKey(7200);
    const syncs = await watchSyncs(() => existsSync(join(dir, "epoch-7200.key")));
    await folder.destroyEpoch(7200);
    await folder.destroyEpoch(7200);
    expect(syncs).toEqual([
      { path: dir, seen: false },
      { path: dir, seen: false },
    ]);
  });

  test("a synced segment is on disk with all the names that lead to it; a later sync is of its bytes only", async () => {
    const root = temporaryFolder();
    const store = await DirectoryStore.open(root);
    const writer = await store.createSegment(leaseId, 1);
    await writer.append(Buffer.alloc(sealedChunkBytes));
    const syncs = await watchSyncs(() => true);
    await writer.sync();
    const leaseFolder = join(root, "bb", leaseId);
    const segment = join(leaseFolder, "1.segment");
    expect(syncs.map(({ path }) => path)).toEqual([segment, leaseFolder, join(root, "bb"), root]);
    await writer.sync();
    expect(syncs.slice(4).map(({ path }) => path)).toEqual([segment]);
    await writer.close();
  });

  test("sealed chunks are in their file, and that is on disk, when the sealing writer's sync resolves", async () => {
    const root = temporaryFolder();
    const store = await DirectoryStore.open(root);
    const key = Buffer.alloc(32, 7);
    const writer = new SealedSegmentWriter({ store, key, installationId, leaseId, generation: 1, firstChunk: 0 });
    await writer.append(Buffer.alloc(3 * chunkBytes));
    const segment = join(root, "bb", leaseId, "1.segment");
    const syncs = await watchSyncs(() => statSync(segment).size);
    await writer.sync();
    expect(syncs[0]).toEqual({ path: segment, seen: 2 * sealedChunkBytes });
    await writer.close();
  });

  test("after a sync that failed, no later one reports success", async () => {
    const store = await DirectoryStore.open(temporaryFolder());
    const writer = await store.createSegment(leaseId, 1);
    await writer.append(Buffer.alloc(sealedChunkBytes));
    const handle = await open("/dev/null");
    const prototype: FileHandle = Object.getPrototypeOf(handle);
    await handle.close();
    vi.spyOn(prototype, "datasync").mockRejectedValueOnce(Object.assign(new Error("full"), { code: "ENOSPC" }));
    await expect(writer.sync()).rejects.toMatchObject({ reason: "DISK_FULL" });
    await expect(writer.sync()).rejects.toMatchObject({ reason: "DISK_FULL" });
    await writer.close();
  });

  test("a destroyed lease is off the disk when that is reported, also after a run that was cut short", async () => {
    const root = temporaryFolder();
    const store = await DirectoryStore.open(root);
    await (await store.createSegment(leaseId, 1)).close();
    const syncs = await watchSyncs(() => existsSync(join(root, "bb", leaseId)));
    await store.destroyLeases([leaseId]);
    await store.destroyLeases([leaseId]);
    expect(syncs).toEqual([
      { path: join(root, "bb"), seen: false },
      { path: join(root, "bb"), seen: false },
    ]);
  });
});
