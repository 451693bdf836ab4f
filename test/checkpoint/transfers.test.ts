/** Bodies over the message limit: up in pieces that are checked, or not at all, and down from any offset. */
import { createHash, randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { seenError, seenReason } from "../server/seen-error.ts";
import { generatedBytes } from "../support/generated-bytes.ts";
import { doors, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { rowsOf, segmentFiles, type UploadInit, uploadOf, Workflows } from "./workflow.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold, 1_000_000_000n);
const workflows = new Workflows(tenant);
const { database } = leasehold;
const body = randomBytes(3_000_000);
const room = { sizeBytes: 100_000_000n };

describe.each(doors)("through the %s door", (door) => {
  test.each([0, 1, 65_536, 65_537, 131_072, 1_048_576, 3_000_000])(
    "%i bytes come down as they went up",
    async (length) => {
      const { leaseId } = await workflows.begin({}, room);
      const part = body.subarray(0, length);
      const put = { leaseId, contentType: "text/plain", metadata: { a: "b" } };
      const made = await workflows.upload(door, uploadOf(put, part, 700_000));
      expect(made).toMatchObject({
        version: 1n,
        bodyBytes: BigInt(length),
        contentType: "text/plain",
        metadata: { a: "b" },
      });
      expect(Buffer.from(made.sha256).equals(createHash("sha256").update(part).digest())).toBe(true);
      expect((await workflows.download(door, { leaseId })).equals(part)).toBe(true);
      expect(await rowsOf(database, leaseId)).toMatchObject({ versions: 1n, files: 0n });
      expect(await segmentFiles(leasehold, leaseId)).toHaveLength(length > 65_536 ? 1 : 0);
    },
  );

  test("a download starts at any offset, tells of the version first, and checks each piece", async () => {
    const { leaseId } = await workflows.begin({}, room);
    await workflows.upload(door, uploadOf({ leaseId }, body, 1_000_000));
    for (const offset of [0, 1, 65_535, 65_536, 2_999_999, 3_000_000]) {
      const pieces: Uint8Array[] = [];
      let at = BigInt(offset);
      for await (const message of workflows.door(door).downloadCheckpoint({ leaseId, offset: at })) {
        if (message.checkpoint !== undefined) {
          expect(message.checkpoint).toMatchObject({ leaseId, version: 1n, bodyBytes: 3_000_000n });
          expect(pieces).toHaveLength(0);
        } else {
          expect(message.offset).toBe(at);
          expect(message.dataCrc32).toBe(crc32(message.data));
          at += BigInt(message.data.length);
          pieces.push(message.data);
        }
      }
      expect(Buffer.concat(pieces).equals(body.subarray(offset))).toBe(true);
    }
    expect(await seenReason(workflows.download(door, { leaseId, offset: 3_000_001n }))).toBe("RANGE_PAST_END");
    expect(await seenReason(workflows.download(door, { leaseId, version: 2n }))).toBe("NOT_FOUND");
  });

  test("a version that is pushed out while it is sent is not sent on", async () => {
    const { leaseId } = await workflows.begin({ retainedVersions: 1 }, room);
    await workflows.upload("native", uploadOf({ leaseId }, generatedBytes(1, 0, 60_000_000), 1_000_000));
    const download = workflows.door(door).downloadCheckpoint({ leaseId })[Symbol.asyncIterator]();
    await download.next();
    await workflows.put(leaseId, "next");
    const rest = (async () => {
      while ((await download.next()).done !== true) {
        // What was on its way still comes.
      }
    })();
    expect((await seenError(rest)).details.ErrorInfo).toMatchObject({
      reason: "VERSION_GONE",
      metadata: { version: "1", oldest_version: "2", latest_version: "2" },
    });
  });

  const good = { data: body.subarray(0, 200_000) };
  test.each<[string, string, (leaseId: string) => UploadInit[]]>([
    [
      "whose piece does not have its CRC-32",
      "CHECKSUM_MISMATCH",
      (leaseId) => [
        { put: { leaseId }, ...good },
        { offset: 200_000n, data: Buffer.from("x"), dataCrc32: 1, finish: true },
      ],
    ],
    [
      "whose whole does not have its SHA-256",
      "CHECKSUM_MISMATCH",
      (leaseId) => [{ put: { leaseId }, ...good, finish: true, sha256: Buffer.alloc(32) }],
    ],
    [
      "that leaves a gap",
      "OFFSET_MISMATCH",
      (leaseId) => [
        { put: { leaseId }, ...good },
        { offset: 200_001n, data: Buffer.from("x"), finish: true },
      ],
    ],
    [
      "that begins in the middle",
      "OFFSET_MISMATCH",
      (leaseId) => [{ put: { leaseId }, offset: 5n, ...good, finish: true }],
    ],
    ["that names no lease", "INVALID_FIELD", () => [{ ...good, finish: true }]],
    [
      "whose put has a body",
      "INVALID_FIELD",
      (leaseId) => [{ put: { leaseId, body: Buffer.from("x") }, finish: true }],
    ],
    [
      "that names its put twice",
      "INVALID_FIELD",
      (leaseId) => [
        { put: { leaseId }, ...good },
        { put: { leaseId }, offset: 200_000n, finish: true },
      ],
    ],
    ["that ends without finish", "MALFORMED_REQUEST", (leaseId) => [{ put: { leaseId }, ...good }]],
    [
      "over size_bytes",
      "BODY_TOO_LARGE",
      (leaseId) => [
        { put: { leaseId }, ...good },
        { offset: 200_000n, data: Buffer.alloc(900_000), finish: true },
      ],
    ],
    [
      "behind another version than expected",
      "VERSION_MISMATCH",
      (leaseId) => [{ put: { leaseId, expectedVersion: 4n }, ...good, finish: true }],
    ],
  ])("an upload %s is refused with %s, leaves the version as it was and no file", async (_, reason, messages) => {
    const { leaseId } = await workflows.begin();
    await workflows.put(leaseId, "before");
    expect(await seenReason(workflows.upload(door, messages(leaseId)))).toBe(reason);
    expect(await workflows.text(leaseId)).toBe("before");
    expect(await segmentFiles(leasehold, leaseId)).toEqual([]);
    expect(await rowsOf(database, leaseId)).toMatchObject({ versions: 1n, files: 0n });
  });

  test("an upload whose caller hangs up leaves the version as it was and no file", async () => {
    const { leaseId } = await workflows.begin({}, room);
    await workflows.put(leaseId, "before");
    const controller = new AbortController();
    async function* messages() {
      yield { put: { leaseId }, data: body };
      while ((await rowsOf(database, leaseId)).files === 0n) {
        // The file is being begun.
      }
      controller.abort();
      await new Promise(() => undefined);
    }
    const upload = workflows.door(door).uploadCheckpoint(messages(), { signal: controller.signal });
    const error: unknown = await upload.catch((reason: unknown) => reason);
    expect(error instanceof ConnectError && error.code).toBe(Code.Canceled);
    while ((await segmentFiles(leasehold, leaseId)).length > 0 || (await rowsOf(database, leaseId)).files > 0n) {
      // The caller is told before the file is removed.
    }
    expect(await workflows.text(leaseId)).toBe("before");
    expect(await rowsOf(database, leaseId)).toMatchObject({ versions: 1n, files: 0n });
  });
});
