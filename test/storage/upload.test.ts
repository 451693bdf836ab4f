/** Design 7, upload: every way in gives the same body, and whatever is refused loses nothing that was stored. */
import { createHash, randomUUID } from "node:crypto";
import { request } from "node:http";
import { crc32 } from "node:zlib";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { Lease_State, type UploadContentRequestSchema } from "#gen/leasehold/v1/lease_pb.js";
import { seenError, seenReason } from "../server/seen-error.ts";
import { generatedBytes } from "../support/generated-bytes.ts";
import { doors, type RpcDoor, refusalOf, roomForAnHour, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold, 1_000_000_000n);

const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest();
const reprDigest = (data: Uint8Array) => `sha-256=:${sha256(data).toString("base64")}:`;

type UploadMessage = MessageInitShape<typeof UploadContentRequestSchema>;

async function upload(door: RpcDoor, messages: readonly UploadMessage[]) {
  async function* stream() {
    yield* messages;
  }
  return await tenant.leasesAt(door).uploadContent(stream());
}

const target = (leaseId: string) => ({ case: "leaseId", value: leaseId }) as const;

/** Each way to put a whole body into a new lease. */
const ways: Record<string, (leaseId: string, body: Buffer) => Promise<unknown>> = {
  "one part": (leaseId, body) =>
    tenant.leases.uploadContentPart({
      leaseId,
      data: body,
      dataCrc32: crc32(body),
      finish: true,
      sha256: sha256(body),
    }),
  "one part on the native door": (leaseId, body) =>
    tenant.nativeLeases.uploadContentPart({ leaseId, data: body, finish: true, sha256: sha256(body) }),
  "two parts": async (leaseId, body) => {
    const half = body.length >> 1;
    await tenant.leases.uploadContentPart({ leaseId, data: body.subarray(0, half) });
    const rest = { leaseId, offset: BigInt(half), data: body.subarray(half) };
    await tenant.leases.uploadContentPart({ ...rest, finish: true, sha256: sha256(body) });
  },
  "a stream on the native door": async (leaseId, body) => {
    await upload("native", [
      ...piecesOf(leaseId, body, 100_000),
      { offset: BigInt(body.length), finish: true, sha256: sha256(body) },
    ]);
  },
  PUT: async (leaseId, body) => {
    const response = await tenant.put(leaseId, body, { "repr-digest": reprDigest(body) });
    expect(response.status).toBe(200);
  },
  "two ranges by PUT": async (leaseId, body) => {
    const half = body.length >> 1;
    const ranges = [
      [0, half],
      [half, body.length],
    ].filter(([from, to]) => from !== to);
    for (const [from = 0, to = 0] of ranges) {
      const range = { "content-range": `bytes ${from}-${to - 1}/${body.length}`, "repr-digest": reprDigest(body) };
      expect((await tenant.put(leaseId, body.subarray(from, to), range)).status).toBe(200);
    }
  },
};

function piecesOf(leaseId: string, body: Buffer, pieceBytes: number): UploadMessage[] {
  const pieces: UploadMessage[] = [];
  for (let at = 0; at === 0 || at < body.length; at += pieceBytes) {
    const data = body.subarray(at, at + pieceBytes);
    pieces.push({ ...(at === 0 ? { target: target(leaseId) } : {}), offset: BigInt(at), data, dataCrc32: crc32(data) });
  }
  return pieces;
}

describe.each(Object.entries(ways))("by %s", (way, put) => {
  const sizes = [0, 1, 65_535, 65_536, 65_537, 131_072, 131_073, 1_048_576];
  test.concurrent.each(way === "two ranges by PUT" ? sizes.slice(1) : sizes)(
    "a body of %i bytes is stored and read back exactly",
    async (size) => {
      const { leaseId } = await tenant.create();
      const body = generatedBytes(size, 0, size);
      await put(leaseId, body);
      const lease = await tenant.show(leaseId);
      expect(lease.state).toBe(Lease_State.ACTIVE);
      expect(lease.details.value).toMatchObject({ storedBytes: BigInt(size), sha256: new Uint8Array(sha256(body)) });
      const response = await tenant.get(leaseId);
      expect(Buffer.from(await response.arrayBuffer()).equals(body)).toBe(true);
      for (const door of doors) {
        expect((await tenant.download(leaseId, door)).equals(body)).toBe(true);
      }
    },
  );
});

