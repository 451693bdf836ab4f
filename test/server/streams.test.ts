/** Tests how calls move and end on both doors: one message at a time, and told of every early end. */
import { once } from "node:events";
import { request as requestHttp1 } from "node:http";
import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import {
  DownloadContentRequestSchema,
  GetLeaseRequestSchema,
  LeaseService,
  UploadContentRequestSchema,
} from "#gen/leasehold/v1/lease_pb.js";
import { LeaseholdError } from "../../src/errors/leasehold-error.ts";
import type { Call } from "../../src/server/call.ts";
import { DeferredEvent } from "./deferred-event.ts";
import { FrameClient } from "./frame-client.ts";
import { NativeClient, pathOf } from "./native-client.ts";
import { closed, envelope, grpcStatusOf, RawHttp2 } from "./raw-http2.ts";
import { seenReason } from "./seen-error.ts";
import { leaseId, mebibyte, startTestServer, type TestServer } from "./test-server.ts";

const doors = [
  {
    door: "native",
    urlOf: ({ grpcAddress }: TestServer) => `http://${grpcAddress}`,
    portOf: ({ grpcPort }: TestServer) => grpcPort,
  },
  { door: "HTTP", urlOf: ({ httpUrl }: TestServer) => httpUrl, portOf: ({ httpPort }: TestServer) => httpPort },
] as const;

/** Codes of RFC 9113, section 7. */
const noError = 0;
const cancel = 8;

const downloadRequest = envelope(
  toBinary(DownloadContentRequestSchema, create(DownloadContentRequestSchema, { leaseId })),
);

function uploadRequest(bytes: number): Buffer {
  const message = create(UploadContentRequestSchema, { data: new Uint8Array(bytes) });
  return envelope(toBinary(UploadContentRequestSchema, message));
}

/** Resolves with the reason the call's signal is aborted with. */
function abortReason(call: Call): Promise<unknown> {
  return call.signal.aborted
    ? Promise.resolve(call.signal.reason)
    : once(call.signal, "abort").then(() => call.signal.reason);
}

