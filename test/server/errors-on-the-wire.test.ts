/** Tests that an error looks the same through both doors and every protocol, and tells nothing it should not. */
import { create } from "@bufbuild/protobuf";
import { Code, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { createConnectTransport as createWebTransport } from "@connectrpc/connect-web";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LeaseService, UploadContentRequestSchema } from "#gen/leasehold/v1/lease_pb.js";
import { LeaseholdError } from "../../src/errors/leasehold-error.ts";
import { NativeClient } from "./native-client.ts";
import { seenError } from "./seen-error.ts";
import { leaseId, startTestServer, type TestServer } from "./test-server.ts";

const busy = new LeaseholdError("LIMIT_REACHED", "Too many: “three” of 3. Delete one \ud800.", {
  metadata: { limit: "things", limit_value: "3", value: "3" },
  retryAfterMs: 1500,
  fieldViolations: [{ field: "lease_id", description: "is one too many" }],
  cause: new Error("secret cause"),
});

let thrown: unknown = busy;
let testServer: TestServer;
let clients: Record<string, (kind: Kind) => Promise<unknown>>;
let native: NativeClient;

beforeAll(async () => {
  testServer = await startTestServer({
    leases: {
      getLease: () => Promise.reject(thrown),
      async *downloadContent() {
        yield { offset: 1n };
        throw thrown;
      },
      async uploadContent(requests) {
        for await (const _ of requests) {
          throw thrown;
        }
        return {};
      },
    },
    routes: [
      {
        method: "GET",
        path: "/api/failing",
        rpc: LeaseService.method.getLease,
        handle: () => Promise.reject(thrown),
      },
    ],
  });
  native = new NativeClient(testServer.grpcAddress);
  const baseUrl = testServer.httpUrl;
  clients = {
    "native gRPC": (kind) => callNative(kind),
    "gRPC on the HTTP door": connectCaller(createGrpcTransport({ baseUrl })),
    "gRPC-Web": connectCaller(createGrpcWebTransport({ baseUrl, httpVersion: "1.1" })),
    "Connect in JSON over HTTP/1.1": connectCaller(createConnectTransport({ baseUrl, httpVersion: "1.1" })),
    "Connect in binary over HTTP/2": connectCaller(
      createConnectTransport({ baseUrl, httpVersion: "2", useBinaryFormat: true }),
    ),
    "connect-web": connectCaller(createWebTransport({ baseUrl })),
  };
});

afterAll(async () => {
  native[Symbol.dispose]();
  await testServer[Symbol.asyncDispose]();
});

test("every protocol carries the same code, message and details", async () => {
  thrown = busy;
  const expected = {
    code: Code.ResourceExhausted,
    message: "Too many: “three” of 3. Delete one \ufffd.",
    details: {
      ErrorInfo: {
        domain: "leasehold",
        reason: "LIMIT_REACHED",
        metadata: { limit: "things", limit_value: "3", value: "3" },
      },
      BadRequest: { fieldViolations: [{ field: "lease_id", description: "is one too many" }] },
      RetryInfo: { retryDelay: "1.500s" },
      QuotaFailure: { violations: [{ subject: "things", description: "Too many: “three” of 3. Delete one \ufffd." }] },
    },
  };
  for (const [name, call] of Object.entries(clients)) {
    expect(await seenError(call("unary")), `${name}, unary`).toEqual(expected);
    expect(await seenError(call("server stream")), `${name}, server stream`).toEqual(expected);
    if (name !== "connect-web") {
      expect(await seenError(call("client stream")), `${name}, client stream`).toEqual(expected);
    }
  }
});

test("what nobody foresaw is INTERNAL with an incident, by which the log tells its cause", async () => {
  for (const [name, call] of Object.entries(clients)) {
    thrown = new Error("relation leases does not exist, key lh_key_abcDEF123");
    testServer.logLines.length = 0;
    const error = await seenError(call("unary"));
    expect(error.code, name).toBe(Code.Internal);
    expect(JSON.stringify(error), name).not.toContain("relation");
    expect(error.details.ErrorInfo, name).toMatchObject({ reason: "INTERNAL" });
    const [line] = testServer.logLines;
    expect(line, name).toMatchObject({
      level: 50,
      method: "leasehold.v1.LeaseService/GetLease",
      reason: "INTERNAL",
      code: "internal",
      cause: { name: "Error", message: "relation leases does not exist, key lh_key_[redacted]" },
    });
    expect(error.message, name).toContain(Reflect.get(Object(line?.metadata), "incident"));
  }
});

