/** Design 7: of several writers of one body the latest begun is the one, and no other can change a byte of it. */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { Callers } from "../../src/account/caller.ts";
import { scopeBits } from "../../src/account/scopes.ts";
import type { ContentStore } from "../../src/content/content-store.ts";
import { endLeasesOfCaller } from "../../src/lease/lease-statements.ts";
import { StorageBodies } from "../../src/storage/storage-body.ts";
import { StorageUpload } from "../../src/storage/storage-upload.ts";
import { StorageUploads } from "../../src/storage/storage-uploads.ts";
import { seenError, seenReason } from "../server/seen-error.ts";
import { fakeCall } from "../support/fake-call.ts";
import { generatedBytes } from "../support/generated-bytes.ts";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";

const first = await TestLeasehold.start();
const second = await TestLeasehold.start({ beside: first });
const tenant = await Tenant.open(first, 1_000_000_000n);
const caller = await new Callers(first.database).of(fakeCall({ bearer: tenant.account.apiKey }));
const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest();
const none = new Uint8Array();
const never = new AbortController().signal;

/** Uploads of a process of their own, over a store in which the test may come between. */
function uploadsOver(store: Partial<ContentStore> = {}): StorageUploads {
  const { database, seals, store: real } = first.core;
  const between = new Proxy<ContentStore>(real, {
    get: (_, name) => {
      const own: unknown = Reflect.get(store, name);
      const method: unknown = own ?? Reflect.get(real, name, real);
      return typeof method === "function" ? method.bind(own === undefined ? real : store) : method;
    },
  });
  return new StorageUploads({ database, seals, store: between, bodies: new StorageBodies(database, between, seals) });
}

/** Begins an upload at an offset. */
async function begin(
  uploads: StorageUploads,
  leaseId: string,
  offset: bigint,
  options: { by?: typeof caller; restart?: boolean } = {},
) {
  const { by = caller, restart = false } = options;
  const start = { offset, restart, leastBytes: 0n, mostBytes: undefined, signal: new AbortController().signal };
  const begun = await uploads.begin(by, leaseUuid(leaseId), start);
  if (!(begun instanceof StorageUpload)) {
    throw new Error("there was nothing left to upload");
  }
  return begun;
}

/** Resolves once this many uploads to the lease have begun. */
async function uploadsBegun(leaseId: string, count: number): Promise<void> {
  for (;;) {
    const text = "select from storage_content where lease_id = $1 and upload_generation >= $2";
    if ((await query(first.database, text, [leaseUuid(leaseId), count])).length > 0) {
      return;
    }
  }
}

test("a stream that goes on after a later one began fails with STREAM_SUPERSEDED, and the body is the later one's", async () => {
  const { leaseId } = await tenant.create();
  const goOn = Promise.withResolvers<void>();
  async function* zombie() {
    yield { target: { case: "leaseId" as const, value: leaseId }, data: generatedBytes(1, 0, 200_000) };
    await goOn.promise;
    yield { offset: 200_000n, data: generatedBytes(1, 200_000, 250_000), finish: true };
  }
  const outcome = seenError(tenant.nativeLeases.uploadContent(zombie()));
  await uploadsBegun(leaseId, 1);
  const body = generatedBytes(2, 0, 150_000);
  await tenant.at(second).leases.uploadContentPart({ leaseId, data: body });
  goOn.resolve();
  expect((await outcome).details.ErrorInfo).toMatchObject({
    reason: "STREAM_SUPERSEDED",
    metadata: { stored_offset: "150000" },
  });
  await tenant.leases.uploadContentPart({ leaseId, offset: 150_000n, finish: true, sha256: sha256(body) });
  expect((await tenant.download(leaseId, "native")).equals(body)).toBe(true);
});

test("a writer fails once a later one has begun, also before that one has stored anything", async () => {
  const { leaseId } = await tenant.create();
  const zombie = await begin(uploadsOver(), leaseId, 0n);
  await zombie.append(generatedBytes(1, 0, 200_000));
  const later = await begin(uploadsOver(), leaseId, 0n);
  await expect(zombie.finish(none, never)).rejects.toMatchObject({ reason: "STREAM_SUPERSEDED" });
  await zombie.abandon();
  const body = generatedBytes(2, 0, 100_000);
  await later.append(body);
  await later.finish(sha256(body), never);
  expect((await tenant.download(leaseId, "native")).equals(body)).toBe(true);
});

