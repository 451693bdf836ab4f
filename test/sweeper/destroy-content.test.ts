/** Promise 4: after an end nothing of a lease's content is left in the live system, and a crash at any step is finished. */
import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { buildSweeper } from "../../src/app.ts";
import { DirectoryStore } from "../../src/content/directory-store.ts";
import { LeaseDestroyer } from "../../src/lease/lease-destroyer.ts";
import { endDueLeases } from "../../src/lease/lease-statements.ts";
import { LeaseVariants } from "../../src/lease/lease-variant.ts";
import { deleteBodies } from "../../src/storage/storage-statements.ts";
import { StorageVariant } from "../../src/storage/storage-variant.ts";
import { textsInFiles, textsInTables } from "../support/plaintext.ts";
import { leaseUuid, refusalOf, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold, 1_000_000_000n);
const { dataDir } = leasehold.core.config;

/** Words that stand nowhere else: in a body, in its name, in its type and in a label. */
function markersOf(name: string) {
  const digest = createHash("sha256").update(name).digest("hex").slice(0, 24);
  return {
    body: `bodyx${digest}`,
    fileName: `namex${digest}`,
    contentType: `typex${digest}`,
    label: `labelx${digest}`,
  };
}

/** A body of a tail and segments, full of a marker. */
function bodyOf(marker: string): Buffer {
  return Buffer.from(marker.repeat(Math.ceil(200_000 / marker.length)));
}

async function storeMarked(name: string) {
  const markers = markersOf(name);
  const { leaseId } = await tenant.store(bodyOf(markers.body), {
    labels: { marker: markers.label },
    variant: {
      case: "storage",
      value: { fileName: `${markers.fileName}.txt`, contentType: `text/${markers.contentType}` },
    },
  });
  return { leaseId, markers };
}

/** All that there is of a lease's content. */
async function remainsOf(leaseId: string) {
  const id = leaseUuid(leaseId);
  const [rows] = await query<{
    contents: bigint;
    segments: bigint;
    keys: bigint;
    details: bigint;
    labels: bigint;
    digests: bigint;
    destroyed: bigint;
  }>(
    leasehold.database,
    `select (select count(*) from storage_content where lease_id = $1) as contents,
      (select count(*) from storage_segment where lease_id = $1) as segments,
      count(wrapped_key) as keys, count(sealed_details) as details, count(labels) as labels, count(destroy_time) as destroyed,
      (select count(*) from idempotency where lease_id = $1 and digests <> '') as digests
    from lease where lease_id = $1`,
    [id],
  );
  const files = (await readdir(join(dataDir, "content"), { recursive: true })).filter((path) => path.includes(id));
  return { ...rows, files: files.length };
}

const nothing = { contents: 0n, segments: 0n, keys: 0n, details: 0n, labels: 0n, digests: 0n, destroyed: 1n, files: 0 };

test("while a lease lives its body, name and type stand nowhere in clear; its labels do, as is documented", async () => {
  const { markers } = await storeMarked("live");
  const texts = Object.values(markers);
  expect(await textsInTables(leasehold.database, tenant, texts)).toEqual([markers.label]);
  expect(await textsInFiles(dataDir, texts)).toEqual([]);
});

test("after a delete has answered, no row, no file and no byte of the lease is left", async () => {
  const { leaseId, markers } = await storeMarked("deleted");
  const before = await remainsOf(leaseId);
  expect(before).toMatchObject({ contents: 1n, segments: 1n, keys: 1n, details: 1n, labels: 1n, destroyed: 0n });
  expect(before.files).toBeGreaterThan(0);
  await tenant.leases.deleteLease({ leaseId });
  expect(await remainsOf(leaseId)).toEqual(nothing);
  expect(await textsInTables(leasehold.database, tenant, Object.values(markers))).toEqual([]);
  expect(await textsInFiles(dataDir, Object.values(markers))).toEqual([]);
});

test("after its time and a sweep, no row, no file, no byte and no digest of its request is left", async () => {
  const markers = markersOf("expired");
  const requestId = "0f0e0d0c-0b0a-4908-8706-050403020100";
  const { leaseId } = await tenant.store(bodyOf(markers.body), { requestId, labels: { marker: markers.label } });
  expect((await remainsOf(leaseId)).digests).toBe(1n);
  await tenant.age(leaseId, 3_600);
  await leasehold.sweep();
  expect(await remainsOf(leaseId)).toEqual(nothing);
  expect(await textsInTables(leasehold.database, tenant, Object.values(markers))).toEqual([]);
  expect(await textsInFiles(dataDir, Object.values(markers))).toEqual([]);
});

