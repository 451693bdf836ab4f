/** Tests what is refused before a handler sees it, the same way by every protocol: bad fields, bad bytes, too much of anything. */
import { once } from "node:events";
import { request as requestHttp1 } from "node:http";
import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, createClient, type Interceptor } from "@connectrpc/connect";
import {
  compressionGzip,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  LeaseService,
  UploadContentPartRequestSchema,
  UploadContentRequestSchema,
} from "#gen/leasehold/v1/lease_pb.js";
import { NativeClient, pathOf } from "./native-client.ts";
import { closed, envelope, envelopeHead, grpcStatusOf, RawHttp2 } from "./raw-http2.ts";
import { type SeenError, seenError } from "./seen-error.ts";
import { leaseId, mebibyte, startTestServer, type TestServer } from "./test-server.ts";

/** RFC 9113, section 7. */
const enhanceYourCalm = 11;

let testServer: TestServer;
let native: NativeClient;
/** How often a handler ran, and how many messages streams gave it. */
let handled = 0;

beforeAll(async () => {
  testServer = await startTestServer({
    leases: {
      createLease: () => countCall(),
      getLease: () => countCall(),
      uploadContentPart: () => countCall(),
      async uploadContent(requests) {
        for await (const _ of requests) handled += 1;
        return {};
      },
    },
  });
  native = new NativeClient(testServer.grpcAddress);
});

beforeEach(() => {
  handled = 0;
});

afterAll(async () => {
  native[Symbol.dispose]();
  await testServer[Symbol.asyncDispose]();
});

function countCall(): Promise<object> {
  handled += 1;
  return Promise.resolve({});
}

/** Clients of LeaseService by protocol. */
function connectClients(): Record<string, ReturnType<typeof createClient<typeof LeaseService>>> {
  const baseUrl = testServer.httpUrl;
  const compressed = { sendCompression: compressionGzip, compressMinBytes: 1024 };
  return {
    gRPC: createClient(LeaseService, createGrpcTransport({ baseUrl, ...compressed })),
    "gRPC-Web": createClient(LeaseService, createGrpcWebTransport({ baseUrl, httpVersion: "1.1", ...compressed })),
    "Connect JSON": createClient(LeaseService, createConnectTransport({ baseUrl, httpVersion: "1.1", ...compressed })),
    "Connect binary": createClient(
      LeaseService,
      createConnectTransport({ baseUrl, httpVersion: "2", useBinaryFormat: true, ...compressed }),
    ),
  };
}

test("a field that breaks its rule is INVALID_FIELD before the handler runs, and every such field is named", async () => {
  const request = { requestId: "no uuid", sizeBytes: -1n, labels: { "No Good": "x" } };
  const expected: SeenError = await seenError(native.unary(LeaseService.method.createLease, request));
  expect(expected).toMatchObject({
    code: Code.InvalidArgument,
    details: { ErrorInfo: { reason: "INVALID_FIELD", metadata: { field: "request_id" } } },
  });
  const { fieldViolations } = Object(expected.details.BadRequest);
  expect(fieldViolations.map(({ field }: { field: string }) => field)).toEqual([
    "request_id",
    "size_bytes",
    "duration",
    'labels["No Good"]',
    "variant",
  ]);
  for (const [name, client] of Object.entries(connectClients())) {
    expect(await seenError(client.createLease(request)), name).toEqual(expected);
  }
  expect(handled).toBe(0);
});

test("a violation that quotes what was sent still fits into trailers", async () => {
  const labels = Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`${index}${"X".repeat(20_000)}`, ""]));
  const request = { sizeBytes: 1n, labels };
  const error = await seenError(native.unary(LeaseService.method.createLease, request));
  expect(error).toMatchObject({ details: { ErrorInfo: { reason: "INVALID_FIELD" } } });
  expect(JSON.stringify(error).length).toBeLessThan(8192);
  const client = connectClients().gRPC;
  expect(await seenError(client?.createLease(request) ?? expect.fail())).toEqual(error);
});

test("every message of a stream is held to the rules", async () => {
  const { stream, answer } = native.clientStream(LeaseService.method.uploadContent);
  const seen = seenError(answer);
  stream.write(create(UploadContentRequestSchema, { offset: 1n }));
  stream.write(create(UploadContentRequestSchema, { offset: -1n }));
  const expected = await seen;
  expect(expected).toMatchObject({
    details: { ErrorInfo: { reason: "INVALID_FIELD", metadata: { field: "offset" } } },
  });
  expect(handled).toBe(1);
  for (const [name, client] of Object.entries(connectClients())) {
    handled = 0;
    expect(await seenError(client.uploadContent(iterate([{ offset: 1n }, { offset: -1n }]))), name).toEqual(expected);
    expect(handled, name).toBe(1);
  }
});

