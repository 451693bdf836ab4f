/** Promise 8: memory is bounded by what is under way, never by how large a body is. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { request } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { create, fromBinary, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { Metadata } from "@grpc/grpc-js";
import { afterAll, expect, test } from "vitest";
import {
  DownloadContentRequestSchema,
  DownloadContentResponseSchema,
  LeaseService,
  UploadContentRequestSchema,
} from "#gen/leasehold/v1/lease_pb.js";
import { NativeClient, pathOf } from "../server/native-client.ts";
import { generatedPieces } from "../support/generated-bytes.ts";
import { canMeasurePeaks, memoryRise } from "../support/peak-memory.ts";
import { ServerProcess } from "../support/server-process.ts";
import { Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";

const gibibyte = 2 ** 30;
const pieceBytes = 1_048_576;
const mostRiseBytes = 100 * 1_048_576;

const leasehold = await TestLeasehold.start();
const process = await ServerProcess.start({
  databaseUrl: leasehold.databaseUrl,
  dataDir: leasehold.core.config.dataDir,
});
afterAll(() => process.kill());
const tenant = (await Tenant.open(leasehold)).at(process);
const expectedSha256 = hashOf(generatedPieces(1, gibibyte, pieceBytes));

async function hashedDownload(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const hash = createHash("sha256");
  for await (const data of body) {
    hash.update(data);
  }
  return hash.digest();
}

function hashOf(pieces: Iterable<Uint8Array>): Buffer {
  const hash = createHash("sha256");
  for (const piece of pieces) {
    hash.update(piece);
  }
  return hash.digest();
}

const whatMovesAGibibyte = { timeout: 240_000 };

test.runIf(canMeasurePeaks)(
  "1 GiB up and down by HTTP each move with memory rising by less than 100 MiB, and come back exactly",
  whatMovesAGibibyte,
  async () => {
    const { leaseId } = await tenant.create({ sizeBytes: BigInt(gibibyte) });
    const up = await memoryRise(process.pid, async () => {
      const headers = { ...tenant.headers, "content-length": gibibyte };
      const put = request(tenant.contentUrl(leaseId), { method: "PUT", headers });
      const answered = new Promise<number | undefined>((resolve) =>
        put.once("response", (response) => resolve(response.resume().statusCode)),
      );
      await pipeline(Readable.from(copies(generatedPieces(1, gibibyte, pieceBytes))), put);
      expect(await answered).toBe(200);
    });
    expect(up).toBeLessThan(mostRiseBytes);
    const down = await memoryRise(process.pid, async () => {
      const { body } = await tenant.get(leaseId);
      expect((await hashedDownload(body ?? Readable.from([]))).equals(expectedSha256)).toBe(true);
    });
    expect(down).toBeLessThan(mostRiseBytes);
  },
);

test.runIf(canMeasurePeaks)(
  "1 GiB up and down by gRPC each move with memory rising by less than 100 MiB, and come back exactly",
  whatMovesAGibibyte,
  async () => {
    const { leaseId } = await tenant.create({ sizeBytes: BigInt(gibibyte) });
    using client = new NativeClient(new URL(process.grpcUrl).host, undefined, clientOptions);
    const up = await memoryRise(process.pid, () => uploadByGrpc(client, leaseId));
    expect(up).toBeLessThan(mostRiseBytes);
    const down = await memoryRise(process.pid, async () => {
      expect((await hashedDownload(downloadByGrpc(client, leaseId))).equals(expectedSha256)).toBe(true);
    });
    expect(down).toBeLessThan(mostRiseBytes);
  },
);

/** As fast as a client can be: what is measured is the server. */
const clientOptions = { "grpc-node.flow_control_window": 8 * pieceBytes };

function credentials(): Metadata {
  const metadata = new Metadata();
  metadata.set("authorization", tenant.headers.authorization);
  return metadata;
}

async function uploadByGrpc({ raw }: NativeClient, leaseId: string): Promise<void> {
  const { uploadContent } = LeaseService.method;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const stream = raw.makeClientStreamRequest(
    pathOf(uploadContent),
    (request: MessageInitShape<typeof UploadContentRequestSchema>) =>
      Buffer.from(toBinary(UploadContentRequestSchema, create(UploadContentRequestSchema, request))),
    (answer) => answer,
    credentials(),
    (error) => (error === null ? resolve() : reject(error)),
  );
  let offset = 0n;
  for (const data of copies(generatedPieces(1, gibibyte, pieceBytes))) {
    const target = offset === 0n ? { target: { case: "leaseId" as const, value: leaseId } } : {};
    const isTaken = stream.write({ ...target, offset, data });
    offset += BigInt(data.length);
    if (!isTaken) {
      await once(stream, "drain");
    }
  }
  stream.end({ offset, finish: true, sha256: expectedSha256 });
  await promise;
}

async function* downloadByGrpc({ raw }: NativeClient, leaseId: string): AsyncGenerator<Uint8Array> {
  const { downloadContent } = LeaseService.method;
  const stream: AsyncIterable<Buffer> = raw.makeServerStreamRequest(
    pathOf(downloadContent),
    (request: MessageShape<typeof DownloadContentRequestSchema>) =>
      Buffer.from(toBinary(DownloadContentRequestSchema, request)),
    (bytes) => bytes,
    create(DownloadContentRequestSchema, { leaseId }),
    credentials(),
  );
  for await (const bytes of stream) {
    yield fromBinary(DownloadContentResponseSchema, bytes).data;
  }
}

/** A sender keeps a piece until it is sent. */
function* copies(pieces: Iterable<Buffer>): Generator<Buffer> {
  for (const piece of pieces) {
    yield Buffer.from(piece);
  }
}
