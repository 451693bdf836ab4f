/** Design 7, reading: any range comes back exactly, headers let nothing act or stay, and no changed byte is ever served. */
import { createHash } from "node:crypto";
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { seenError } from "../server/seen-error.ts";
import { generatedBytes } from "../support/generated-bytes.ts";
import { tellingAtOnce } from "../support/telling-at-once.ts";
import { doors, leaseUuid, refusalOf, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold);
const body = generatedBytes(1, 0, 3 * 65_536 + 1_000);
const { leaseId } = await tenant.store(body, {
  variant: { case: "storage", value: { fileName: 'Größe "1".txt', contentType: "text/html" } },
});
const etag = `"${createHash("sha256").update(body).digest("hex")}"`;

test("any offset and limit give exactly that part, on both doors, each message with its CRC-32", async () => {
  const number = fc.oneof(fc.nat({ max: body.length }), fc.constantFrom(0, 65_535, 65_536, 65_537, body.length));
  await fc.assert(
    fc.asyncProperty(number, number, fc.constantFrom(...doors), async (offset, limit, door) => {
      const pieces: Uint8Array[] = [];
      let at = BigInt(offset);
      for await (const message of tenant
        .leasesAt(door)
        .downloadContent({ leaseId, offset: at, limit: BigInt(limit) })) {
        if (message.lease === undefined) {
          expect(message.offset).toBe(at);
          expect(message.dataCrc32).toBe(crc32(message.data));
          pieces.push(message.data);
          at += BigInt(message.data.length);
        }
      }
      const end = limit === 0 ? body.length : Math.min(body.length, offset + limit);
      expect(Buffer.concat(pieces).equals(body.subarray(offset, end))).toBe(true);
    }),
    { numRuns: 60, ...tellingAtOnce },
  );
});

test("an offset past the end is RANGE_PAST_END with the body's length, and at the end nothing comes", async () => {
  for (const door of doors) {
    const refused = await seenError(tenant.download(leaseId, door, { offset: BigInt(body.length + 1) }));
    expect(refused.details.ErrorInfo).toMatchObject({
      reason: "RANGE_PAST_END",
      metadata: { content_bytes: `${body.length}` },
    });
    expect(await tenant.download(leaseId, door, { offset: BigInt(body.length) })).toHaveLength(0);
  }
});

describe("a GET with Range", () => {
  const size = body.length;
  test.each([
    ["bytes=0-0", 0, 1],
    ["bytes=65535-65536", 65_535, 65_537],
    ["bytes=100000-", 100_000, size],
    ["bytes=-5", size - 5, size],
    [`bytes=${size - 1}-${size + 100}`, size - 1, size],
    [`bytes=-${size + 5}`, 0, size],
  ])("%s is answered with 206 and that part", async (range, from, to) => {
    const response = await tenant.get(leaseId, { range });
    expect(response.status).toBe(206);
    expect(response.headers.get("content-range")).toBe(`bytes ${from}-${to - 1}/${size}`);
    expect(response.headers.get("content-length")).toBe(`${to - from}`);
    expect(Buffer.from(await response.arrayBuffer()).equals(body.subarray(from, to))).toBe(true);
  });

  test.each(["bytes=0-1,5-6", "lines=0-1", "bytes=a-b", "bytes"])("%s is answered with the whole", async (range) => {
    const response = await tenant.get(leaseId, { range });
    expect(response.status).toBe(200);
    expect(Buffer.from(await response.arrayBuffer()).equals(body)).toBe(true);
  });

  test(`bytes=${size}- is past the end: 416 with the body's length`, async () => {
    const response = await tenant.get(leaseId, { range: `bytes=${size}-` });
    expect(await refusalOf(response)).toMatchObject({
      status: 416,
      reason: "RANGE_PAST_END",
      metadata: { content_bytes: `${size}` },
    });
  });

  test("and If-Range is a part only while the body is the one that is meant", async () => {
    expect((await tenant.get(leaseId, { range: "bytes=0-0", "if-range": etag })).status).toBe(206);
    expect((await tenant.get(leaseId, { range: "bytes=0-0", "if-range": '"other"' })).status).toBe(200);
  });
});

test("a body comes as a file to save, which nothing keeps, sniffs, refers to or lets act, with its SHA-256", async () => {
  const response = await tenant.get(leaseId);
  await response.arrayBuffer();
  expect(Object.fromEntries(response.headers)).toMatchObject({
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": expect.stringMatching(/^sandbox; default-src 'none'/),
    "content-type": "text/html",
    "content-disposition": expect.stringMatching(/^attachment; .*filename\*=UTF-8''Gr%C3%B6%C3%9Fe%20%221%22\.txt/),
    "accept-ranges": "bytes",
    "content-length": `${body.length}`,
    etag,
    "repr-digest": `sha-256=:${createHash("sha256").update(body).digest("base64")}:`,
  });
});

test("a HEAD gives the headers of the GET and no body", async () => {
  const [head, get] = await Promise.all([
    fetch(tenant.contentUrl(leaseId), { method: "HEAD", headers: tenant.headers }),
    tenant.get(leaseId),
  ]);
  expect(head.status).toBe(200);
  const headersOf = (response: Response) =>
    [...response.headers].filter(([name]) => !["date", "connection", "keep-alive"].includes(name));
  expect(headersOf(head)).toEqual(headersOf(get));
  await get.arrayBuffer();
});

test("a body that was changed on the disk is never served as if it were whole", async () => {
  const spoilt = await tenant.store(body);
  const { contentDir } = leasehold.core.config;
  const shard = leaseUuid(spoilt.leaseId).slice(-2);
  const folder = join(contentDir, leasehold.core.keyFolder.installationId, shard, leaseUuid(spoilt.leaseId));
  const [segment] = await readdir(folder);
  const file = await open(join(folder, segment ?? ""), "r+");
  await file.write(Buffer.of(0xff, 0xff, 0xff, 0xff), 0, 4, 65_564 + 500);
  await file.close();
  for (const door of doors) {
    const refused = await seenError(tenant.download(spoilt.leaseId, door));
    expect(refused.details.ErrorInfo).toMatchObject({ reason: "INTERNAL", metadata: { incident: expect.any(String) } });
  }
  const response = await tenant.get(spoilt.leaseId);
  await expect(response.arrayBuffer()).rejects.toThrow();
  expect((await tenant.download(spoilt.leaseId, "native", { limit: 65_536n })).equals(body.subarray(0, 65_536))).toBe(
    true,
  );
});