describe.each(doors)("on the $door door", ({ urlOf, portOf }) => {
  test("a stream is asked for no more than its reader takes", async () => {
    let taken = 0;
    const heldUp = new DeferredEvent();
    await using server = await startTestServer({
      leases: {
        async *downloadContent(_request, call) {
          try {
            for (; taken < 1000; taken += 1) {
              if (taken === 1) setImmediate(() => heldUp.happen());
              yield { data: new Uint8Array(mebibyte) };
            }
          } finally {
            ended.happen(await abortReason(call));
          }
        },
      },
    });
    const ended = new DeferredEvent<unknown>();
    await using client = new RawHttp2(urlOf(server));
    const stream = client.startGrpc(LeaseService.method.downloadContent);
    stream.end(downloadRequest);
    await once(stream, "response");
    // The reader takes one window's worth and a little, so that the server has every chance to go on.
    let read = 0;
    for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
      read += chunk.length;
      if (read > 2 * mebibyte) break;
    }
    expect(taken).toBeLessThan(20);
    stream.close();
    expect(await ended.happened).toMatchObject({ reason: "CANCELLED" });
    expect(taken).toBeLessThan(20);
  });

  test("a stream is resumed after its last message only when that was taken", async () => {
    let isTaken = false;
    let wasTakenOnResume: boolean | undefined;
    const resumed = new DeferredEvent();
    const waiting = new DeferredEvent();
    await using server = await startTestServer({
      leases: {
        async *downloadContent() {
          setImmediate(() => waiting.happen());
          yield { data: new Uint8Array(mebibyte) };
          wasTakenOnResume = isTaken;
          resumed.happen();
        },
      },
    });
    await using client = new RawHttp2(urlOf(server));
    const stream = client.startGrpc(LeaseService.method.downloadContent);
    stream.end(downloadRequest);
    await once(stream, "response");
    await waiting.happened;
    // A whole round trip, in which the server could have gone on had it not waited.
    await new Promise((resolve) => client.session.ping(resolve));
    isTaken = true;
    stream.resume();
    await resumed.happened;
    expect(wasTakenOnResume).toBe(true);
    await once(stream, "end");
  });

  test("an upload is read no further than its handler asks", async () => {
    const first = new DeferredEvent<Call>();
    const goOn = new DeferredEvent();
    let count = 0;
    await using server = await startTestServer({
      windowBytes: mebibyte,
      leases: {
        async uploadContent(requests, call) {
          for await (const _ of requests) {
            count += 1;
            if (count === 1) {
              first.happen(call);
              await goOn.happened;
            }
          }
          return {};
        },
      },
    });
    await using client = new RawHttp2(urlOf(server));
    const stream = client.startGrpc(LeaseService.method.uploadContent);
    stream.resume();
    let sent = 0;
    for (let index = 0; index < 16; index += 1) {
      stream.write(uploadRequest(mebibyte), () => {
        sent += 1;
      });
    }
    await first.happened;
    await new Promise((resolve) => client.session.ping(resolve));
    // The message in hand, one read ahead, and the window.
    expect(sent).toBeLessThanOrEqual(4);
    goOn.happen();
    stream.end();
    await once(stream, "end");
    expect(count).toBe(16);
  });

  test("a reader that hangs up in mid-stream aborts the call's signal, and ends the handler's stream", async () => {
    const started = new DeferredEvent<Call>();
    const ended = new DeferredEvent();
    await using server = await startTestServer({
      leases: {
        async *downloadContent(_request, call) {
          try {
            yield { offset: 1n };
            started.happen(call);
            await abortReason(call);
          } finally {
            ended.happen();
          }
        },
      },
    });
    await using client = new RawHttp2(urlOf(server));
    const download = client.startGrpc(LeaseService.method.downloadContent);
    download.end(downloadRequest);
    const aborted = abortReason(await started.happened);
    download.close(cancel);
    expect(await aborted).toMatchObject({ reason: "CANCELLED" });
    await ended.happened;
    await server.server.drain(60_000);
    expect(server.logLines.map(({ reason }) => reason)).toEqual(["CANCELLED"]);
  });

  test.each([cancel, noError])("an upload that is reset with code %i is not taken for a whole one", async (code) => {
    const started = new DeferredEvent<Call>();
    const broken = new DeferredEvent<unknown>();
    await using server = await startTestServer({
      leases: {
        async uploadContent(requests, call) {
          try {
            for await (const _ of requests) started.happen(call);
            broken.happen("whole");
          } catch (error) {
            broken.happen(error);
          }
          return {};
        },
      },
    });
    using client = new FrameClient(portOf(server));
    client.start(pathOf(LeaseService.method.uploadContent));
    client.sendData(uploadRequest(10));
    const aborted = abortReason(await started.happened);
    client.resetStream(code);
    expect(await broken.happened).toMatchObject({ reason: "CANCELLED" });
    expect(await aborted).toMatchObject({ reason: "CANCELLED" });
    await server.server.drain(60_000);
    expect(server.logLines.map(({ reason }) => reason)).toEqual(["CANCELLED"]);
  });

  test("an upload whose connection breaks is not taken for a whole one", async () => {
    const started = new DeferredEvent();
    const broken = new DeferredEvent<unknown>();
    await using server = await startTestServer({
      leases: {
        async uploadContent(requests) {
          try {
            for await (const _ of requests) started.happen();
            broken.happen("whole");
          } catch (error) {
            broken.happen(error);
          }
          return {};
        },
      },
    });
    using client = new FrameClient(portOf(server));
    client.start(pathOf(LeaseService.method.uploadContent));
    client.sendData(uploadRequest(10));
    await started.happened;
    client.socket.destroy();
    expect(await broken.happened).toMatchObject({ reason: "CANCELLED" });
  });

  test("a reader that takes nothing for the stall time is dropped, though its handler waits", async () => {
    const aborted = new DeferredEvent<unknown>();
    const finished = new DeferredEvent();
    await using server = await startTestServer({
      stallSeconds: 0.3,
      leases: {
        async *downloadContent(_request, call) {
          void abortReason(call).then((reason) => aborted.happen(reason));
          try {
            for (;;) yield { data: new Uint8Array(mebibyte) };
          } finally {
            finished.happen();
          }
        },
      },
    });
    await using client = new RawHttp2(urlOf(server));
    const stream = client.startGrpc(LeaseService.method.downloadContent);
    stream.end(downloadRequest);
    const closed = once(stream, "close");
    expect(await aborted.happened).toMatchObject({ reason: "STALLED", metadata: { stall_seconds: "0.3" } });
    await closed;
    expect(stream.rstCode).toBe(cancel);
    await finished.happened;
  });

  test("an answer that is not taken for the stall time is dropped, though its handler is done", async () => {
    await using server = await startTestServer({
      stallSeconds: 0.3,
      leases: { getLease: async () => ({ lease: { labels: { padding: "x".repeat(mebibyte) } } }) },
    });
    await using client = new RawHttp2(urlOf(server));
    const stream = client.startGrpc(LeaseService.method.getLease);
    stream.end(envelope(toBinary(GetLeaseRequestSchema, create(GetLeaseRequestSchema, { leaseId }))));
    await closed(stream);
    expect(stream.rstCode).toBe(cancel);
  });

  test("a caller that sends nothing for the stall time is dropped, in a stream and before the only message", async () => {
    const aborted = new DeferredEvent<unknown>();
    await using server = await startTestServer({
      stallSeconds: 0.3,
      leases: {
        async uploadContent(requests, call) {
          void abortReason(call).then((reason) => aborted.happen(reason));
          for await (const _ of requests);
          return {};
        },
      },
    });
    await using client = new RawHttp2(urlOf(server));
    const upload = client.startGrpc(LeaseService.method.uploadContent);
    upload.write(uploadRequest(10).subarray(0, 8));
    const unary = client.startGrpc(LeaseService.method.getLease);
    expect(await Promise.all([upload, unary].map(grpcStatusOf))).toEqual(["4", "4"]);
    expect(await aborted.happened).toMatchObject({ reason: "STALLED" });
    await expect.poll(() => server.logLines.filter(({ reason }) => reason === "STALLED")).toHaveLength(2);
  });

  test("a peer that is slow but moves is waited for, and so is a handler that thinks", async () => {
    const beforeStall = new DeferredEvent();
    await using server = await startTestServer({
      stallSeconds: 0.4,
      leases: {
        async uploadContent(requests) {
          let bytes = 0n;
          for await (const { data } of requests) bytes += BigInt(data.length);
          await beforeStall.happened;
          return { lease: { sizeBytes: bytes } };
        },
      },
    });
    await using client = new RawHttp2(urlOf(server));
    const upload = client.startGrpc(LeaseService.method.uploadContent);
    const message = uploadRequest(1000);
    let sent = 0;
    const drip = setInterval(() => {
      upload.write(message.subarray(sent, sent + 1));
      sent += 1;
    }, 20);
    // Other calls that stall tell that the stall time has passed.
    const stall = async () => {
      const stalled = client.startGrpc(LeaseService.method.getLease);
      stalled.resume();
      await once(stalled, "close");
    };
    await stall();
    await stall();
    clearInterval(drip);
    upload.end(message.subarray(sent));
    await stall();
    await stall();
    beforeStall.happen();
    expect(await grpcStatusOf(upload)).toBe("0");
  });

  test("a handler can cut its stream, even while the reader takes nothing", async () => {
    const call = new DeferredEvent<Call>();
    await using server = await startTestServer({
      leases: {
        async *downloadContent(_request, own) {
          call.happen(own);
          for (;;) yield { data: new Uint8Array(mebibyte) };
        },
      },
    });
    await using client = new RawHttp2(urlOf(server));
    const stream = client.startGrpc(LeaseService.method.downloadContent);
    stream.end(downloadRequest);
    await once(stream, "response");
    (await call.happened).abort(new LeaseholdError("LEASE_ENDED", "The lease has ended."));
    await once(stream, "close");
    await expect.poll(() => server.logLines).toContainEqual(expect.objectContaining({ reason: "LEASE_ENDED" }));
  });
});

