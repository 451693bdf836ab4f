/** Promise 8: a peer that moves nothing is dropped after the stall time, on both doors and in both directions. */
import { once } from "node:events";
import { request } from "node:http";
import { connect } from "node:net";
import { expect, test } from "vitest";
import { seenError } from "../server/seen-error.ts";
import { noCallInFlight } from "../support/calls-in-flight.ts";
import { generatedBytes } from "../support/generated-bytes.ts";
import { type HttpRefusal, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";

const leasehold = await TestLeasehold.start({ settings: { LEASEHOLD_STALL_SECONDS: "1" } });
const tenant = await Tenant.open(leasehold);
const body = generatedBytes(1, 0, 1_048_576);
/** More than all the buffers between two ends of a connection take. */
const large = generatedBytes(2, 0, 64 * 1_048_576);
const stored = await tenant.store(large, { sizeBytes: BigInt(large.length) });

test.concurrent("a PUT that stops half way is answered STALLED, and what arrived is stored", async () => {
  const { leaseId } = await tenant.create();
  const put = request(tenant.contentUrl(leaseId), {
    method: "PUT",
    headers: { ...tenant.headers, "content-length": body.length },
  });
  put.on("error", () => put.destroy());
  put.write(body.subarray(0, 500_000));
  const [response] = await once(put, "response");
  const refusal: HttpRefusal = JSON.parse(Buffer.concat(await response.toArray()).toString());
  expect(refusal).toMatchObject({ status: 408, reason: "STALLED", metadata: { stall_seconds: "1" } });
  put.destroy();
  await storedAtLast(leaseId, 500_000n);
});

test.concurrent("an UploadContent that stops half way fails with STALLED, and what arrived is stored", async () => {
  const { leaseId } = await tenant.create();
  const never = Promise.withResolvers<void>();
  async function* messages() {
    yield { target: { case: "leaseId" as const, value: leaseId }, data: body.subarray(0, 500_000) };
    await never.promise;
  }
  const refused = await seenError(tenant.nativeLeases.uploadContent(messages()));
  expect(refused.details.ErrorInfo).toMatchObject({ reason: "STALLED", metadata: { stall_seconds: "1" } });
  never.resolve();
  await storedAtLast(leaseId, 500_000n);
});

test.concurrent("a GET whose reader takes nothing is cut", async () => {
  const { hostname, port } = new URL(leasehold.httpUrl);
  const socket = connect(Number(port), hostname);
  const { authorization } = tenant.headers;
  socket.write(
    `GET /api/leases/${stored.leaseId}/content HTTP/1.1\r\nhost: test\r\nauthorization: ${authorization}\r\n\r\n`,
  );
  await once(socket, "readable");
  await noCallInFlight(leasehold);
  const received = await socket
    .on("error", () => socket.destroy())
    .toArray()
    .catch(() => []);
  expect(Buffer.concat(received).length).toBeLessThan(large.length);
});

test.concurrent("a DownloadContent whose reader takes nothing is cut", async () => {
  const messages = tenant.nativeLeases.downloadContent({ leaseId: stored.leaseId })[Symbol.asyncIterator]();
  await messages.next();
  await noCallInFlight(leasehold);
  const drained = (async () => {
    while ((await messages.next()).done !== true) {
      // What had been sent is still read.
    }
  })();
  await expect(drained).rejects.toThrow();
});

/** Resolves once so much is stored: the error does not wait for it. */
async function storedAtLast(leaseId: string, bytes: bigint): Promise<void> {
  while ((await tenant.storedBytes(leaseId)) !== bytes) {
    // The commit that keeps what arrived is under way.
  }
}
