/** A whole Leasehold for a test file: a fresh database, temporary folders, both doors on free ports, and clients. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { type Logger, pino } from "pino";
import { Registry } from "prom-client";
import { afterAll } from "vitest";
import { AccountService } from "#gen/leasehold/v1/account_pb.js";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { buildApi, buildSweeper, type Core, openCore } from "../../src/app.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import type { Config } from "../../src/config/settings.ts";
import { Database } from "../../src/database/database.ts";
import { LeaseholdServer } from "../../src/server/leasehold-server.ts";
import { testDatabaseUrl } from "./test-database.ts";

/** What a test sets, on top of the defaults. */
export interface TestLeaseholdOptions {
  readonly settings?: Readonly<Record<string, string>>;
  /** Another server's, to start a second one beside it: the same database, content and keys. */
  readonly beside?: TestLeasehold;
  /** Nothing is logged if there is none, or what TEST_LOG_LEVEL says. */
  readonly logger?: Logger;
  /** Where it reaches its database, if not straight. */
  readonly way?: (databaseUrl: string) => Promise<string>;
}

/** An account with a key of every scope. */
export interface TestAccount {
  readonly accountId: string;
  readonly apiKey: string;
}

export const adminToken = "test-admin-token-0123456789";

/** A running server and the ways to reach it. There is no sweeper unless a test runs one. */
export class TestLeasehold {
  readonly core: Core;
  readonly server: LeaseholdServer;
  readonly databaseUrl: string;
  readonly httpUrl: string;
  readonly grpcUrl: string;

  private constructor(core: Core, server: LeaseholdServer, databaseUrl: string) {
    this.core = core;
    this.server = server;
    this.databaseUrl = databaseUrl;
    const { http, grpc } = server.addresses;
    this.httpUrl = `http://${http.host}:${http.port}`;
    this.grpcUrl = `http://${grpc.host}:${grpc.port}`;
  }

  /** Starts one for the tests of a file; it is stopped after the last. Call it at the top level of the file. */
  static async start(options: TestLeaseholdOptions = {}): Promise<TestLeasehold> {
    const databaseUrl = options.beside?.databaseUrl ?? (await testDatabaseUrl());
    const dataDir = options.beside?.core.config.dataDir ?? (await mkdtemp(join(tmpdir(), "leasehold-test-")));
    const config = loadConfig({ LEASEHOLD_DATA_DIR: dataDir, LEASEHOLD_LOG_LEVEL: "fatal", ...options.settings });
    const url = (await options.way?.(databaseUrl)) ?? databaseUrl;
    const database = await Database.connect({ url, poolSize: config.databasePoolSize });
    const logger = options.logger ?? pino({ level: process.env.TEST_LOG_LEVEL ?? "silent" });
    const core = await openCore(config, database, logger);
    const server = await startServer(config, core);
    afterAll(async () => {
      await server.close();
      await database.close();
      if (options.beside === undefined) {
        await rm(dataDir, { recursive: true, force: true });
      }
    });
    return new TestLeasehold(core, server, databaseUrl);
  }

  get database(): Database {
    return this.core.database;
  }

  /** Makes an account with some money. */
  async account(balanceMicros = 10_000_000n): Promise<TestAccount> {
    const admin = this.client(AdminService, adminToken);
    const { account, apiKey } = await admin.createAccount({ name: "test" });
    const accountId = account?.accountId ?? "";
    if (balanceMicros > 0n) {
      await admin.creditAccount({ accountId, amountMicros: balanceMicros });
    }
    return { accountId, apiKey };
  }

  /** A client of the Connect protocol, on the HTTP door. */
  client<Service extends DescService>(service: Service, bearer?: string): Client<Service> {
    return createClient(service, this.transport("connect", bearer));
  }

  /** A client of the gRPC protocol, on the native door. */
  nativeClient<Service extends DescService>(service: Service, bearer?: string): Client<Service> {
    return createClient(service, this.transport("native", bearer));
  }

  transport(door: "connect" | "native", bearer?: string): Transport {
    const interceptors = bearer === undefined ? [] : [authorize(bearer)];
    return door === "connect"
      ? createConnectTransport({ httpVersion: "1.1", baseUrl: this.httpUrl, interceptors })
      : createGrpcTransport({ baseUrl: this.grpcUrl, interceptors });
  }

  /** The clients of one account. */
  of(account: TestAccount) {
    return {
      leases: this.client(LeaseService, account.apiKey),
      handoffs: this.client(HandoffService, account.apiKey),
      account: this.client(AccountService, account.apiKey),
    };
  }

  /** Does all the sweeper's work that is due, once. */
  async sweep(): Promise<Record<string, number>> {
    return await buildSweeper(this.core).sweepOnce();
  }
}

async function startServer(config: Config, core: Core): Promise<LeaseholdServer> {
  const api = await buildApi(core, { publicUrl: "http://leasehold.test", adminToken });
  const server = await LeaseholdServer.start({
    ...config,
    ...api,
    httpPort: 0,
    grpcPort: 0,
    windowBytes: 8 * 1024 * 1024,
    logger: core.logger,
    registry: new Registry(),
    readiness: async () => ({ ready: true, detail: {} }),
  });
  server.setServing(true);
  return server;
}

/** Sends a bearer with every call. */
export function authorize(bearer: string): Interceptor {
  return (next) => (request) => {
    request.header.set("authorization", `Bearer ${bearer}`);
    return next(request);
  };
}
