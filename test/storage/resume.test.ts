/** Design 7: an upload that breaks anywhere goes on where it was stored, and ends as the very body. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { request } from "node:http";
import fc from "fast-check";
import { expect, test } from "vitest";
import { Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { fromClientError } from "../server/seen-error.ts";
import { generatedBytes } from "../support/generated-bytes.ts";
import { tellingAtOnce } from "../support/telling-at-once.ts";
import { Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";

const first = await TestLeasehold.start();
const second = await TestLeasehold.start({ beside: first });
const tenant = await Tenant.open(first, 1_000_000_000n);

const sizeBytes = 5 * 65_536 + 12_345;

/** Offsets that lie in a chunk, at its ends, and beside them. */
const offset = fc.oneof(
  fc.nat({ max: sizeBytes }),
  fc
    .tuple(fc.nat({ max: 5 }), fc.integer({ min: -2, max: 2 }))
    .map(([chunk, beside]) => Math.max(0, chunk * 65_536 + beside)),
);

interface Attempt {
  readonly way: "put" | "stream" | "part";
  readonly server: 0 | 1;
  /** Where the connection is cut; a part is sent whole up to there. */
  readonly cutAt: number;
}

const attempt: fc.Arbitrary<Attempt> = fc.record({
  way: fc.constantFrom("put" as const, "stream" as const, "part" as const),
  server: fc.constantFrom(0 as const, 1 as const),
  cutAt: offset,
});

test("whatever breaks it, wherever, on whichever server: what was stored stays, and the body ends as it was sent", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(attempt, { maxLength: 5 }), fc.nat({ max: 1_000 }), async (attempts, seed) => {
      const body = generatedBytes(seed, 0, sizeBytes);
      const { leaseId } = await tenant.create();
      let stored = 0n;
      for (const { way, server, cutAt } of attempts) {
        const at = tenant.at(server === 0 ? first : second);
        await breakOff(at, leaseId, way, body, stored, Math.max(cutAt, Number(stored)));
        const found = await tenant.storedBytes(leaseId);
        expect(found).toBeGreaterThanOrEqual(stored);
        stored = found;
      }
      await finishFrom(leaseId, body, stored);
      const lease = await tenant.show(leaseId);
      expect(lease.state).toBe(Lease_State.ACTIVE);
      expect((await tenant.at(second).download(leaseId, "native")).equals(body)).toBe(true);
      const [from, to] = [Math.floor(sizeBytes / 3), Math.floor(sizeBytes / 2)];
      const range = await tenant.download(leaseId, "connect", { offset: BigInt(from), limit: BigInt(to - from) });
      expect(range.equals(body.subarray(from, to))).toBe(true);
    }),
    { numRuns: 30, ...tellingAtOnce },
  );
});

/** Sends from the stored offset to `cutAt`, and hangs up. A part is answered, as it is no stream. */
async function breakOff(
  at: Tenant,
  leaseId: string,
  way: Attempt["way"],
  body: Buffer,
  stored: bigint,
  cutAt: number,
): Promise<void> {
  const data = body.subarray(Number(stored), cutAt);
  switch (way) {
    case "part":
      await settled(at.leases.uploadContentPart({ leaseId, offset: stored, data }));
      return;
    case "stream": {
      const hangUp = new AbortController();
      async function* messages() {
        yield { target: { case: "leaseId" as const, value: leaseId }, offset: stored, data };
        hangUp.abort();
        await once(new EventTarget(), "never", { signal: hangUp.signal });
      }
      await settled(at.nativeLeases.uploadContent(messages(), { signal: hangUp.signal }));
      return;
    }
    case "put": {
      const headers = { ...at.headers, "content-range": `bytes ${stored}-${sizeBytes - 1}/${sizeBytes}` };
      const put = request(at.contentUrl(leaseId), { method: "PUT", headers });
      put.on("error", () => put.destroy());
      const closed = new Promise<void>((resolve) => put.once("close", resolve));
      put.write(data, () => put.destroy());
      await closed;
    }
  }
}

/** Sends the rest. The server may have stored more since it was asked: it says so. */
async function finishFrom(leaseId: string, body: Buffer, stored: bigint): Promise<void> {
  const sha256 = createHash("sha256").update(body).digest();
  const part = { leaseId, offset: stored, data: body.subarray(Number(stored)), finish: true, sha256 };
  const error = await settled(tenant.leases.uploadContentPart(part));
  if (error !== undefined) {
    const info = fromClientError(error).details.ErrorInfo;
    expect(info).toMatchObject({ reason: expect.stringMatching(/^(OFFSET_MISMATCH|STREAM_SUPERSEDED)$/) });
    await finishFrom(leaseId, body, await tenant.storedBytes(leaseId));
  }
}

/** What a call failed for, if it did. */
async function settled(call: Promise<unknown>): Promise<unknown> {
  return await call.then(
    () => undefined,
    (error: unknown) => error,
  );
}
