/** A whole server with a LeaseService of the test's own, and what it logs. */
import { Writable } from "node:stream";
import { pino } from "pino";
import { Registry } from "prom-client";
import { LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { LeaseholdServer, type ServerOptions } from "../../src/server/leasehold-server.ts";
import { mountService, type ServiceImplementation } from "../../src/server/service-implementation.ts";

export type FakeLeases = ServiceImplementation<typeof LeaseService>;

/** What a test sets of its server. RPCs it does not set fail. */
export interface TestServerOptions extends Partial<ServerOptions> {
  readonly leases?: Partial<FakeLeases>;
}

/** A server that serves, where it listens, and the lines it logged. */
export interface TestServer extends AsyncDisposable {
  readonly server: LeaseholdServer;
  readonly httpUrl: string;
  readonly httpPort: number;
  readonly grpcAddress: string;
  readonly grpcPort: number;
  readonly registry: Registry;
  readonly logLines: Record<string, unknown>[];
}

export const mebibyte = 1_048_576;
export const leaseId = `lse_${"0".repeat(26)}`;

/** Starts a server on free ports. Dispose of it after its clients. */
export async function startTestServer({ leases, ...options }: TestServerOptions = {}): Promise<TestServer> {
  const logLines: Record<string, unknown>[] = [];
  const registry = new Registry();
  const server = await LeaseholdServer.start({
    host: "127.0.0.1",
    httpPort: 0,
    grpcPort: 0,
    maxMessageBytes: 4 * mebibyte,
    maxHeaderBytes: 16_384,
    maxStreamsPerConnection: 256,
    windowBytes: 8 * mebibyte,
    stallSeconds: 30,
    callDeadlineSeconds: 60,
    corsOrigins: ["*"],
    logger: pino({ level: "debug" }, lineParser(logLines)),
    registry,
    services: [mountService(LeaseService, { ...unset, ...leases })],
    routes: [],
    readiness: () => Promise.resolve({ ready: true, detail: {} }),
    ...options,
  });
  server.setServing(true);
  const scheme = options.tls === undefined ? "http" : "https";
  const { http, grpc } = server.addresses;
  return {
    server,
    httpUrl: `${scheme}://127.0.0.1:${http.port}`,
    httpPort: http.port,
    grpcAddress: `127.0.0.1:${grpc.port}`,
    grpcPort: grpc.port,
    registry,
    logLines,
    [Symbol.asyncDispose]: () => server.close(),
  };
}

const unset: FakeLeases = {
  getPricing: failUnset,
  quoteLease: failUnset,
  createLease: failUnset,
  getLease: failUnset,
  listLeases: failUnset,
  deleteLease: failUnset,
  uploadContent: failUnset,
  uploadContentPart: failUnset,
  downloadContent: () => {
    throw new Error("This test has no such RPC");
  },
};

function failUnset(): Promise<never> {
  return Promise.reject(new Error("This test has no such RPC"));
}

function lineParser(lines: Record<string, unknown>[]): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()));
      done();
    },
  });
}
