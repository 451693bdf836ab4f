/** Tests that downloads survive a network that breaks, and that a claim is made once and counted once all the same. */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Claim_State } from "#gen/leasehold/v1/handoff_pb.js";
import type { Lease } from "#gen/leasehold/v1/lease_pb.js";
import { type Connection, connect } from "../../src/client/connection.ts";
import { PartFile, TargetExistsError } from "../../src/client/part-file.ts";
import { confirmClaim, downloadClaim, downloadLease } from "../../src/client/resumable-download.ts";
import { generatedBytes } from "../support/generated-bytes.ts";
import { storageOf, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { connectThrough, impatient, openProxy } from "./network.ts";

const leasehold = await TestLeasehold.start();
const megabyte = 1_000_000;
const body = generatedBytes(1, 0, 3 * megabyte);
const room = { sizeBytes: BigInt(body.length) };

test("a broken download of a lease goes on where the file ends", async () => {
  const { tenant, lease, file } = await prepare();
  const proxy = await openProxy(leasehold);
  proxy.cutOnce({ direction: "down", afterBytes: 1.5 * megabyte });
  const seen: bigint[] = [];
  await downloadLease(lease.leaseId, {
    ...optionsOf(lease, connectThrough(proxy, tenant.account.apiKey), file),
    onProgress: (bytes) => seen.push(bytes),
  });
  expect(await readFile(file.path)).toEqual(body);
  expect(seen).toEqual([...seen].sort((left, right) => Number(left - right)));
});

test("what an earlier download has left is not asked for again, and is checked with the rest", async () => {
  const { tenant, lease, file } = await prepare();
  await file.append(body.subarray(0, 2 * megabyte));
  await file.close();
  const again = await openPart(file.path);
  await downloadLease(lease.leaseId, optionsOf(lease, direct(tenant), again));
  expect(await readFile(file.path)).toEqual(body);

  const wrong = besideOf(file);
  await writeFile(wrong, Buffer.alloc(2 * megabyte));
  const spoilt = await openPart(wrong);
  await expect(downloadLease(lease.leaseId, optionsOf(lease, direct(tenant), spoilt))).rejects.toMatchObject({
    reason: "CHECKSUM_MISMATCH",
  });
  expect(spoilt.sizeBytes).toBe(0n);
});

test("a lease that is whole already is not asked for at all", async () => {
  const { lease, file } = await prepare();
  await file.append(body);
  await downloadLease(lease.leaseId, optionsOf(lease, connect({ url: "http://127.0.0.1:1" }), file));
  expect(file.sizeBytes).toBe(BigInt(body.length));
});

test("a claim that breaks goes on as the same claim, and is used once when it is confirmed", async () => {
  const { tenant, lease, file } = await prepare();
  const { claimToken: token } = await tenant.handoffs.issueHandoff({ leaseId: lease.leaseId, deleteOnClaim: true });
  const proxy = await openProxy(leasehold);
  proxy.cutOnce({ direction: "down", afterBytes: 2.9 * megabyte });
  const connection = connectThrough(proxy);
  const claims: string[] = [];
  const onClaim = async (claim: string) => void claims.push(claim);
  const claimId = await downloadClaim({ ...optionsOf(lease, connection, file), token, onClaim });
  expect(claims).toEqual([claimId]);
  expect(await readFile(file.path)).toEqual(body);
  expect(await claimsOf(tenant, lease)).toEqual([Claim_State.DELIVERED]);

  expect(await confirmClaim({ connection, retry: impatient }, token, claimId)).toBe(true);
  expect(await claimsOf(tenant, lease)).toEqual([Claim_State.USED]);
});

test("a claim whose first answer is lost is found again, and not made twice", async () => {
  const { tenant, lease, file } = await prepare();
  const { claimToken: token } = await tenant.handoffs.issueHandoff({ leaseId: lease.leaseId, maxClaims: 3 });
  const proxy = await openProxy(leasehold);
  proxy.cutOnce({ direction: "down", afterBytes: 1 });
  await downloadClaim({ ...optionsOf(lease, connectThrough(proxy), file), token });
  expect(await readFile(file.path)).toEqual(body);
  expect(await claimsOf(tenant, lease)).toEqual([Claim_State.DELIVERED]);
});

test("a claim is held to what it delivers, whatever was there when its token was looked at", async () => {
  const { tenant, lease, file } = await prepare();
  const { claimToken: token } = await tenant.handoffs.issueHandoff({ leaseId: lease.leaseId });
  const proxy = await openProxy(leasehold);
  proxy.cutOnce({ direction: "down", afterBytes: 1.5 * megabyte });
  const options = optionsOf(lease, connectThrough(proxy), file);
  const earlier = { contentBytes: 5n, sha256: Buffer.alloc(32) };
  const contents: unknown[] = [];
  await downloadClaim({ ...options, ...earlier, token, onContent: (content) => void contents.push({ ...content }) });
  const { contentBytes, sha256 } = options;
  expect(contents).toEqual([
    { contentBytes, sha256: Buffer.from(sha256) },
    { contentBytes, sha256: Buffer.from(sha256) },
  ]);
  expect(await readFile(file.path)).toEqual(body);
});

test("a claim goes on in another process from what its part file holds", async () => {
  const { tenant, lease, file } = await prepare();
  const { claimToken: token } = await tenant.handoffs.issueHandoff({ leaseId: lease.leaseId });
  const proxy = await openProxy(leasehold);
  proxy.cutOnce({ direction: "down", afterBytes: megabyte });
  const once = { maxFailures: 1, firstDelayMs: 1, longestDelayMs: 1 };
  let claimId: string | undefined;
  const options = { ...optionsOf(lease, connectThrough(proxy), file), token };
  const broken = downloadClaim({
    ...options,
    retry: once,
    onClaim: async (id) => {
      claimId = id;
    },
  });
  await expect(broken).rejects.toMatchObject({ reason: "CONNECTION_FAILED" });
  await file.close();

  const again = await openPart(file.path);
  expect(again.sizeBytes).toBeGreaterThan(0n);
  await untilCounted(tenant, lease, again.sizeBytes);
  const seen: bigint[] = [];
  const onProgress = (bytes: bigint) => void seen.push(bytes);
  expect(await downloadClaim({ ...options, file: again, claimId, onProgress })).toBe(claimId);
  expect(seen[0]).toBeGreaterThan(0n);
  expect(await readFile(file.path)).toEqual(body);
  expect(await claimsOf(tenant, lease)).toEqual([Claim_State.DELIVERED]);
});

test("a refusal is told and not tried again", async () => {
  const { tenant, lease, file } = await prepare();
  const { claimToken: token } = await tenant.handoffs.issueHandoff({ leaseId: lease.leaseId });
  const options = optionsOf(lease, connect({ url: leasehold.httpUrl }), file);
  const onRetry = () => expect.unreachable();
  const claimId = await downloadClaim({ ...options, token, onRetry });
  await confirmClaim(options, token, claimId);
  await expect(downloadClaim({ ...options, token, onRetry })).rejects.toMatchObject({ reason: "HANDOFF_EXHAUSTED" });
  await expect(downloadLease(lease.leaseId, { ...options, onRetry })).rejects.toMatchObject({
    reason: "CREDENTIAL_MISSING",
  });
});

test("a whole file gets its name, over another only when asked, and no part of it is left", async () => {
  const { file } = await prepare();
  const target = besideOf(file);
  await file.append(Buffer.from("new"));
  await writeFile(target, "old");
  await expect(file.complete(target, { replace: false })).rejects.toThrow(TargetExistsError);
  expect(await readFile(target, "utf8")).toBe("old");
  const again = await openPart(file.path);
  await again.complete(target, { replace: true });
  expect(await readFile(target, "utf8")).toBe("new");
  expect(await readdir(join(target, ".."))).toEqual(["other"]);
});

/** A lease with the body, and an empty file to download it to. */
async function prepare(): Promise<{ tenant: Tenant; lease: Lease; file: PartFile }> {
  const folder = await mkdtemp(join(tmpdir(), "leasehold-download-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const tenant = await Tenant.open(leasehold);
  return { tenant, lease: await tenant.store(body, room), file: await openPart(join(folder, "part")) };
}

async function openPart(path: string): Promise<PartFile> {
  const file = await PartFile.open(path);
  onTestFinished(() => file.close());
  return file;
}

function besideOf(file: PartFile): string {
  return join(file.path, "..", "other");
}

function optionsOf(lease: Lease, connection: Connection, file: PartFile) {
  const sha256 = storageOf(lease).sha256;
  return { connection, file, contentBytes: BigInt(body.length), sha256, retry: impatient };
}

function direct(tenant: Tenant): Connection {
  return connect({ url: leasehold.httpUrl, bearer: tenant.account.apiKey });
}

/** Resolves once the server has counted what the broken connection had brought. */
async function untilCounted(tenant: Tenant, { leaseId }: Lease, bytes: bigint): Promise<void> {
  for (;;) {
    const { handoffs } = await tenant.handoffs.listHandoffs({ leaseId });
    if (handoffs.some(({ claims }) => claims.some((claim) => claim.deliveredBytes >= bytes))) {
      return;
    }
  }
}

async function claimsOf(tenant: Tenant, { leaseId }: Lease): Promise<Claim_State[]> {
  const { handoffs } = await tenant.handoffs.listHandoffs({ leaseId });
  return handoffs.flatMap(({ claims }) => claims.map((claim) => claim.state));
}