test("of parts for one offset that come at once to two servers exactly one is stored, and the bytes are its own", async () => {
  for (let round = 0; round < 6; round++) {
    const { leaseId } = await tenant.create();
    const start = generatedBytes(100, 0, round * 30_000);
    if (start.length > 0) {
      await tenant.leases.uploadContentPart({ leaseId, data: start });
    }
    const parts = [1, 2, 3, 4].map((seed) => generatedBytes(seed, 0, 70_000));
    const outcomes = await Promise.allSettled(
      parts.map((data, index) =>
        tenant
          .at(index % 2 === 0 ? first : second)
          .nativeLeases.uploadContentPart({ leaseId, offset: BigInt(start.length), data }),
      ),
    );
    const winners = parts.filter((_, index) => outcomes[index]?.status === "fulfilled");
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") {
        const refused = await seenReason(Promise.reject(outcome.reason));
        expect(["STREAM_SUPERSEDED", "OFFSET_MISMATCH"]).toContain(refused);
      }
    }
    expect(winners).toHaveLength(1);
    await tenant.leases.uploadContentPart({ leaseId, offset: BigInt(start.length + 70_000), finish: true });
    const stored = await tenant.download(leaseId, "native");
    expect(stored.equals(Buffer.concat([start, ...winners]))).toBe(true);
  }
});

test("a writer that wakes up after the body is finished changes nothing, and leaves no file behind", async () => {
  const { leaseId } = await tenant.create();
  const body = generatedBytes(3, 0, 400_000);
  await tenant.leases.uploadContentPart({ leaseId, data: body.subarray(0, 300_000) });
  const zombie = await begin(uploadsOver(), leaseId, 300_000n);
  await zombie.append(generatedBytes(4, 0, 200_000));
  await tenant.leases.uploadContentPart({
    leaseId,
    offset: 300_000n,
    data: body.subarray(300_000),
    finish: true,
    sha256: sha256(body),
  });
  const filesBefore = await segmentsOf(leaseId);
  await expect(zombie.finish(none, never)).rejects.toMatchObject({ reason: "WRONG_STATE" });
  await zombie.abandon();
  expect(await segmentsOf(leaseId)).toEqual(filesBefore);
  expect((await tenant.download(leaseId, "native")).equals(body)).toBe(true);
});

test("a restart that is slow to remove what it dropped removes nothing of a later writer", async () => {
  const { leaseId } = await tenant.create();
  await tenant.leases.uploadContentPart({ leaseId, data: generatedBytes(5, 0, 300_000) });
  const body = generatedBytes(6, 0, 250_000);
  const { store } = first.core;
  const slow = uploadsOver({
    async removeEarlierSegments(id, generation) {
      await tenant.leases.uploadContentPart({ leaseId, data: body });
      await store.removeEarlierSegments(id, generation);
    },
  });
  const superseded = await begin(slow, leaseId, 0n, { restart: true });
  await superseded.abandon();
  await tenant.leases.uploadContentPart({ leaseId, offset: 250_000n, finish: true, sha256: sha256(body) });
  expect((await tenant.download(leaseId, "native")).equals(body)).toBe(true);
});

test("a restart gives back the room of what it dropped", async () => {
  const { leaseId } = await tenant.create();
  await tenant.leases.uploadContentPart({ leaseId, data: generatedBytes(5, 0, 300_000) });
  expect(await segmentsOf(leaseId)).toEqual([1]);
  await tenant.put(leaseId, generatedBytes(6, 0, 250_000));
  expect(await segmentsOf(leaseId)).toEqual([2]);
});

