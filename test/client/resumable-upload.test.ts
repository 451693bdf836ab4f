/** Tests that an upload survives a network that breaks, and that nothing but the whole right body ever makes a lease active. */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { type Connection, connect } from "../../src/client/connection.ts";
import { type UploadSource, uploadResumably } from "../../src/client/resumable-upload.ts";
import { generatedBytes } from "../support/generated-bytes.ts";
import { roomForAnHour, storageOf, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { connectThrough, impatient, openProxy } from "./network.ts";

const leasehold = await TestLeasehold.start();
const megabyte = 1_000_000;
const room = { ...roomForAnHour, sizeBytes: BigInt(4 * megabyte) };

test("a broken upload goes on where the server's copy ends", async () => {
  const { tenant, upload, starts } = await prepare(generatedBytes(1, 0, 3 * megabyte), 1.5 * megabyte);
  const lease = await upload;
  expect(lease.state).toBe(Lease_State.ACTIVE);
  const [first, second, ...others] = starts;
  expect([first, others]).toEqual([0n, []]);
  expect(second).toBeGreaterThan(0n);
  expect(await tenant.download(lease.leaseId, "connect")).toEqual(generatedBytes(1, 0, 3 * megabyte));
});

test("an upload whose last answer is lost is found to be done", async () => {
  const tenant = await Tenant.open(leasehold);
  const lease = await tenant.create(room);
  const body = generatedBytes(2, 0, megabyte);
  const proxy = await openProxy(leasehold);
  proxy.cutOnce({ direction: "down", afterBytes: 1 });
  const active = await uploadResumably({
    connection: connectThrough(proxy, tenant.account.apiKey),
    lease,
    source: sourceOf(body),
    retry: impatient,
  });
  expect(active.state).toBe(Lease_State.ACTIVE);
  expect(await tenant.download(lease.leaseId, "connect")).toEqual(body);
});

test("all of a body that is stored and not finished is finished", async () => {
  const tenant = await Tenant.open(leasehold);
  const { leaseId } = await tenant.create(room);
  const body = generatedBytes(3, 0, 100_000);
  await tenant.leases.uploadContentPart({ leaseId, data: body });
  const active = await uploadResumably({
    connection: direct(tenant),
    lease: await tenant.show(leaseId),
    source: sourceOf(body),
  });
  expect(active.state).toBe(Lease_State.ACTIVE);
});

test("what another body has left in a lease is replaced, whether it is shorter, as long or longer", async () => {
  const tenant = await Tenant.open(leasehold);
  const body = generatedBytes(4, 0, 200_000);
  for (const bytes of [100_000, 200_000, 300_000]) {
    const { leaseId } = await tenant.create(room);
    await tenant.leases.uploadContentPart({ leaseId, data: generatedBytes(5, 0, bytes) });
    const lease = await tenant.show(leaseId);
    const active = await uploadResumably({
      connection: direct(tenant),
      lease,
      source: sourceOf(body),
      retry: impatient,
    });
    expect(active.state).toBe(Lease_State.ACTIVE);
    expect(await tenant.download(leaseId, "connect")).toEqual(body);
  }
});

test("repeating an upload that has succeeded succeeds, and another body is refused", async () => {
  const tenant = await Tenant.open(leasehold);
  const body = generatedBytes(6, 0, 10_000);
  const lease = await tenant.store(body);
  const connection = direct(tenant);
  expect(await uploadResumably({ connection, lease, source: sourceOf(body) })).toEqual(lease);
  const other = sourceOf(generatedBytes(7, 0, 10_000));
  await expect(uploadResumably({ connection, lease, source: other })).rejects.toMatchObject({ reason: "WRONG_STATE" });
});

test("an empty body makes a lease active", async () => {
  const tenant = await Tenant.open(leasehold);
  const lease = await tenant.create(room);
  const active = await uploadResumably({ connection: direct(tenant), lease, source: sourceOf(Buffer.of()) });
  expect([active.state, storageOf(active).storedBytes]).toEqual([Lease_State.ACTIVE, 0n]);
});

test("a body that is not what its checksum says leaves the lease without content", async () => {
  const tenant = await Tenant.open(leasehold);
  const lease = await tenant.create(room);
  const source = { ...sourceOf(generatedBytes(8, 0, 10_000)), sha256: new Uint8Array(32) };
  await expect(uploadResumably({ connection: direct(tenant), lease, source })).rejects.toMatchObject({
    reason: "CHECKSUM_MISMATCH",
  });
  expect((await tenant.show(lease.leaseId)).state).toBe(Lease_State.CREATED);
});

test("a body that is larger than its lease is refused before it is sent", async () => {
  const tenant = await Tenant.open(leasehold);
  const lease = await tenant.create({ sizeBytes: 10n });
  const source = sourceOf(generatedBytes(9, 0, 11));
  await expect(uploadResumably({ connection: direct(tenant), lease, source })).rejects.toMatchObject({
    reason: "BODY_TOO_LARGE",
    metadata: { limit_bytes: "10", value_bytes: "11" },
  });
});

test("what fails for good is not tried again, and what keeps failing is given up", async () => {
  const tenant = await Tenant.open(leasehold);
  const lease = await tenant.create(room);
  const source = sourceOf(generatedBytes(10, 0, 10_000));
  let retries = 0;
  const onRetry = () => {
    retries += 1;
  };
  await tenant.leases.deleteLease({ leaseId: lease.leaseId });
  const gone = uploadResumably({ connection: direct(tenant), lease, source, retry: impatient, onRetry });
  await expect(gone).rejects.toMatchObject({ reason: "LEASE_ENDED" });
  expect(retries).toBe(0);

  const nowhere = connect({ url: "http://127.0.0.1:1", bearer: tenant.account.apiKey });
  const lost = uploadResumably({ connection: nowhere, lease, source, retry: impatient, onRetry });
  await expect(lost).rejects.toMatchObject({ reason: "CONNECTION_FAILED" });
  expect(retries).toBe(impatient.maxFailures - 1);
});

test("a body that cannot be read fails the upload as it is", async () => {
  const tenant = await Tenant.open(leasehold);
  const lease = await tenant.create(room);
  const failure = new Error("the disk is broken");
  const source: UploadSource = {
    ...sourceOf(generatedBytes(11, 0, 10_000)),
    read: () => ({
      async *[Symbol.asyncIterator]() {
        yield Buffer.alloc(1_000);
        throw failure;
      },
    }),
  };
  const upload = uploadResumably({ connection: direct(tenant), lease, source, retry: impatient });
  await expect(upload).rejects.toBe(failure);
});

/** An upload of which the connection breaks once, and where each attempt at it started. */
async function prepare(body: Buffer, cutAfterBytes: number) {
  const tenant = await Tenant.open(leasehold);
  const lease = await tenant.create(room);
  const proxy = await openProxy(leasehold);
  proxy.cutOnce({ direction: "up", afterBytes: cutAfterBytes });
  const starts: bigint[] = [];
  const source = sourceOf(body);
  const connection = connectThrough(proxy, tenant.account.apiKey);
  const upload = uploadResumably({
    connection: { ...connection, leases: whenStored(connection.leases) },
    lease,
    source: {
      ...source,
      read(offset) {
        starts.push(offset);
        return source.read(offset);
      },
    },
    retry: impatient,
  });
  return { tenant, upload, starts };
}

/** Looks at a lease only once the server has stored what the broken connection had brought. */
function whenStored(leases: Connection["leases"]): Connection["leases"] {
  return {
    ...leases,
    async getLease(request) {
      for (;;) {
        const response = await leases.getLease(request);
        if (storageOf(response.lease).storedBytes !== 0n) {
          return response;
        }
      }
    },
  };
}

function direct(tenant: Tenant) {
  return connect({ url: leasehold.httpUrl, bearer: tenant.account.apiKey });
}

function sourceOf(body: Buffer): UploadSource {
  return {
    sizeBytes: BigInt(body.length),
    sha256: createHash("sha256").update(body).digest(),
    async *read(offset) {
      for (let at = Number(offset); at < body.length; at += 65_536) {
        yield body.subarray(at, at + 65_536);
      }
    },
  };
}