test("an upload that was abandoned half way leaves nothing", async () => {
  const { leaseId } = await tenant.create();
  await tenant.nativeLeases.uploadContentPart({ leaseId, data: bodyOf("half of it") });
  await tenant.age(leaseId, 3_600);
  await leasehold.sweep();
  expect(await remainsOf(leaseId)).toEqual(nothing);
});

test("a lease whose upload never began is destroyed like any other", async () => {
  const { leaseId } = await tenant.create();
  await tenant.leases.deleteLease({ leaseId });
  expect(await remainsOf(leaseId)).toEqual(nothing);
});

describe("a crash", () => {
  afterEach(async () => {
    await leasehold.sweep();
  });

  /** Ends a lease by its time, and nothing more: what a sweeper leaves that dies right after. */
  async function endOnly(leaseId: string): Promise<void> {
    await tenant.age(leaseId, 3_600);
    await leasehold.database.run(endDueLeases, [tenant.ownerId, [leaseUuid(leaseId)]]);
  }

  test("after the end is committed: the key is gone with it, nothing is readable, and the next sweep destroys the rest", async () => {
    const { leaseId } = await storeMarked("ended only");
    await endOnly(leaseId);
    expect(await remainsOf(leaseId)).toMatchObject({
      keys: 0n,
      details: 0n,
      labels: 0n,
      contents: 1n,
      segments: 1n,
      destroyed: 0n,
    });
    expect(await refusalOf(await tenant.get(leaseId))).toMatchObject({ status: 410, reason: "LEASE_ENDED" });
    await leasehold.sweep();
    expect(await remainsOf(leaseId)).toEqual(nothing);
  });

  test("after the files are gone and before the rows are", async () => {
    const { leaseId } = await storeMarked("files gone");
    await endOnly(leaseId);
    await leasehold.core.store.destroyLeases([leaseUuid(leaseId)]);
    expect(await remainsOf(leaseId)).toMatchObject({ contents: 1n, segments: 1n, destroyed: 0n, files: 0 });
    await leasehold.sweep();
    expect(await remainsOf(leaseId)).toEqual(nothing);
  });

  test("after the rows are gone and before that is recorded", async () => {
    const { leaseId } = await storeMarked("rows gone");
    await endOnly(leaseId);
    await leasehold.core.store.destroyLeases([leaseUuid(leaseId)]);
    await leasehold.database.run(deleteBodies, [[tenant.ownerId], [leaseUuid(leaseId)]]);
    expect(await remainsOf(leaseId)).toMatchObject({ contents: 0n, segments: 0n, destroyed: 0n });
    await leasehold.sweep();
    expect(await remainsOf(leaseId)).toEqual(nothing);
  });

  test("of the disk under one lease's files stalls no other's destruction, is told, and is made up for later", async () => {
    const [broken, sound] = [await storeMarked("broken"), await storeMarked("sound")];
    await endOnly(broken.leaseId);
    await endOnly(sound.leaseId);
    const sweeper = buildSweeper({ ...leasehold.core, destroyer: destroyerThatFails(leaseUuid(broken.leaseId)) });
    await expect(sweeper.sweepOnce()).rejects.toThrow(leaseUuid(broken.leaseId));
    expect(await remainsOf(sound.leaseId)).toEqual(nothing);
    expect(await remainsOf(broken.leaseId)).toMatchObject({ contents: 1n, destroyed: 0n });
    await leasehold.sweep();
    expect(await remainsOf(broken.leaseId)).toEqual(nothing);
  });
});

/** A destroyer over a disk on which one lease's files cannot be removed. */
function destroyerThatFails(leaseId: string): LeaseDestroyer {
  const { database, seals, bodies, store, config } = leasehold.core;
  const broken = Object.assign(Object.create(DirectoryStore.prototype), {
    async destroyLeases(leaseIds: readonly string[]) {
      if (leaseIds.includes(leaseId)) {
        throw Object.assign(new Error("EIO: i/o error, unlink"), { code: "EIO" });
      }
      await store.destroyLeases(leaseIds);
    },
  });
  const variant = new StorageVariant({ database, seals, store: broken, bodies, maxFileBytes: config.maxFileBytes });
  return new LeaseDestroyer(database, new LeaseVariants([variant]), seals);
}