test("a stream may make its lease, and a broken one goes on where it was stored, on either door", async () => {
  const body = generatedBytes(1, 0, 300_000);
  const requestId = randomUUID();
  const create = { case: "create", value: { ...roomForAnHour, requestId } } as const;
  const { lease } = await upload("native", [{ target: create, data: body.subarray(0, 100_000) }]);
  expect(lease).toMatchObject({ state: Lease_State.CREATED, details: { value: { storedBytes: 100_000n } } });
  const { lease: found } = await tenant.leases.createLease({ ...roomForAnHour, requestId });
  const finished = await upload("native", [
    {
      target: target(found?.leaseId ?? ""),
      offset: 100_000n,
      data: body.subarray(100_000),
      finish: true,
      sha256: sha256(body),
    },
  ]);
  expect(finished.lease?.state).toBe(Lease_State.ACTIVE);
  expect((await tenant.download(found?.leaseId ?? "", "native")).equals(body)).toBe(true);
});

test("size_bytes is a ceiling: an upload may finish at any offset up to it", async () => {
  const body = generatedBytes(2, 0, 1_000);
  const lease = await tenant.store(body, { sizeBytes: 1_000_000n });
  expect(lease).toMatchObject({
    state: Lease_State.ACTIVE,
    sizeBytes: 1_000_000n,
    details: { value: { storedBytes: 1_000n } },
  });
  await tenant.store(body, { sizeBytes: 1_000n });
});

