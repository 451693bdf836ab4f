/** Tests what listens where: both HTTP versions on one port, TLS on both doors, the operator's own port, and a clean end. */
import { once } from "node:events";
import { connect as connectHttp2, constants } from "node:http2";
import { get as getHttps } from "node:https";
import { connect, type Socket } from "node:net";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { credentials } from "@grpc/grpc-js";
import { afterEach, describe, expect, test } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "#gen/grpc/health/v1/health_pb.js";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { LeaseholdServer } from "../../src/server/leasehold-server.ts";
import { mountService, type ServiceImplementation } from "../../src/server/service-implementation.ts";
import { makeSelfSignedCertificate } from "../config/self-signed-certificate.ts";
import { DeferredEvent } from "./deferred-event.ts";
import { NativeClient } from "./native-client.ts";
import { RawHttp2 } from "./raw-http2.ts";
import { seenError, seenReason } from "./seen-error.ts";
import { type FakeLeases, leaseId, startTestServer } from "./test-server.ts";

const { getLease, downloadContent } = LeaseService.method;

const echo: Partial<FakeLeases> = { getLease: async ({ leaseId }) => ({ lease: { leaseId } }) };
const found = { lease: { leaseId } };

afterEach(async () => {
  await expect.poll(openSockets, { message: "A connection or a listener is left open" }).toEqual([]);
});

function openSockets(): string[] {
  return process.getActiveResourcesInfo().filter((name) => name.startsWith("TCP"));
}

describe("plaintext", () => {
  test("HTTP/1.1 and HTTP/2 share a port, whatever pieces their first bytes come in", async () => {
    await using server = await startTestServer({ leases: echo });
    const baseUrl = server.httpUrl;
    for (const transport of [
      createConnectTransport({ baseUrl, httpVersion: "1.1" }),
      createGrpcTransport({ baseUrl }),
    ]) {
      expect(await createClient(LeaseService, transport).getLease({ leaseId })).toMatchObject(found);
    }
    // The pieces are apart: each waits until the server has answered something else.
    const sendApart = async (socket: Socket, pieces: readonly string[]) => {
      for (const piece of pieces) {
        socket.write(piece);
        await fetch(`${server.httpUrl}/healthz`, { headers: { connection: "close" } });
      }
    };
    const http1 = connect(server.httpPort, "127.0.0.1");
    await sendApart(http1, ["P", "UT /healthz HT", "TP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"]);
    expect(await readAll(http1)).toContain("HTTP/1.1 405 Method Not Allowed");
    const http2 = connect(server.httpPort, "127.0.0.1");
    const first = once(http2, "data");
    await sendApart(http2, ["P", "RI * HTTP/2.0\r\n\r", "\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"]);
    // A SETTINGS frame.
    expect((await first)[0][3]).toBe(4);
    http2.destroy();
  });

  test("a connection that says nothing does not hold up the server's end", async () => {
    const server = await startTestServer();
    const silent = [connect(server.httpPort, "127.0.0.1"), connect(server.grpcPort, "127.0.0.1")];
    await Promise.all(silent.map((socket) => once(socket, "connect")));
    const closed = Promise.all(silent.map((socket) => once(socket.resume(), "close")));
    await server.server.close();
    await closed;
  });

  test("a taken port stops the start and leaves nothing open", async () => {
    await using server = await startTestServer();
    await expect(startTestServer({ grpcPort: server.grpcPort })).rejects.toMatchObject({ code: "EADDRINUSE" });
  });
});

describe("TLS", () => {
  test("is on both doors, and the HTTP door speaks both versions", async () => {
    const { certificate, key } = makeSelfSignedCertificate();
    await using server = await startTestServer({ leases: echo, tls: { cert: certificate, key } });
    using native = new NativeClient(server.grpcAddress, credentials.createSsl(Buffer.from(certificate)), {
      "grpc.ssl_target_name_override": "localhost",
    });
    expect(await native.unary(getLease, { leaseId })).toMatchObject(found);
    const grpc = createGrpcTransport({ baseUrl: server.httpUrl, nodeOptions: { ca: certificate } });
    expect(await createClient(LeaseService, grpc).getLease({ leaseId })).toMatchObject(found);
    const connectHttp1 = createConnectTransport({
      baseUrl: server.httpUrl,
      httpVersion: "1.1",
      nodeOptions: { ca: certificate, agent: false },
    });
    expect(await createClient(LeaseService, connectHttp1).getLease({ leaseId })).toMatchObject(found);
    const [response] = await once(getHttps(`${server.httpUrl}/healthz`, { ca: certificate, agent: false }), "response");
    expect(response.statusCode).toBe(200);
    expect(response.httpVersion).toBe("1.1");
    response.resume();
    const session = connectHttp2(server.httpUrl, { ca: certificate });
    const stream = session.request({ ":path": "/healthz" });
    const [headers] = await once(stream, "response");
    expect(headers[constants.HTTP2_HEADER_STATUS]).toBe(200);
    session.destroy();
  });
});