test("a cut that the reader can still be told of carries its reason", async () => {
  const error = new LeaseholdError("LEASE_ENDED", "The lease has ended.");
  await using server = await startTestServer({
    leases: {
      async *downloadContent(_request, call) {
        yield { offset: 1n };
        call.abort(error);
        yield { offset: 2n };
      },
    },
  });
  using native = new NativeClient(server.grpcAddress);
  const read = async () => {
    for await (const _ of native.serverStream(LeaseService.method.downloadContent, { leaseId }));
  };
  expect(await seenReason(read())).toBe("LEASE_ENDED");
});

test("a caller of HTTP/1.1 that hangs up aborts the call's signal", async () => {
  const call = new DeferredEvent<Call>();
  await using server = await startTestServer({
    routes: [
      {
        method: "PUT",
        path: "/api/body",
        rpc: LeaseService.method.uploadContent,
        async handle(exchange) {
          call.happen(exchange.call);
          for await (const _ of exchange.body());
        },
      },
    ],
  });
  const request = requestHttp1(`${server.httpUrl}/api/body`, { method: "PUT" });
  request.on("error", () => request.destroy());
  request.write("some of it");
  const aborted = abortReason(await call.happened);
  request.destroy();
  expect(await aborted).toMatchObject({ reason: "CANCELLED" });
});
