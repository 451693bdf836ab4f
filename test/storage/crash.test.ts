/** Design 7: what was acknowledged of an upload outlives kill -9 and a full disk, and the upload goes on from there. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { request } from "node:http";
import { getuid } from "node:process";
import { afterAll, expect, test } from "vitest";
import { Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { tinyFileSystem } from "../content/temporary-folder.ts";
import { seenReason } from "../server/seen-error.ts";
import { generatedBytes } from "../support/generated-bytes.ts";
import { ServerProcess } from "../support/server-process.ts";
import { refusalOf, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold);
const place = { databaseUrl: leasehold.databaseUrl, dataDir: leasehold.core.config.dataDir };
const mebibyte = 1_048_576;
const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest();

const running: ServerProcess[] = [];
afterAll(() => Promise.all(running.map((process) => process.kill())));

async function startProcess(settings: Record<string, string> = {}): Promise<ServerProcess> {
  const process = await ServerProcess.start({ ...place, settings });
  running.push(process);
  return process;
}

/** Sends the rest of a body and finishes it. */
async function finish(leaseId: string, body: Buffer): Promise<void> {
  const stored = await tenant.storedBytes(leaseId);
  const range = { "content-range": `bytes ${stored}-${body.length - 1}/${body.length}` };
  const digest = { "repr-digest": `sha-256=:${sha256(body).toString("base64")}:` };
  const response = await tenant.put(leaseId, body.subarray(Number(stored)), { ...range, ...digest });
  expect(response.status).toBe(200);
  expect((await tenant.show(leaseId)).state).toBe(Lease_State.ACTIVE);
  expect(sha256(await tenant.download(leaseId, "native")).equals(sha256(body))).toBe(true);
}

test("a server killed in mid-upload loses nothing that it acknowledged, and another goes on from there", async () => {
  const process = await startProcess();
  const body = generatedBytes(1, 0, 66 * mebibyte);
  const small = body.subarray(0, 6 * mebibyte);
  const byPart = await tenant.create({ sizeBytes: BigInt(small.length) });
  const byStream = await tenant.create({ sizeBytes: BigInt(body.length) });
  const at = tenant.at(process);
  for (const [from, to] of [
    [0, 3 * mebibyte],
    [3 * mebibyte, 5 * mebibyte + 77],
  ] as const) {
    await at.nativeLeases.uploadContentPart({
      leaseId: byPart.leaseId,
      offset: BigInt(from),
      data: small.subarray(from, to),
    });
  }
  const put = request(at.contentUrl(byStream.leaseId), { method: "PUT", headers: at.headers });
  put.on("error", () => put.destroy());
  put.write(body.subarray(0, 65 * mebibyte));
  while ((await tenant.storedBytes(byStream.leaseId)) === 0n) {
    // A stream is committed as it goes: what is shown as stored is acknowledged.
  }
  const stored = await tenant.storedBytes(byStream.leaseId);
  const closed = new Promise<void>((resolve) => put.once("close", resolve));
  await process.kill();
  await closed;
  expect(await tenant.storedBytes(byPart.leaseId)).toBe(BigInt(5 * mebibyte + 77));
  expect(await tenant.storedBytes(byStream.leaseId)).toBe(stored);
  await finish(byPart.leaseId, small);
  await finish(byStream.leaseId, body);
});

test("an upload that was finished is whole after the server was killed at once", async () => {
  const process = await startProcess();
  const body = generatedBytes(2, 0, 2 * mebibyte + 5);
  const { leaseId } = await tenant.create({ sizeBytes: BigInt(body.length) });
  expect((await tenant.at(process).put(leaseId, body)).status).toBe(200);
  await process.kill();
  expect((await tenant.download(leaseId, "connect")).equals(body)).toBe(true);
});

test.skipIf(getuid?.() !== 0)(
  "a full disk is DISK_FULL, keeps what was stored, and lets the upload go on once there is room",
  async () => {
    const folder = tinyFileSystem(2 * mebibyte) ?? "";
    const process = await startProcess({ LEASEHOLD_CONTENT_DIR: folder });
    const at = tenant.at(process);
    const body = generatedBytes(3, 0, 6 * mebibyte);
    const { leaseId } = await tenant.create({ sizeBytes: BigInt(body.length) });
    await at.leases.uploadContentPart({ leaseId, data: body.subarray(0, mebibyte) });
    const part = { leaseId, offset: BigInt(mebibyte), data: body.subarray(mebibyte, 4 * mebibyte) };
    expect(await seenReason(at.nativeLeases.uploadContentPart(part))).toBe("DISK_FULL");
    const range = { "content-range": `bytes ${mebibyte}-${body.length - 1}/${body.length}` };
    const refused = await refusalOf(await at.put(leaseId, body.subarray(mebibyte), range));
    expect(refused).toMatchObject({ status: 507, reason: "DISK_FULL" });
    expect(await tenant.show(leaseId)).toMatchObject({
      state: Lease_State.CREATED,
      details: { value: { storedBytes: BigInt(mebibyte) } },
    });
    execFileSync("mount", ["-o", `remount,size=${16 * mebibyte}`, folder]);
    await at.nativeLeases.uploadContentPart(part);
    const rest = {
      leaseId,
      offset: BigInt(4 * mebibyte),
      data: body.subarray(4 * mebibyte),
      finish: true,
      sha256: sha256(body),
    };
    await at.nativeLeases.uploadContentPart(rest);
    expect((await at.download(leaseId, "native")).equals(body)).toBe(true);
    await process.kill();
  },
);

test("a small body is stored, in its row, while the disk for content is full", async () => {
  const folder = tinyFileSystem(4_096);
  if (folder === undefined) {
    return;
  }
  const process = await startProcess({ LEASEHOLD_CONTENT_DIR: folder });
  const { leaseId } = await tenant.create();
  expect((await tenant.at(process).put(leaseId, Buffer.alloc(65_536, 1))).status).toBe(200);
  await process.kill();
});

test("a peer that goes away and comes back at once is not kept waiting by its own broken upload", async () => {
  const { leaseId } = await tenant.create();
  const body = generatedBytes(4, 0, 300_000);
  const put = request(tenant.contentUrl(leaseId), {
    method: "PUT",
    headers: { ...tenant.headers, "content-length": body.length },
  });
  put.on("error", () => put.destroy());
  put.write(body.subarray(0, 200_000), () => put.destroy());
  await once(put, "close").catch(() => undefined);
  expect((await tenant.put(leaseId, body)).status).toBe(200);
  expect((await tenant.download(leaseId, "native")).equals(body)).toBe(true);
});