describe("the operator's port", () => {
  const admin = {
    listAccounts: async () => ({ nextPageToken: "admin" }),
  } as Partial<ServiceImplementation<typeof AdminService>> as ServiceImplementation<typeof AdminService>;
  const adminService = () =>
    mountService(
      AdminService,
      new Proxy(admin, {
        get: (target, name) => Reflect.get(target, name) ?? (() => Promise.reject(new Error("unset"))),
      }),
      { operatorOnly: true },
    );

  test("alone serves what is the operator's only, if it is set", async () => {
    await using server = await startTestServer({ services: [adminService()], operatorPort: 0 });
    using native = new NativeClient(server.grpcAddress);
    expect(await seenReason(native.unary(AdminService.method.listAccounts, {}))).toBe("UNKNOWN_METHOD");
    expect((await fetch(`${server.httpUrl}/metrics`, { headers: { connection: "close" } })).status).toBe(404);
    const baseUrl = `http://127.0.0.1:${server.server.addresses.operator?.port}`;
    const client = createClient(AdminService, createGrpcTransport({ baseUrl }));
    expect(await client.listAccounts({})).toMatchObject({ nextPageToken: "admin" });
    expect((await fetch(`${baseUrl}/metrics`, { headers: { connection: "close" } })).status).toBe(200);
    expect((await fetch(`${baseUrl}/readyz`, { headers: { connection: "close" } })).status).toBe(200);
  });

  test("is not needed: then it is all on the doors", async () => {
    await using server = await startTestServer({ services: [adminService()] });
    using native = new NativeClient(server.grpcAddress);
    expect(await native.unary(AdminService.method.listAccounts, {})).toMatchObject({ nextPageToken: "admin" });
    expect((await fetch(`${server.httpUrl}/metrics`, { headers: { connection: "close" } })).status).toBe(200);
  });
});

describe("a drain", () => {
  test("lets calls under way end, refuses new ones with DRAINING, and then closes every connection", async () => {
    const started = [new DeferredEvent(), new DeferredEvent()];
    const goOn = new DeferredEvent();
    let count = 0;
    await using server = await startTestServer({
      leases: {
        async *downloadContent() {
          started[count]?.happen();
          count += 1;
          yield { offset: 1n };
          await goOn.happened;
          yield { offset: 2n };
        },
      },
    });
    using native = new NativeClient(server.grpcAddress);
    const connectClient = createClient(LeaseService, createGrpcTransport({ baseUrl: server.httpUrl }));
    const http1 = createClient(LeaseService, createConnectTransport({ baseUrl: server.httpUrl, httpVersion: "1.1" }));
    const read = async (stream: AsyncIterable<{ offset: bigint }>) => {
      const offsets: bigint[] = [];
      for await (const { offset } of stream) offsets.push(offset);
      return offsets;
    };
    const reads = [
      read(native.serverStream(downloadContent, { leaseId })),
      read(connectClient.downloadContent({ leaseId })),
    ];
    await Promise.all(started.map(({ happened }) => happened));
    const drained = server.server.drain(60_000);
    for (const call of [
      native.unary(getLease, { leaseId }),
      connectClient.getLease({ leaseId }),
      http1.getLease({ leaseId }),
    ]) {
      expect(await seenError(call)).toMatchObject({
        details: { ErrorInfo: { reason: "DRAINING" }, RetryInfo: { retryDelay: "1s" } },
      });
    }
    expect(await native.unary(Health.method.check, {})).toMatchObject({ status: Status.NOT_SERVING });
    expect((await fetch(`${server.httpUrl}/readyz`, { headers: { connection: "close" } })).status).toBe(503);
    goOn.happen();
    expect(await Promise.all(reads)).toEqual([
      [1n, 2n],
      [1n, 2n],
    ]);
    await drained;
    await expect(fetch(`${server.httpUrl}/healthz`)).rejects.toThrow();
  });

  test("cuts what is left after its grace with DRAINING, and tells the handler", async () => {
    const reasons: unknown[] = [];
    const started = [new DeferredEvent(), new DeferredEvent()];
    await using server = await startTestServer({
      leases: {
        async *downloadContent(_request, call) {
          started[reasons.length]?.happen();
          const index = reasons.push(undefined) - 1;
          yield { offset: 1n };
          await once(call.signal, "abort");
          reasons[index] = call.signal.reason;
        },
      },
    });
    using native = new NativeClient(server.grpcAddress);
    const connectClient = createClient(LeaseService, createGrpcTransport({ baseUrl: server.httpUrl }));
    const read = async (stream: AsyncIterable<unknown>) => {
      for await (const _ of stream);
    };
    const reads = [
      seenReason(read(native.serverStream(downloadContent, { leaseId }))),
      seenReason(read(connectClient.downloadContent({ leaseId }))),
    ];
    await Promise.all(started.map(({ happened }) => happened));
    await server.server.drain(0);
    expect(await Promise.all(reads)).toEqual(["DRAINING", "DRAINING"]);
    expect(reasons).toEqual(Array(2).fill(expect.objectContaining({ reason: "DRAINING" })));
  });

  test("sends GOAWAY to idle connections", async () => {
    const server = await startTestServer();
    await using idle = new RawHttp2(server.httpUrl);
    await using idleNative = new RawHttp2(`http://${server.grpcAddress}`);
    await Promise.all([once(idle.session, "remoteSettings"), once(idleNative.session, "remoteSettings")]);
    const told = Promise.all([once(idle.session, "goaway"), once(idleNative.session, "goaway")]);
    await server.server.drain(60_000);
    expect((await told).map(([code]) => code)).toEqual([0, 0]);
  });

  test("can follow a drain", async () => {
    const server = await startTestServer();
    await server.server.drain(0);
    await server.server.close();
  });
});

test("a service that lacks an RPC stops the start", async () => {
  expect(() => mountService(LeaseService, {} as FakeLeases)).toThrow("has no implementation");
  expect(LeaseholdServer).toBeDefined();
});

async function readAll(socket: Socket): Promise<string> {
  let text = "";
  for await (const chunk of socket) text += chunk;
  return text;
}