describe("what is stored of an upload stays", () => {
  /** A lease of 300,000 bytes with 200,000 stored. */
  async function begun() {
    const { leaseId } = await tenant.create({ sizeBytes: 300_000n });
    const body = generatedBytes(3, 0, 300_000);
    await tenant.leases.uploadContentPart({ leaseId, data: body.subarray(0, 200_000) });
    return { leaseId, body };
  }

  /** Nothing was lost or changed if the rest makes the body whole. */
  async function expectResumable(leaseId: string, body: Buffer, storedBytes = 200_000n): Promise<void> {
    const lease = await tenant.show(leaseId);
    expect(lease).toMatchObject({ state: Lease_State.CREATED, details: { value: { storedBytes } } });
    const data = body.subarray(Number(storedBytes));
    await tenant.leases.uploadContentPart({ leaseId, offset: storedBytes, data, finish: true, sha256: sha256(body) });
    expect((await tenant.download(leaseId, "connect")).equals(body)).toBe(true);
  }

  test.each([
    ["a gap", 200_001n],
    ["an overlap", 199_999n],
    ["an offset of 0", 0n],
    ["the largest offset that can be said", 2n ** 63n - 1n],
  ])("when a part leaves %s: OFFSET_MISMATCH names the stored offset", async (_, offset) => {
    const { leaseId, body } = await begun();
    for (const door of doors) {
      const refused = await seenError(tenant.leasesAt(door).uploadContentPart({ leaseId, offset, data: Buffer.of(1) }));
      expect(refused.details.ErrorInfo).toMatchObject({
        reason: "OFFSET_MISMATCH",
        metadata: { stored_offset: "200000" },
      });
    }
    await expectResumable(leaseId, body);
  });

  test("when a PUT leaves a gap or overlaps: 416 with the stored offset", async () => {
    const { leaseId, body } = await begun();
    for (const first of [0, 199_999, 200_001]) {
      const range = { "content-range": `bytes ${first}-${first + 9}/300000` };
      const refusal = await refusalOf(await tenant.put(leaseId, body.subarray(first, first + 10), range));
      expect(refusal).toMatchObject({ status: 416, reason: "OFFSET_MISMATCH", metadata: { stored_offset: "200000" } });
    }
    await expectResumable(leaseId, body);
  });

  test.each([0n, 199_999n, 200_001n])("when a stream starts at %i", async (offset) => {
    const { leaseId, body } = await begun();
    const refused = await seenError(upload("native", [{ target: target(leaseId), offset, data: Buffer.of(1) }]));
    expect(refused.details.ErrorInfo).toMatchObject({
      reason: "OFFSET_MISMATCH",
      metadata: { stored_offset: "200000" },
    });
    await expectResumable(leaseId, body);
  });

  test("when a stream leaves a gap half way: what came before the gap is stored too", async () => {
    const { leaseId, body } = await begun();
    const refused = await seenError(
      upload("native", [
        { target: target(leaseId), offset: 200_000n, data: body.subarray(200_000, 280_000) },
        { offset: 280_001n, data: body.subarray(280_001) },
      ]),
    );
    expect(refused.details.ErrorInfo).toMatchObject({
      reason: "OFFSET_MISMATCH",
      metadata: { stored_offset: "280000" },
    });
    await expectResumable(leaseId, body, 280_000n);
  });

  test("when data does not have its CRC-32: nothing of it is stored, and what came before it is", async () => {
    const { leaseId, body } = await begun();
    const data = body.subarray(200_000, 250_000);
    const part = { leaseId, offset: 200_000n, data, dataCrc32: crc32(data) ^ 1 };
    expect(await seenReason(tenant.leases.uploadContentPart(part))).toBe("CHECKSUM_MISMATCH");
    expect(await tenant.storedBytes(leaseId)).toBe(200_000n);
    const refused = await seenError(
      upload("native", [
        { target: target(leaseId), offset: 200_000n, data },
        { offset: 250_000n, data: body.subarray(250_000), dataCrc32: 1 },
      ]),
    );
    expect(refused.details.ErrorInfo).toMatchObject({ reason: "CHECKSUM_MISMATCH", metadata: { field: "data_crc32" } });
    await expectResumable(leaseId, body, 250_000n);
  });

  test.each(["a part", "a stream", "a PUT"])(
    "when the whole does not have the SHA-256 sent by %s: the lease stays CREATED",
    async (way) => {
      const { leaseId, body } = await begun();
      const rest = body.subarray(200_000);
      const wrong = sha256(rest);
      if (way === "a PUT") {
        const headers = {
          "content-range": "bytes 200000-299999/300000",
          "repr-digest": `sha-256=:${wrong.toString("base64")}:`,
        };
        expect(await refusalOf(await tenant.put(leaseId, rest, headers))).toMatchObject({
          status: 400,
          reason: "CHECKSUM_MISMATCH",
        });
      } else {
        const message = { offset: 200_000n, data: rest, finish: true, sha256: wrong };
        const call =
          way === "a part"
            ? tenant.leases.uploadContentPart({ leaseId, ...message })
            : upload("native", [{ target: target(leaseId), ...message }]);
        expect((await seenError(call)).details.ErrorInfo).toMatchObject({
          reason: "CHECKSUM_MISMATCH",
          metadata: { field: "sha256" },
        });
      }
      await expectResumable(leaseId, body, 300_000n);
    },
  );

  test("when more is sent than fits: BODY_TOO_LARGE names the limit, whichever way it comes", async () => {
    const { leaseId, body } = await begun();
    const limit = {
      reason: "BODY_TOO_LARGE",
      metadata: { limit: "size_bytes", limit_bytes: "300000", value_bytes: "300001" },
    };
    const rest = Buffer.concat([body.subarray(200_000), Buffer.of(0)]);
    const part = { leaseId, offset: 200_000n, data: rest };
    expect((await seenError(tenant.leases.uploadContentPart(part))).details.ErrorInfo).toMatchObject(limit);
    expect((await seenError(upload("native", [{ ...part, target: target(leaseId) }]))).details.ErrorInfo).toMatchObject(
      limit,
    );
    const range = { "content-range": "bytes 200000-300000/300001" };
    expect(await refusalOf(await tenant.put(leaseId, rest, range))).toMatchObject({ status: 413, ...limit });
    const whole = Buffer.concat([body, Buffer.of(0)]);
    expect(await refusalOf(await tenant.put(leaseId, whole))).toMatchObject({ status: 413, ...limit });
    await expectResumable(leaseId, body);
  });

  test("when a stream outgrows the lease half way: what fits is kept", async () => {
    const { leaseId, body } = await begun();
    const refused = await seenReason(
      upload("native", [
        { target: target(leaseId), offset: 200_000n, data: body.subarray(200_000, 290_000) },
        { offset: 290_000n, data: Buffer.alloc(10_001) },
      ]),
    );
    expect(refused).toBe("BODY_TOO_LARGE");
    await expectResumable(leaseId, body, 290_000n);
  });

  test("when a later message of a stream names a target", async () => {
    const { leaseId, body } = await begun();
    const refused = await seenError(
      upload("native", [
        { target: target(leaseId), offset: 200_000n, data: body.subarray(200_000, 250_000) },
        { target: target(leaseId), offset: 250_000n },
      ]),
    );
    expect(refused.details.ErrorInfo).toMatchObject({ reason: "INVALID_FIELD", metadata: { field: "target" } });
    await expectResumable(leaseId, body, 250_000n);
  });

  test.each([
    ["bytes 200000-200009", "content-range"],
    ["bytes 200009-200000/300000", "content-range"],
    ["bytes 200000-300000/300000", "content-range"],
    ["items 200000-200009/300000", "content-range"],
    ["bytes 200000-200008/300000", "content-range"],
  ])("when a PUT's Content-Range is %s", async (range, field) => {
    const { leaseId, body } = await begun();
    const response = await tenant.put(leaseId, body.subarray(200_000, 200_010), { "content-range": range });
    expect(await refusalOf(response)).toMatchObject({ status: 400, reason: "INVALID_FIELD", metadata: { field } });
    await expectResumable(leaseId, body);
  });

  test("when a PUT without a length goes on past its Content-Range: nothing past the range is stored", async () => {
    const { leaseId, body } = await begun();
    const headers = { ...tenant.headers, "content-range": "bytes 200000-200009/300000" };
    const stream = new Blob([Buffer.from(body.subarray(200_000, 200_020))]).stream();
    const response = await fetch(tenant.contentUrl(leaseId), { method: "PUT", body: stream, headers, duplex: "half" });
    expect(await refusalOf(response)).toMatchObject({ status: 400, reason: "MALFORMED_REQUEST" });
    const stored = await tenant.storedBytes(leaseId);
    expect(stored).toBeLessThanOrEqual(200_010n);
    await expectResumable(leaseId, body, stored);
  });
});

