/** Tests that a server outlives peers and handlers that break off at any point, and keeps nothing of their calls. */
import { once } from "node:events";
import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  DownloadContentRequestSchema,
  GetLeaseRequestSchema,
  LeaseService,
  UploadContentRequestSchema,
} from "#gen/leasehold/v1/lease_pb.js";
import { LeaseholdError } from "../../src/errors/leasehold-error.ts";
import { FrameClient } from "./frame-client.ts";
import { NativeClient, pathOf } from "./native-client.ts";
import { envelope } from "./raw-http2.ts";
import { leaseId, startTestServer, type TestServer } from "./test-server.ts";

const { getLease, uploadContent, downloadContent } = LeaseService.method;

const requests = [
  {
    path: pathOf(getLease),
    body: envelope(toBinary(GetLeaseRequestSchema, create(GetLeaseRequestSchema, { leaseId }))),
  },
  {
    path: pathOf(downloadContent),
    body: envelope(toBinary(DownloadContentRequestSchema, create(DownloadContentRequestSchema, { leaseId }))),
  },
  {
    path: pathOf(uploadContent),
    body: envelope(
      toBinary(UploadContentRequestSchema, create(UploadContentRequestSchema, { data: Buffer.alloc(5000) })),
    ),
  },
  { path: "/api/download", body: Buffer.alloc(100) },
];

/** A whole number below the one given. */
type Random = (below: number) => number;

interface Call {
  readonly streamId: number;
  readonly body: Buffer;
}

test.each([1, 2, 3, 4])("a server outlives peers and handlers that break off at any point, seed %i", async (seed) => {
  const random = randomFrom(seed);
  const ended = new LeaseholdError("LEASE_ENDED", "It ended.");
  await using server = await startTestServer({
    stallSeconds: 0.2,
    callDeadlineSeconds: 0.3,
    leases: {
      async getLease(_request, call) {
        if (random(4) === 0) await once(call.signal, "abort");
        return { lease: { leaseId, labels: { padding: "x".repeat(random(100_000)) } } };
      },
      async *downloadContent(_request, call) {
        for (let left = random(20); left > 0; left -= 1) {
          if (random(40) === 0) call.abort(ended);
          if (random(40) === 0) throw ended;
          yield { data: Buffer.alloc(random(100_000)) };
        }
      },
      async uploadContent(messages, call) {
        for await (const _ of messages) {
          if (random(20) === 0) call.abort(ended);
          if (random(20) === 0) throw ended;
          if (random(20) === 0) break;
        }
        return {};
      },
    },
    routes: [
      {
        method: "POST",
        path: "/api/download",
        rpc: downloadContent,
        async handle(exchange) {
          for (let left = random(20); left > 0; left -= 1) {
            if (random(40) === 0) exchange.call.abort(ended);
            if (random(20) === 0) throw ended;
            await exchange.write(Buffer.alloc(random(100_000)));
          }
          await exchange.end();
        },
      },
    ],
  });
  await Promise.all(
    Array.from({ length: 40 }, (_, index) => misbehave(index % 2 === 0 ? server.httpPort : server.grpcPort, random)),
  );
  await expectGoodHealth(server);
});

/** Sixteen calls on one connection, whose frames are mixed, broken off, reset and left to stall. */
async function misbehave(port: number, random: Random): Promise<void> {
  using client = new FrameClient(port);
  const closed = new Promise((resolve) => client.socket.once("close", resolve));
  await once(client.socket, "connect");
  const calls = Array.from({ length: 16 }, (_, index) => ({ streamId: 1 + 2 * index, ...pick(requests, random) }));
  const sending = new Set(calls);
  client.inOnePiece(() => {
    for (const { path, streamId } of calls) client.start(path, streamId);
  });
  for (let round = 0; round < 8 && !client.socket.destroyed; round += 1) {
    client.inOnePiece(() => {
      for (let step = 0; step < 10; step += 1) {
        const call = pick(calls, random);
        if (sending.has(call) && !sendSome(client, call, random)) sending.delete(call);
        client.openWindow(1 + random(50_000), pick([0, call.streamId], random));
      }
    });
    // Until the server has had a look, or has closed the connection.
    await Promise.race([closed, new Promise((resolve) => setImmediate(resolve))]);
  }
  if (random(2) === 0) {
    client.socket.end();
    await closed;
  }
}

/** Returns whether the stream is still open for more. */
function sendSome(client: FrameClient, { streamId, body }: Call, random: Random): boolean {
  switch (random(8)) {
    case 0:
      client.sendData(body.subarray(0, random(body.length)), { streamId });
      return true;
    case 1:
    case 2:
      client.sendData(body, { streamId, isLast: true });
      return false;
    case 3:
      client.resetStream(pick([0, 2, 7, 8], random), streamId);
      return false;
    default:
      client.sendData(body, { streamId });
      return true;
  }
}

async function expectGoodHealth(server: TestServer): Promise<void> {
  using native = new NativeClient(server.grpcAddress);
  const answers = Array.from({ length: 20 }, () => native.unary(getLease, { leaseId }).catch(() => undefined));
  expect((await Promise.all(answers)).some((answer) => answer !== undefined)).toBe(true);
  native[Symbol.dispose]();
  await server.server.drain(60_000);
  expect(await server.registry.getSingleMetricAsString("leasehold_calls_in_flight")).not.toMatch(/} [^0]/);
  const unexpected = server.logLines.filter(
    ({ reason, msg, level }) => Number(level) >= 40 || (reason ?? msg) === "INTERNAL",
  );
  expect(unexpected).toEqual([]);
}

function pick<T>(items: readonly T[], random: Random): T {
  return items[random(items.length)] ?? expect.fail("nothing to pick from");
}

/** A small generator of whole numbers that a seed repeats (mulberry32). */
function randomFrom(seed: number): Random {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
