/** Design 7: what a commit may have stored stays on the disk, also when the server was not told that it was done. */
import { createHash } from "node:crypto";
import { afterAll, expect, test } from "vitest";
import { Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { Callers } from "../../src/account/caller.ts";
import { StorageUpload } from "../../src/storage/storage-upload.ts";
import { StorageUploads } from "../../src/storage/storage-uploads.ts";
import { seenError } from "../server/seen-error.ts";
import { fakeCall } from "../support/fake-call.ts";
import { generatedBytes } from "../support/generated-bytes.ts";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { WayToPostgres } from "../support/way-to-postgres.ts";

const steady = await TestLeasehold.start();
const way = await WayToPostgres.open(steady.databaseUrl);
const shaken = await TestLeasehold.start({ beside: steady, way: async () => way.url });
afterAll(() => way.close());
const tenant = await Tenant.open(steady);
const caller = await new Callers(steady.database).of(fakeCall({ bearer: tenant.account.apiKey }));
const uploads = new StorageUploads(shaken.core);
const body = generatedBytes(1, 0, 500_000);
const sha256 = createHash("sha256").update(body).digest();

/** An upload of the shaken server's with this much of the body taken and not committed. */
async function begunWith(leaseId: string, data: Buffer): Promise<StorageUpload> {
  const start = {
    offset: 0n,
    restart: false,
    leastBytes: 0n,
    mostBytes: undefined,
    signal: new AbortController().signal,
  };
  const upload = await uploads.begin(caller, leaseUuid(leaseId), start);
  if (!(upload instanceof StorageUpload)) {
    throw new Error("there was nothing left to upload");
  }
  await upload.append(data);
  return upload;
}

/** Runs a commit that is done and of which the server is not told, and then the end of the upload that follows. */
async function loseAnswerOf(
  commit: () => Promise<unknown>,
  isDone: () => Promise<boolean>,
  upload: StorageUpload,
): Promise<void> {
  way.loseAnswers();
  const lost = expect(commit()).rejects.toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
  while (!(await isDone())) {
    // What the steady server shows is the signal.
  }
  way.break();
  await lost;
  await upload.abandon();
}

test("a part that was stored, and whose answer was lost, stays, and the upload goes on behind it", async () => {
  const { leaseId } = await tenant.create();
  const upload = await begunWith(leaseId, body.subarray(0, 300_000));
  await loseAnswerOf(
    () => upload.suspend(),
    async () => (await tenant.storedBytes(leaseId)) === 300_000n,
    upload,
  );
  const repeated = seenError(tenant.leases.uploadContentPart({ leaseId, data: body.subarray(0, 300_000) }));
  expect((await repeated).details.ErrorInfo).toMatchObject({
    reason: "OFFSET_MISMATCH",
    metadata: { stored_offset: "300000" },
  });
  const rest = { leaseId, offset: 300_000n, data: body.subarray(300_000), finish: true, sha256 };
  await tenant.leases.uploadContentPart(rest);
  expect((await tenant.download(leaseId, "native")).equals(body)).toBe(true);
});

test("a finish that was done, and whose answer was lost, leaves the lease active with its whole body", async () => {
  const { leaseId } = await tenant.create();
  const upload = await begunWith(leaseId, body);
  await loseAnswerOf(
    () => upload.finish(sha256, new AbortController().signal),
    async () => (await tenant.show(leaseId)).state === Lease_State.ACTIVE,
    upload,
  );
  expect((await tenant.show(leaseId)).details.value).toMatchObject({ sha256: new Uint8Array(sha256) });
  expect((await tenant.download(leaseId, "native")).equals(body)).toBe(true);
});