describe("bytes that are no message", () => {
  const garbage = Buffer.from("ffffffffff", "hex");

  test.each([
    { protocol: "native gRPC", url: () => `http://${testServer.grpcAddress}` },
    { protocol: "gRPC", url: () => testServer.httpUrl },
  ])("are MALFORMED_REQUEST over $protocol", async ({ url }) => {
    await using client = new RawHttp2(url());
    for (const method of [LeaseService.method.createLease, LeaseService.method.uploadContent]) {
      const stream = client.startGrpc(method);
      stream.end(envelope(garbage));
      expect(await grpcStatusOf(stream)).toBe("3");
      await expectLogged("MALFORMED_REQUEST");
    }
    expect(handled).toBe(0);
  });

  test.each([
    { contentType: "application/proto", body: garbage },
    { contentType: "application/json", body: Buffer.from("{") },
    { contentType: "application/json", body: Buffer.from('{"sizeBytes":"many"}') },
  ])("are MALFORMED_REQUEST over Connect as $contentType", async ({ contentType, body }) => {
    const response = await fetch(`${testServer.httpUrl}${pathOf(LeaseService.method.createLease)}`, {
      method: "POST",
      headers: { "content-type": contentType },
      body,
    });
    expect(response.status).toBe(400);
    const { code, details } = Object(await response.json());
    expect(code).toBe("invalid_argument");
    expect(details[0].debug).toMatchObject({ reason: "MALFORMED_REQUEST", domain: "leasehold" });
    expect(handled).toBe(0);
    await expectLogged("MALFORMED_REQUEST");
  });

  test("are refused with the media type's own status if that is not one of an RPC", async () => {
    const response = await fetch(`${testServer.httpUrl}${pathOf(LeaseService.method.createLease)}`, {
      method: "POST",
      headers: { "content-type": "text/plain" },
      body: "hello",
    });
    expect(response.status).toBe(415);
    expect(await response.json()).toMatchObject({ reason: "MALFORMED_REQUEST" });
    const got = await fetch(`${testServer.httpUrl}${pathOf(LeaseService.method.createLease)}`);
    expect(got.status).toBe(405);
    expect(await got.json()).toMatchObject({ reason: "UNKNOWN_METHOD" });
  });
});

test("a message over the limit is BODY_TOO_LARGE, and the connection goes on", async () => {
  const request = { leaseId, data: new Uint8Array(4 * mebibyte + 1) };
  const sizeBytes = toBinary(UploadContentPartRequestSchema, create(UploadContentPartRequestSchema, request)).length;
  const expected = await seenError(native.unary(LeaseService.method.uploadContentPart, request));
  expect(expected).toMatchObject({
    code: Code.ResourceExhausted,
    details: {
      ErrorInfo: {
        reason: "BODY_TOO_LARGE",
        metadata: { limit: "max_message_bytes", limit_bytes: "4194304", value_bytes: `${sizeBytes}` },
      },
      QuotaFailure: { violations: [{ subject: "max_message_bytes" }] },
    },
  });
  await native.unary(LeaseService.method.getLease, { leaseId });
  const baseUrl = testServer.httpUrl;
  // Over HTTP/1.1: Node's HTTP/2 client can spin for ever when it resets a stream that it still has to send from.
  const transports = {
    "gRPC-Web": createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }),
    "Connect binary": createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: true }),
  };
  for (const [name, transport] of Object.entries(transports)) {
    const client = createClient(LeaseService, transport);
    // Without the size, where that was not sent before the bytes.
    expect(await seenError(client.uploadContentPart(request)), name).toMatchObject({
      code: expected.code,
      message: expected.message,
      details: { ErrorInfo: { reason: "BODY_TOO_LARGE", metadata: { limit_bytes: "4194304" } } },
    });
    expect(await seenError(client.uploadContent(iterate([request]))), name).toMatchObject({
      details: { ErrorInfo: { reason: "BODY_TOO_LARGE" } },
    });
    await client.getLease({ leaseId });
  }
  expect(handled).toBe(3);
  for (const url of [`http://${testServer.grpcAddress}`, testServer.httpUrl]) {
    await using client = new RawHttp2(url);
    const stream = client.startGrpc(LeaseService.method.uploadContent);
    // The head of a message is enough.
    stream.write(envelopeHead(4 * mebibyte + 1));
    expect(await grpcStatusOf(stream)).toBe("8");
    await expectLogged("BODY_TOO_LARGE");
  }
});