test("a finish that is hashing what a later restart has removed is told that it was superseded", async () => {
  const { leaseId } = await tenant.create();
  await tenant.leases.uploadContentPart({ leaseId, data: generatedBytes(7, 0, 300_000) });
  const body = generatedBytes(8, 0, 250_000);
  const { store } = first.core;
  const uploads = uploadsOver({
    async openSegment(id, generation) {
      const restart = await begin(uploadsOver(), leaseId, 0n, { restart: true });
      await restart.append(body);
      await restart.suspend();
      return await store.openSegment(id, generation);
    },
  });
  const hashing = await begin(uploads, leaseId, 300_000n);
  await hashing.append(Buffer.from("the end"));
  await expect(hashing.finish(none, never)).rejects.toMatchObject({ reason: "STREAM_SUPERSEDED" });
  await hashing.abandon();
  await tenant.leases.uploadContentPart({ leaseId, offset: 250_000n, finish: true, sha256: sha256(body) });
  expect((await tenant.download(leaseId, "native")).equals(body)).toBe(true);
});

test("a writer whose lease is deleted meanwhile is told so, and leaves no file behind", async () => {
  const { leaseId } = await tenant.create();
  const upload = await begin(uploadsOver(), leaseId, 0n);
  await upload.append(generatedBytes(9, 0, 2_000_000 >> 1));
  await tenant.at(second).leases.deleteLease({ leaseId });
  await expect(upload.finish(none, never)).rejects.toMatchObject({ reason: "LEASE_ENDED" });
  await upload.abandon();
  expect(await segmentsOf(leaseId)).toEqual([]);
});

test("a finish brings no lease back that has ended, also before its content is destroyed", async () => {
  const { leaseId } = await tenant.create();
  const upload = await begin(uploadsOver(), leaseId, 0n);
  await upload.append(Buffer.from("too late"));
  const values = [caller.ownerId, [leaseUuid(leaseId)], caller.keyId, scopeBits.write];
  await first.database.run(endLeasesOfCaller, values);
  await expect(upload.finish(none, never)).rejects.toMatchObject({ reason: "LEASE_ENDED" });
  await upload.abandon();
  const shown = await tenant.show(leaseId);
  expect(shown).toMatchObject({ state: Lease_State.EXPIRED, details: { value: { storedBytes: 0n } } });
  expect(shown.activeTime).toBeUndefined();
});

test("a writer whose key is revoked meanwhile stores nothing more", async () => {
  const { leaseId } = await tenant.create();
  const { key, apiKey } = await tenant.accounts.createApiKey({ name: "writer" });
  const writer = await new Callers(first.database).of(fakeCall({ bearer: apiKey }));
  const upload = await begin(uploadsOver(), leaseId, 0n, { by: writer });
  await upload.append(Buffer.from("some bytes"));
  await tenant.accounts.revokeApiKey({ keyId: key?.keyId ?? "" });
  await expect(upload.suspend()).rejects.toMatchObject({ reason: "CREDENTIAL_INVALID" });
  await upload.abandon();
  expect(await tenant.storedBytes(leaseId)).toBe(0n);
});

test("a lease's key seals no more than it may: uploads are refused before, and what is stored stays", async () => {
  const { leaseId } = await tenant.create();
  await tenant.leases.uploadContentPart({ leaseId, data: Buffer.from("stored") });
  await query(first.database, "update lease set seal_count = 2147483648 - 1024 where lease_id = $1", [
    leaseUuid(leaseId),
  ]);
  await tenant.leases.uploadContentPart({ leaseId, offset: 6n, data: Buffer.from(" more") });
  const refused = await seenError(tenant.leases.uploadContentPart({ leaseId, offset: 11n, data: Buffer.from("!") }));
  expect(refused.details.ErrorInfo).toMatchObject({ reason: "LIMIT_REACHED", metadata: { limit: "seals_per_lease" } });
  expect(await tenant.storedBytes(leaseId)).toBe(11n);
});

/** The generations whose segments have a file. */
async function segmentsOf(leaseId: string): Promise<number[]> {
  const generations: number[] = [];
  for (let generation = 1; generation < 10; generation++) {
    const reader = await first.core.store.openSegment(leaseUuid(leaseId), generation).catch(() => undefined);
    if (reader !== undefined) {
      generations.push(generation);
      await reader.close();
    }
  }
  return generations;
}
