/** Tests plain HTTP: routes, pages, and what pages of other origins may do. */
import { once } from "node:events";
import { request as requestHttp1 } from "node:http";
import { create } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { GetPricingResponseSchema, LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { LeaseholdError } from "../../src/errors/leasehold-error.ts";
import { pathOf } from "./native-client.ts";
import { closed, RawHttp2 } from "./raw-http2.ts";
import { leaseId, mebibyte, startTestServer, type TestServer } from "./test-server.ts";

const { getLease, getPricing, uploadContent, downloadContent } = LeaseService.method;

let testServer: TestServer;

beforeAll(async () => {
  testServer = await startTestServer({
    leases: {
      getLease: async ({ leaseId }) => ({ lease: { leaseId } }),
      async *downloadContent() {
        yield { offset: 1n };
        yield { offset: 2n };
      },
    },
    routes: [
      {
        method: "GET",
        path: "/api/things/:thing_id/parts/:part",
        rpc: getLease,
        handle: (exchange) =>
          exchange.sendJson(200, {
            params: exchange.params,
            query: Object.fromEntries(exchange.query),
            bearer: exchange.call.bearer,
          }),
      },
      {
        method: "GET",
        path: "/api/message",
        rpc: getPricing,
        handle: (exchange) =>
          exchange.sendMessage(
            GetPricingResponseSchema,
            create(GetPricingResponseSchema, { pricing: { pricingVersion: 7n } }),
            {
              "x-extra": "yes",
            },
          ),
      },
      {
        method: "PUT",
        path: "/api/body",
        rpc: uploadContent,
        async handle(exchange) {
          let bytes = 0;
          for await (const chunk of exchange.body()) bytes += chunk.length;
          await exchange.sendJson(201, { bytes });
        },
      },
      {
        method: "POST",
        path: "/api/small",
        rpc: getLease,
        handle: async (exchange) => exchange.send(200, "text/plain", await exchange.readBody(10)),
      },
      {
        method: "GET",
        path: "/api/broken",
        rpc: downloadContent,
        async handle(exchange) {
          exchange.begin(200, { "content-length": "1000" });
          await exchange.write(Buffer.alloc(10));
          throw new LeaseholdError("LEASE_ENDED", "It ended.");
        },
      },
      {
        method: "POST",
        path: "/api/refuses",
        rpc: uploadContent,
        handle: () => Promise.reject(new LeaseholdError("CREDENTIAL_MISSING", "Send a key.")),
      },
    ],
  });
});

afterAll(() => testServer[Symbol.asyncDispose]());

describe("a route", () => {
  test("is given its path's parts, its query and its bearer", async () => {
    const response = await fetch(`${testServer.httpUrl}/api/things/a%2Fb/parts/2?x=1&y=%20`, {
      headers: { authorization: "Bearer token" },
    });
    expect(await response.json()).toEqual({
      params: { thing_id: "a/b", part: "2" },
      query: { x: "1", y: " " },
      bearer: "token",
    });
  });

  test("answers messages in proto3 JSON, with headers of its own", async () => {
    const response = await fetch(`${testServer.httpUrl}/api/message`);
    expect(response.headers.get("x-extra")).toBe("yes");
    expect(await response.json()).toEqual({ pricing: { pricingVersion: "7" } });
  });

  test("of GET answers HEAD with the same headers and no body", async () => {
    const got = await fetch(`${testServer.httpUrl}/api/message`);
    const response = await fetch(`${testServer.httpUrl}/api/message`, { method: "HEAD" });
    expect(response.status).toBe(200);
    expect(response.headers.get("content-length")).toBe(got.headers.get("content-length"));
    expect(await response.text()).toBe("");
    await using client = new RawHttp2(testServer.httpUrl);
    const stream = client.session.request({ ":method": "HEAD", ":path": "/api/message" });
    const [headers] = await once(stream, "response");
    expect(headers[":status"]).toBe(200);
    let bytes = 0;
    for await (const chunk of stream) bytes += chunk.length;
    expect(bytes).toBe(0);
  });

  test("takes bodies of any size over HTTP/1.1 and HTTP/2, with Expect and without", async () => {
    const body = new Uint8Array(20 * mebibyte);
    const response = await fetch(`${testServer.httpUrl}/api/body`, { method: "PUT", body });
    expect(response.status).toBe(201);
    expect(await response.json()).toEqual({ bytes: body.length });
    const request = requestHttp1(`${testServer.httpUrl}/api/body`, {
      method: "PUT",
      headers: { expect: "100-continue" },
    });
    request.flushHeaders();
    await once(request, "continue");
    request.end("hello");
    const [answer] = await once(request, "response");
    expect(answer.statusCode).toBe(201);
    answer.resume();
    await using client = new RawHttp2(testServer.httpUrl);
    const stream = client.session.request({ ":method": "PUT", ":path": "/api/body" });
    stream.end(body);
    const [headers] = await once(stream, "response");
    expect(headers[":status"]).toBe(201);
    stream.resume();
  });

  test("reads a small body whole, and refuses a larger one", async () => {
    const post = (body: string) => fetch(`${testServer.httpUrl}/api/small`, { method: "POST", body });
    expect(await (await post("0123456789")).text()).toBe("0123456789");
    const response = await post("0123456789a");
    expect(response.status).toBe(413);
    expect(await response.json()).toMatchObject({ reason: "BODY_TOO_LARGE" });
  });

  test("that fails in its answer's middle breaks it off, so that it cannot be taken for a whole one", async () => {
    const response = await fetch(`${testServer.httpUrl}/api/broken`);
    await expect(response.arrayBuffer()).rejects.toThrow();
    await using client = new RawHttp2(testServer.httpUrl);
    const stream = client.session.request({ ":path": "/api/broken" });
    stream.on("error", () => stream.destroy());
    stream.resume();
    await closed(stream);
    expect(stream.rstCode).not.toBe(0);
    await expect.poll(() => testServer.logLines.filter(({ reason }) => reason === "LEASE_ENDED")).toHaveLength(2);
    expect(testServer.logLines.at(-1)).toMatchObject({ method: "GET /api/broken" });
  });

  test("that refuses an upload is heard while the caller still sends", async () => {
    const request = requestHttp1(`${testServer.httpUrl}/api/refuses`, { method: "POST" });
    request.on("error", () => request.destroy());
    request.write(Buffer.alloc(mebibyte));
    const [response] = await once(request, "response");
    expect(response.statusCode).toBe(401);
    response.resume();
    // And a caller that goes on for ever is stopped.
    request.write(Buffer.alloc(mebibyte));
    await once(request, "close");
  });
});

describe("a path that leads nowhere", () => {
  test("is 404 with the catalogue's reason", async () => {
    const response = await fetch(`${testServer.httpUrl}/api/none/lh_claim_abc`);
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ code: "unimplemented", reason: "UNKNOWN_METHOD" });
    expect(JSON.stringify(testServer.logLines)).not.toContain("lh_claim_abc");
  });

  test("with another method's route is 405 and names what is allowed", async () => {
    const response = await fetch(`${testServer.httpUrl}/api/message`, { method: "POST" });
    expect(response.status).toBe(405);
    expect(response.headers.get("allow")).toBe("GET, HEAD, OPTIONS");
    expect(await response.json()).toMatchObject({ reason: "UNKNOWN_METHOD", status: 405 });
    const options = await fetch(`${testServer.httpUrl}/api/message`, { method: "OPTIONS" });
    expect(options.status).toBe(204);
    expect(options.headers.get("allow")).toBe("GET, HEAD, OPTIONS");
  });

  test("with broken percent-encoding is MALFORMED_REQUEST", async () => {
    const request = requestHttp1({ port: testServer.httpPort, path: "/api/things/%zz/parts/1" }).end();
    const [response] = await once(request, "response");
    expect(response.statusCode).toBe(400);
    response.resume();
  });
});

