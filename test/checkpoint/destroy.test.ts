/** Promise 4 for checkpoints: after an end no row, file or plaintext byte is left, and a crash at any step is finished. */
import { randomBytes } from "node:crypto";
import { readdir, utimes } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CheckpointFiles } from "../../src/checkpoint/checkpoint-files.ts";
import { deleteCheckpoints } from "../../src/checkpoint/checkpoint-statements.ts";
import { endDueLeases } from "../../src/lease/lease-statements.ts";
import { seenReason } from "../server/seen-error.ts";
import { textsInFiles, textsInTables } from "../support/plaintext.ts";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { rowsOf, segmentFiles, uploadOf, Workflows } from "./workflow.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold, 1_000_000_000n);
const workflows = new Workflows(tenant);
const { database } = leasehold;
const { dataDir } = leasehold.core.config;
const files = new CheckpointFiles(database, leasehold.core.checkpoints.files.store);
const nothing = { checkpoints: 0n, versions: 0n, files: 0n, workflows: 0n };

/** A lease of three versions, two with files, full of words that stand nowhere else. */
async function marked() {
  const markers = ["body", "type", "meta"].map((name) => `${name}x${randomBytes(12).toString("hex")}`);
  const [body = "", type = "", meta = ""] = markers;
  const { leaseId } = await workflows.begin();
  const request = { contentType: `text/${type}`, metadata: { of: meta } };
  await workflows.put(leaseId, body.repeat(10_000), request);
  await workflows.put(leaseId, body, request);
  await workflows.upload("native", uploadOf({ leaseId, ...request }, Buffer.from(body.repeat(10_000)), 100_000));
  return { leaseId, markers };
}

/** Which of some texts stand anywhere in the database's tables or in the data folder. */
async function found(texts: readonly string[]): Promise<string[]> {
  return [...(await textsInTables(database, tenant, texts)), ...(await textsInFiles(dataDir, texts))];
}

test("while a lease lives its bodies, types and metadata stand nowhere in clear", async () => {
  const { leaseId, markers } = await marked();
  expect(await found(markers)).toEqual([]);
  expect(await segmentFiles(leasehold, leaseId)).toHaveLength(2);
});

test("after a delete has answered, no row, no file and no byte is left", async () => {
  const { leaseId, markers } = await marked();
  await workflows.leases.deleteLease({ leaseId });
  expect(await rowsOf(database, leaseId)).toEqual(nothing);
  expect(await segmentFiles(leasehold, leaseId)).toEqual([]);
  expect(await found(markers)).toEqual([]);
});

test("after its time and a sweep, no row and no file is left", async () => {
  const { leaseId } = await marked();
  await tenant.age(leaseId, 3_600);
  await leasehold.sweep();
  expect(await rowsOf(database, leaseId)).toEqual(nothing);
  expect(await segmentFiles(leasehold, leaseId)).toEqual([]);
});

describe("a crash", () => {
  async function endOnly(leaseId: string): Promise<void> {
    await tenant.age(leaseId, 3_600);
    await database.run(endDueLeases, [tenant.ownerId, [leaseUuid(leaseId)]]);
  }

  test.each<[string, (leaseId: string) => Promise<unknown>]>([
    ["after the end is committed", async () => undefined],
    ["after the files are gone", (leaseId) => files.store.destroyLeases([leaseUuid(leaseId)])],
    [
      "after the rows are gone",
      async (leaseId) => {
        await files.store.destroyLeases([leaseUuid(leaseId)]);
        await database.run(deleteCheckpoints, [[tenant.ownerId], [leaseUuid(leaseId)]]);
      },
    ],
  ])("%s is finished by the next sweep", async (_, crash) => {
    const { leaseId } = await marked();
    await endOnly(leaseId);
    await crash(leaseId);
    await leasehold.sweep();
    expect(await rowsOf(database, leaseId)).toEqual(nothing);
    expect(await segmentFiles(leasehold, leaseId)).toEqual([]);
    expect((await tenant.show(leaseId)).destroyTime).toBeDefined();
  });
});