test("a small message that unpacks to a large one is BODY_TOO_LARGE, without the memory", async () => {
  const request = { leaseId, data: new Uint8Array(64 * mebibyte) };
  const reasons: Record<string, unknown> = {};
  for (const [name, client] of Object.entries(connectClients())) {
    reasons[name] = await seenError(client.uploadContentPart(request));
  }
  const bomb = gzipSync(toBinary(UploadContentPartRequestSchema, create(UploadContentPartRequestSchema, request)));
  await using raw = new RawHttp2(`http://${testServer.grpcAddress}`);
  const stream = raw.startGrpc(LeaseService.method.uploadContentPart, { "grpc-encoding": "gzip" });
  stream.end(envelope(bomb, 1));
  expect(await grpcStatusOf(stream)).toBe("8");
  for (const [name, error] of Object.entries(reasons)) {
    expect(error, name).toMatchObject({
      code: Code.ResourceExhausted,
      details: { ErrorInfo: { reason: "BODY_TOO_LARGE", metadata: { limit_bytes: "4194304" } } },
    });
  }
  expect(handled).toBe(0);
});

test("headers over the limit are refused by every kind of connection", async () => {
  const headers = { authorization: `Bearer ${"x".repeat(20_000)}` };
  for (const url of [`http://${testServer.grpcAddress}`, testServer.httpUrl]) {
    await using client = new RawHttp2(url);
    // The first call leaves before the server's settings arrive, the second after: then Node itself resets it.
    const early = client.startGrpc(LeaseService.method.getLease, headers);
    early.end();
    expect(await grpcStatusOf(early)).toBe("8");
    expect(testServer.logLines.at(-1)).toMatchObject({ metadata: { limit: "max_header_bytes", limit_bytes: "16384" } });
    const late = client.startGrpc(LeaseService.method.getLease, headers);
    late.end();
    await closed(late);
    expect(late.rstCode).toBe(enhanceYourCalm);
  }
  const request = requestHttp1(`${testServer.httpUrl}/healthz`, { headers });
  const [response] = await once(request.end(), "response");
  expect(response.statusCode).toBe(431);
  response.resume();
  expect(handled).toBe(0);
});

test("one connection has no more calls under way than the limit", async () => {
  await using server = await startTestServer({ maxStreamsPerConnection: 3 });
  for (const url of [`http://${server.grpcAddress}`, server.httpUrl]) {
    await using client = new RawHttp2(url);
    const [settings] = await once(client.session, "remoteSettings");
    expect(settings.maxConcurrentStreams).toBe(3);
  }
});

test("both doors open windows of the size that is set", async () => {
  await using server = await startTestServer({ windowBytes: 3 * mebibyte });
  for (const url of [`http://${server.grpcAddress}`, server.httpUrl]) {
    await using client = new RawHttp2(url);
    const [settings] = await once(client.session, "remoteSettings");
    expect(settings.initialWindowSize).toBe(3 * mebibyte);
    await new Promise((resolve) => client.session.ping(resolve));
    expect(client.session.state.remoteWindowSize).toBe(3 * mebibyte);
  }
});

describe("a timeout header that is none", () => {
  test("is MALFORMED_REQUEST", async () => {
    const timeout: Interceptor = (next) => (request) => {
      request.header.set("grpc-timeout", "soon");
      request.header.set("connect-timeout-ms", "soon");
      return next(request);
    };
    const baseUrl = testServer.httpUrl;
    for (const transport of [
      createGrpcTransport({ baseUrl, interceptors: [timeout] }),
      createConnectTransport({ baseUrl, httpVersion: "1.1", interceptors: [timeout] }),
    ]) {
      expect(await seenError(createClient(LeaseService, transport).getLease({ leaseId }))).toMatchObject({
        code: Code.InvalidArgument,
        details: { ErrorInfo: { reason: "MALFORMED_REQUEST" } },
      });
    }
    await using client = new RawHttp2(`http://${testServer.grpcAddress}`);
    const stream = client.startGrpc(LeaseService.method.getLease, { "grpc-timeout": "soon" });
    expect(await grpcStatusOf(stream)).toBe("3");
    expect(handled).toBe(0);
  });
});

async function expectLogged(reason: string): Promise<void> {
  await expect.poll(() => testServer.logLines.at(-1)).toMatchObject({ reason });
}

async function* iterate<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}