describe("pages", () => {
  test("tell whether the server lives, is ready and how it does", async () => {
    let isReady = true;
    await using server = await startTestServer({
      readiness: async () => {
        if (!isReady) throw new Error("secret cause");
        return { ready: true, detail: { sweeperLagSeconds: 3 } };
      },
    });
    const get = (path: string) => fetch(server.httpUrl + path);
    expect((await get("/healthz")).status).toBe(200);
    const ready = await get("/readyz");
    expect([ready.status, await ready.json()]).toEqual([200, { ready: true, sweeperLagSeconds: 3 }]);
    isReady = false;
    const unready = await get("/readyz");
    expect([unready.status, await unready.json()]).toEqual([503, { ready: false }]);
    isReady = true;
    server.server.setServing(false);
    expect((await get("/readyz")).status).toBe(503);
    expect((await get("/healthz")).status).toBe(200);
    const metrics = await get("/metrics");
    expect(metrics.headers.get("content-type")).toContain("text/plain");
    expect(await metrics.text()).toContain("# TYPE leasehold_calls_total counter");
    expect((await fetch(`${server.httpUrl}/metrics`, { method: "POST" })).status).toBe(405);
  });
});

describe("a page of another origin", () => {
  const preflight = (url: string, origin: string) =>
    fetch(url, {
      method: "OPTIONS",
      headers: {
        origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, connect-protocol-version",
      },
    });

  test("may call RPCs and routes, and read the headers they answer with", async () => {
    for (const path of [pathOf(getLease), "/api/body"]) {
      const response = await preflight(testServer.httpUrl + path, "https://app.example");
      expect(response.status).toBe(204);
      expect(response.headers.get("access-control-allow-origin")).toBe("*");
      expect(response.headers.get("access-control-allow-methods")?.split(", ")).toEqual(
        expect.arrayContaining(["GET", "HEAD", "POST", "PUT"]),
      );
      expect(response.headers.get("access-control-allow-headers")?.toLowerCase().split(", ")).toEqual(
        expect.arrayContaining([
          "authorization",
          "connect-protocol-version",
          "connect-timeout-ms",
          "content-type",
          "range",
        ]),
      );
    }
    const response = await fetch(`${testServer.httpUrl}/api/none`, { headers: { origin: "https://app.example" } });
    expect(response.headers.get("access-control-allow-origin")).toBe("*");
    expect(response.headers.get("access-control-expose-headers")?.toLowerCase().split(", ")).toEqual(
      expect.arrayContaining([
        "grpc-status",
        "grpc-status-details-bin",
        "content-range",
        "repr-digest",
        "leasehold-claim-id",
      ]),
    );
  });

  test("is kept out if its origin is not on the list", async () => {
    await using server = await startTestServer({ corsOrigins: ["https://app.example"] });
    const allowed = await preflight(server.httpUrl + pathOf(getLease), "https://app.example");
    expect(allowed.headers.get("access-control-allow-origin")).toBe("https://app.example");
    expect(allowed.headers.get("vary")).toBe("origin");
    const refused = await preflight(server.httpUrl + pathOf(getLease), "https://other.example");
    expect(refused.status).toBe(204);
    expect(refused.headers.get("access-control-allow-origin")).toBeNull();
  });

  test("calls and streams with connect-web", async () => {
    const baseUrl = testServer.httpUrl;
    for (const transport of [createConnectTransport({ baseUrl }), createGrpcWebTransport({ baseUrl })]) {
      const client = createClient(LeaseService, transport);
      expect(await client.getLease({ leaseId })).toMatchObject({ lease: { leaseId } });
      const offsets: bigint[] = [];
      for await (const { offset } of client.downloadContent({ leaseId })) offsets.push(offset);
      expect(offsets).toEqual([1n, 2n]);
    }
  });
});