describe("files that belong to no version", () => {
  const owner = { ownerId: tenant.ownerId };

  /** A file as a writer leaves it whose server dies. */
  async function abandoned(leaseId: string): Promise<number> {
    const caller = { ...owner, keyId: await keyId() };
    const file = await files.begin(caller, leaseUuid(leaseId));
    const segment = await files.store.createSegment(leaseUuid(leaseId), file.generation);
    await segment.close();
    return file.generation;
  }

  async function keyId() {
    const [row] = await query<{ key_id: never }>(database, "select key_id from api_key where owner_id = $1", [
      tenant.ownerId,
    ]);
    return row?.key_id as never;
  }

  test("stay while their writers may be at work, and go an hour after those last said so", async () => {
    const { leaseId } = await workflows.begin();
    await abandoned(leaseId);
    await leasehold.sweep();
    expect(await segmentFiles(leasehold, leaseId)).toHaveLength(1);
    await query(
      database,
      "update checkpoint_file set touch_time = touch_time - interval '1 hour' where lease_id = $1",
      [leaseUuid(leaseId)],
    );
    await leasehold.sweep();
    expect(await segmentFiles(leasehold, leaseId)).toEqual([]);
    expect(await rowsOf(database, leaseId)).toMatchObject({ checkpoints: 1n, files: 0n });
  });

  test("go at once if they were pushed out", async () => {
    const { leaseId } = await workflows.begin();
    await abandoned(leaseId);
    await query(database, "update checkpoint_file set state = 2 where lease_id = $1", [leaseUuid(leaseId)]);
    await leasehold.sweep();
    expect(await segmentFiles(leasehold, leaseId)).toEqual([]);
    expect(await rowsOf(database, leaseId)).toMatchObject({ files: 0n });
  });

  test.each([
    ["removed", () => leasehold.sweep()],
    ["about to be removed", () => query(database, "update checkpoint_file set state = 2 where state = 1")],
  ])("a writer whose file was given up meanwhile, and is %s, is refused", async (_, giveUp) => {
    const { leaseId } = await workflows.begin();
    const { promise: isGivenUp, resolve: goOn } = Promise.withResolvers<void>();
    async function* messages() {
      yield { put: { leaseId }, data: Buffer.alloc(300_000) };
      await isGivenUp;
      yield { offset: 300_000n, data: Buffer.alloc(10), finish: true };
    }
    const upload = seenReason(workflows.upload("native", messages()));
    while ((await rowsOf(database, leaseId)).files === 0n) {
      // The file is being begun.
    }
    await query(
      database,
      "update checkpoint_file set touch_time = touch_time - interval '1 hour' where lease_id = $1",
      [leaseUuid(leaseId)],
    );
    await giveUp();
    goOn();
    expect(await upload).toBe("STREAM_SUPERSEDED");
    expect(await segmentFiles(leasehold, leaseId)).toEqual([]);
    expect(await seenReason(workflows.get(leaseId))).toBe("NOT_FOUND");
  });
});

test("the sweep for orphans removes a lease's folder without rows, and no file of a lease that lives", async () => {
  const { leaseId } = await marked();
  const gone = await workflows.begin();
  await workflows.put(gone.leaseId, Buffer.alloc(300_000));
  await database.run(deleteCheckpoints, [[tenant.ownerId], [leaseUuid(gone.leaseId)]]);
  await expireFolders();
  await Promise.all(leasehold.core.variants.all.map((variant) => variant.removeOrphans()));
  expect(await segmentFiles(leasehold, leaseId)).toHaveLength(2);
  expect(await segmentFiles(leasehold, gone.leaseId)).toEqual([]);
  expect((await workflows.download("native", { leaseId })).length).toBeGreaterThan(65_536);
});

/** Makes every folder of content as old as if nothing had been written for an hour. */
async function expireFolders(): Promise<void> {
  const hourAgo = new Date(Date.now() - 3_600_000);
  for (const entry of await readdir(join(dataDir, "content"), { recursive: true, withFileTypes: true })) {
    await utimes(join(entry.parentPath, entry.name), hourAgo, hourAgo);
  }
}
