/** Tests that every call ends in time: by its caller's deadline, or by the server's if that is sooner. */
import { once } from "node:events";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { expect, test } from "vitest";
import { GetLeaseRequestSchema, LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import type { Call } from "../../src/server/call.ts";
import { LongTimer } from "../../src/server/long-timer.ts";
import { DeferredEvent } from "./deferred-event.ts";
import { NativeClient } from "./native-client.ts";
import { envelope, grpcStatusOf, RawHttp2 } from "./raw-http2.ts";
import { seenError, seenReason } from "./seen-error.ts";
import { leaseId, startTestServer } from "./test-server.ts";

const { getLease, downloadContent } = LeaseService.method;

/** Waits for as long as its call lives, and then tells why it ended. */
async function waitForEnd(call: Call): Promise<unknown> {
  await once(call.signal, "abort");
  return call.signal.reason;
}

test("a unary call is bounded by the server's deadline, on both doors", async () => {
  const reasons: unknown[] = [];
  await using server = await startTestServer({
    callDeadlineSeconds: 0.1,
    leases: {
      async getLease(_request, call) {
        expect(call.deadlineMs).toBeLessThanOrEqual(100);
        reasons.push(await waitForEnd(call));
        return {};
      },
    },
    routes: [
      {
        method: "GET",
        path: "/api/slow",
        rpc: getLease,
        async handle(exchange) {
          reasons.push(await waitForEnd(exchange.call));
        },
      },
    ],
  });
  using native = new NativeClient(server.grpcAddress);
  const expected = await seenError(native.unary(getLease, { leaseId }));
  expect(expected).toMatchObject({
    code: Code.DeadlineExceeded,
    details: { ErrorInfo: { reason: "DEADLINE", metadata: { deadline_seconds: "0.1" } } },
  });
  for (const transport of [
    createGrpcTransport({ baseUrl: server.httpUrl }),
    createConnectTransport({ baseUrl: server.httpUrl, httpVersion: "1.1" }),
  ]) {
    expect(await seenError(createClient(LeaseService, transport).getLease({ leaseId }))).toEqual(expected);
  }
  const response = await fetch(`${server.httpUrl}/api/slow`);
  expect(response.status).toBe(504);
  expect(await response.json()).toMatchObject({ reason: "DEADLINE" });
  expect(reasons).toEqual(Array(4).fill(expect.objectContaining({ reason: "DEADLINE" })));
});

test("a caller's sooner deadline reaches the handler, on both doors", async () => {
  const deadlines: DeferredEvent<number | undefined>[] = [];
  const ends: Promise<unknown>[] = [];
  await using server = await startTestServer({
    leases: {
      async getLease(_request, call) {
        deadlines.at(-1)?.happen(call.deadlineMs);
        const end = waitForEnd(call);
        ends.push(end);
        await end;
        return {};
      },
    },
  });
  // Raw requests, since a client with a deadline of its own hangs up when that is over.
  for (const url of [`http://${server.grpcAddress}`, server.httpUrl]) {
    const deadline = new DeferredEvent<number | undefined>();
    deadlines.push(deadline);
    await using client = new RawHttp2(url);
    const stream = client.startGrpc(getLease, { "grpc-timeout": "150m" });
    stream.end(envelope(toBinary(GetLeaseRequestSchema, create(GetLeaseRequestSchema, { leaseId }))));
    expect(await grpcStatusOf(stream)).toBe("4");
    expect(await deadline.happened).toBeLessThanOrEqual(150);
  }
  expect(await Promise.all(ends)).toEqual(Array(2).fill(expect.objectContaining({ reason: "DEADLINE" })));
});

test("a stream has its caller's deadline and none of the server's", async () => {
  const deadlines: (number | undefined)[] = [];
  await using server = await startTestServer({
    callDeadlineSeconds: 0.05,
    leases: {
      async *downloadContent(_request, call) {
        deadlines.push(call.deadlineMs);
        yield { offset: 1n };
        // The server's deadline passes meanwhile: a unary call tells.
        await using other = new RawHttp2(server.httpUrl);
        await once(other.startGrpc(getLease).end(Buffer.alloc(5)).resume(), "close");
      },
      getLease: (_request, call) => waitForEnd(call).then(() => ({})),
    },
  });
  using native = new NativeClient(server.grpcAddress);
  const baseUrl = server.httpUrl;
  const client = createClient(LeaseService, createGrpcTransport({ baseUrl }));
  for await (const _ of native.serverStream(downloadContent, { leaseId }));
  for await (const _ of client.downloadContent({ leaseId }));
  for await (const _ of native.serverStream(downloadContent, { leaseId }, { deadline: Date.now() + 60_000 }));
  for await (const _ of client.downloadContent({ leaseId }, { timeoutMs: 60_000 }));
  expect(deadlines.slice(0, 2)).toEqual([undefined, undefined]);
  for (const deadline of deadlines.slice(2)) {
    expect(deadline).toBeGreaterThan(1000);
    expect(deadline).toBeLessThanOrEqual(60_000);
  }
});

test("a deadline beyond 2^31-1 ms is no deadline that has passed", async () => {
  await using server = await startTestServer({
    leases: {
      async *downloadContent(_request, call) {
        yield { offset: BigInt(Math.round((call.deadlineMs ?? 0) / 3_600_000)) };
      },
    },
  });
  const longTimeouts: Interceptor = (next) => (request) => {
    request.header.set("grpc-timeout", "1000H");
    request.header.set("connect-timeout-ms", "3600000000");
    return next(request);
  };
  const baseUrl = server.httpUrl;
  for (const transport of [
    createGrpcTransport({ baseUrl, interceptors: [longTimeouts] }),
    createConnectTransport({ baseUrl, httpVersion: "1.1", interceptors: [longTimeouts] }),
  ]) {
    for await (const { offset } of createClient(LeaseService, transport).downloadContent({ leaseId })) {
      expect(offset).toBe(1000n);
    }
  }
  using native = new NativeClient(server.grpcAddress);
  const deadline = Date.now() + 1000 * 3_600_000;
  for await (const { offset } of native.serverStream(downloadContent, { leaseId }, { deadline })) {
    expect(offset).toBe(1000n);
  }
});

test("a long timer fires when its time has come and not before", async () => {
  const order: string[] = [];
  const far = new LongTimer(2 ** 31, () => order.push("far"));
  const near = Promise.withResolvers<void>();
  new LongTimer(1, () => {
    order.push("near");
    near.resolve();
  });
  await near.promise;
  expect(order).toEqual(["near"]);
  expect(far.remainingMs).toBeGreaterThan(2 ** 31 - 60_000);
  far.cancel();
});

test("a call that its handler answers after its end is answered once", async () => {
  const late = new DeferredEvent();
  await using server = await startTestServer({
    callDeadlineSeconds: 0.05,
    leases: {
      async getLease(_request, call) {
        await waitForEnd(call);
        late.happen();
        throw new Error("too late to matter");
      },
    },
  });
  using native = new NativeClient(server.grpcAddress);
  expect(await seenReason(native.unary(getLease, { leaseId }))).toBe("DEADLINE");
  await late.happened;
  await server.server.drain(60_000);
  expect(server.logLines.map(({ reason, msg }) => reason ?? msg)).toEqual([
    "DEADLINE",
    "a handler failed after its call had ended",
  ]);
});