describe("a PUT of the whole starts anew", () => {
  test("and nothing of what was stored before is in the body", async () => {
    const { leaseId } = await tenant.create();
    await tenant.leases.uploadContentPart({ leaseId, data: generatedBytes(4, 0, 500_000) });
    const body = generatedBytes(5, 0, 150_000);
    await tenant.put(leaseId, body);
    const { details } = await tenant.show(leaseId);
    expect(details.value).toMatchObject({ storedBytes: 150_000n, sha256: new Uint8Array(sha256(body)) });
    expect((await tenant.download(leaseId, "native")).equals(body)).toBe(true);
  });

  test("and goes on from where it was stored itself if it breaks off", async () => {
    const { leaseId } = await tenant.create();
    await tenant.leases.uploadContentPart({ leaseId, data: generatedBytes(4, 0, 500_000) });
    const body = generatedBytes(5, 0, 150_000);
    const headers = { ...tenant.headers, "content-length": body.length };
    const put = request(tenant.contentUrl(leaseId), { method: "PUT", headers });
    put.on("error", () => put.destroy());
    put.write(body.subarray(0, 70_000), () => put.destroy());
    while ((await tenant.storedBytes(leaseId)) !== 70_000n) {
      // What arrived is stored once the server has seen that no more comes.
    }
    const rest = { leaseId, offset: 70_000n, data: body.subarray(70_000), finish: true, sha256: sha256(body) };
    await tenant.leases.uploadContentPart(rest);
    expect((await tenant.download(leaseId, "native")).equals(body)).toBe(true);
  });
});

describe("an active lease is written no more", () => {
  test.each(["a part", "a stream", "a PUT"])("by %s, and its body stays", async (way) => {
    const body = Buffer.from("the first body");
    const { leaseId } = await tenant.store(body);
    const data = Buffer.from("another");
    const reason =
      way === "a part"
        ? await seenReason(tenant.leases.uploadContentPart({ leaseId, data, finish: true }))
        : way === "a stream"
          ? await seenReason(upload("native", [{ target: target(leaseId), data, finish: true }]))
          : (await refusalOf(await tenant.put(leaseId, data))).reason;
    expect(reason).toBe("WRONG_STATE");
    expect((await tenant.download(leaseId, "native")).equals(body)).toBe(true);
  });

  test("and the repeat of a finish whose answer was lost, by its SHA-256, gives the lease again", async () => {
    const { leaseId } = await tenant.create();
    const body = Buffer.from("content");
    const part = { leaseId, data: body, finish: true, sha256: sha256(body) };
    const first = await tenant.leases.uploadContentPart(part);
    expect(await tenant.leases.uploadContentPart(part)).toEqual(first);
    const headers = { "repr-digest": `sha-256=:${sha256(body).toString("base64")}:` };
    expect((await tenant.put(leaseId, body, headers)).status).toBe(200);
    const other = { ...part, data: Buffer.from("CONTENT"), sha256: sha256(Buffer.from("CONTENT")) };
    expect(await seenReason(tenant.leases.uploadContentPart(other))).toBe("WRONG_STATE");
  });
});

test("a stream without a target, and one without any message, are refused", async () => {
  expect(await seenReason(upload("native", [{ data: Buffer.of(1) }]))).toBe("INVALID_FIELD");
  expect(await seenReason(upload("native", []))).toBe("INVALID_FIELD");
});

test("a body that is not there yet is not read", async () => {
  const { leaseId } = await tenant.create();
  await tenant.leases.uploadContentPart({ leaseId, data: Buffer.from("half a bo") });
  for (const door of doors) {
    expect(await seenReason(tenant.download(leaseId, door))).toBe("WRONG_STATE");
  }
  expect(await refusalOf(await tenant.get(leaseId))).toMatchObject({ status: 409, reason: "WRONG_STATE" });
});