test("a failed call is one line in the log, with its method, door, code and reason, and no token", async () => {
  thrown = new LeaseholdError("NOT_FOUND", "There is no such token lh_claim_abc123.");
  testServer.logLines.length = 0;
  await seenError(
    native.unary(LeaseService.method.getLease, { leaseId }, { authorization: "Bearer lh_key_secretsecret" }),
  );
  expect(testServer.logLines).toHaveLength(1);
  expect(testServer.logLines[0]).toMatchObject({
    level: 30,
    msg: "There is no such token lh_claim_[redacted].",
    method: "leasehold.v1.LeaseService/GetLease",
    door: "native",
    code: "not_found",
    reason: "NOT_FOUND",
  });
  expect(JSON.stringify(testServer.logLines)).not.toMatch(/abc123|secretsecret/);
});

describe("a plain route", () => {
  test("answers an error in JSON, with the catalogue's status and Retry-After", async () => {
    thrown = busy;
    const response = await fetch(`${testServer.httpUrl}/api/failing`);
    expect(response.status).toBe(429);
    expect(response.headers.get("retry-after")).toBe("2");
    expect(response.headers.get("cache-control")).toBe("no-store");
    expect(await response.json()).toEqual({
      code: "resource_exhausted",
      status: 429,
      reason: "LIMIT_REACHED",
      message: "Too many: “three” of 3. Delete one \ufffd.",
      metadata: { limit: "things", limit_value: "3", value: "3" },
      retryAfterMs: 1500,
      fieldViolations: [{ field: "lease_id", description: "is one too many" }],
    });
  });

  test("names what to authenticate with", async () => {
    thrown = new LeaseholdError("CREDENTIAL_MISSING", "Send an API key.");
    const response = await fetch(`${testServer.httpUrl}/api/failing`);
    expect(response.status).toBe(401);
    expect(response.headers.get("www-authenticate")).toBe("Bearer");
  });

  test("hides what nobody foresaw", async () => {
    thrown = new Error("secret cause");
    const response = await fetch(`${testServer.httpUrl}/api/failing`);
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain("secret");
  });
});

test("an RPC that there is not is UNKNOWN_METHOD", async () => {
  const method = { ...LeaseService.method.getLease, name: "GetLeese", localName: "getLeese" };
  expect(await seenError(native.unary(method, { leaseId }))).toMatchObject({
    code: Code.Unimplemented,
    details: { ErrorInfo: { reason: "UNKNOWN_METHOD" } },
  });
  const response = await fetch(`${testServer.httpUrl}/leasehold.v1.LeaseService/GetLeese`, { method: "POST" });
  expect(response.status).toBe(404);
  expect(await response.json()).toMatchObject({ code: "unimplemented", reason: "UNKNOWN_METHOD" });
});

test("calls are counted by method, code and door", async () => {
  thrown = busy;
  testServer.registry.resetMetrics();
  await seenError(native.unary(LeaseService.method.getLease, { leaseId }));
  const metrics = await testServer.registry.metrics();
  expect(metrics).toContain(
    'leasehold_calls_total{method="leasehold.v1.LeaseService/GetLease",code="resource_exhausted",door="native"} 1',
  );
  expect(metrics).toContain('leasehold_calls_in_flight{door="native"} 0');
});

type Kind = "unary" | "server stream" | "client stream";

async function callNative(kind: Kind): Promise<unknown> {
  switch (kind) {
    case "unary":
      return await native.unary(LeaseService.method.getLease, { leaseId });
    case "server stream":
      return await all(native.serverStream(LeaseService.method.downloadContent, { leaseId }));
    case "client stream": {
      const { stream, answer } = native.clientStream(LeaseService.method.uploadContent);
      stream.end(create(UploadContentRequestSchema));
      return await answer;
    }
  }
}

function connectCaller(transport: Transport): (kind: Kind) => Promise<unknown> {
  const client = createClient(LeaseService, transport);
  return async (kind) => {
    switch (kind) {
      case "unary":
        return await client.getLease({ leaseId });
      case "server stream":
        return await all(client.downloadContent({ leaseId }));
      case "client stream":
        return await client.uploadContent(
          (async function* () {
            yield { offset: 0n };
          })(),
        );
    }
  };
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) {
    list.push(item);
  }
  return list;
}
