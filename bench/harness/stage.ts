/** Owns what a bench runs on: Postgres, the servers and the load, each a process, all in one folder that goes at the end. */
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/database/embedded/start-embedded-postgres.ts";
import type { EchoCommands } from "../echo-server.ts";
import type { LoadCommands, LoadTask } from "../load.ts";
import type { RawCommands } from "../raw-server.ts";
import type { ServerCommands } from "../server.ts";
import { BenchProcess } from "./bench-process.ts";
import { GrpcConnection } from "./grpc-connection.ts";
import type { Measure } from "./measure.ts";
import { postgresCpuMs } from "./postgres-cpu.ts";

/** A server that can be put under load. */
export interface Server {
  readonly process: Pick<BenchProcess<Record<never, never>>, "ask">;
  readonly grpcPort: number;
  readonly httpPort: number;
  /** The key of the one account that all load of this server belongs to. */
  readonly bearer: string;
}

/** The product, with a database of its own. */
export interface LeaseholdServer extends Server {
  readonly databaseUrl: string;
}

/** The server that answers without doing anything. */
export interface EchoServer extends Server {
  readonly process: BenchProcess<EchoCommands>;
}

/** What a run is of: the load's task without its target. */
export type Run = Pick<LoadTask, "operation" | "stop"> & Partial<Pick<LoadTask, "callers" | "inputs">>;

/** How many callers there are unless a run says otherwise. */
export const manyCallers = 64;

/** Starts what a scenario asks for, once. */
export class Stage {
  readonly folder: string;
  readonly #postgres: EmbeddedPostgres;
  readonly #load = new BenchProcess<LoadCommands>("load");
  readonly #profileFolder: string | undefined;
  readonly #processes: BenchProcess<Record<never, never>>[] = [this.#load];
  readonly #leaseholds = new Map<string, Promise<LeaseholdServer>>();
  #echo: Promise<EchoServer> | undefined;
  #raw: Promise<Server> | undefined;

  private constructor(folder: string, postgres: EmbeddedPostgres, profileFolder: string | undefined) {
    this.folder = folder;
    this.#postgres = postgres;
    this.#profileFolder = profileFolder;
  }

  /** With a profileFolder, every measured run leaves a CPU profile of its server there. */
  static async start(options: { readonly profileFolder: string | undefined }): Promise<Stage> {
    const folder = await mkdtemp(join(tmpdir(), "leasehold-bench-"));
    try {
      const postgres = await startEmbeddedPostgres({
        dataDir: folder,
        log: (message) => console.error(`postgres: ${message}`),
      });
      return new Stage(folder, postgres, options.profileFolder);
    } catch (error) {
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** The address of the database that came with Postgres. */
  get postgresUrl(): string {
    return this.#postgres.url;
  }

  /** The product over a database of this name, with one account that can pay for anything. */
  leasehold(name: string): Promise<LeaseholdServer> {
    const starting = this.#leaseholds.get(name) ?? this.#startLeasehold(name);
    this.#leaseholds.set(name, starting);
    return starting;
  }

  /** The echo of a server: it knows the same credentials. */
  echoOf(server: LeaseholdServer): Promise<EchoServer> {
    this.#echo ??= this.#startEcho(server);
    return this.#echo;
  }

  raw(): Promise<Server> {
    this.#raw ??= this.#startRaw();
    return this.#raw;
  }

  /** Makes calls that are not measured, and gives their outputs. */
  async call(server: Server, run: Run): Promise<readonly string[]> {
    return (await this.#load.ask("run", taskOf(server, run))).outputs;
  }

  /** Makes calls and measures them. `unitsPerCall`: what a call moves, in the unit of its figure. */
  async measure(
    server: Server,
    name: string,
    run: Run,
    unitsPerCall = 1,
  ): Promise<{ readonly measure: Measure; readonly outputs: readonly string[] }> {
    if (this.#profileFolder !== undefined) {
      await server.process.ask("startProfile", null);
    }
    const before = await this.#busyMs(server);
    const result = await this.#load.ask("run", taskOf(server, run));
    const after = await this.#busyMs(server);
    if (this.#profileFolder !== undefined) {
      await server.process.ask("stopProfile", join(this.#profileFolder, `${name.replaceAll(/\W+/g, "-")}.cpuprofile`));
    }
    const measure = {
      rate: (result.calls * unitsPerCall * 1000) / result.elapsedMs,
      p50Ms: result.p50Ms,
      p99Ms: result.p99Ms,
      cores: {
        load: result.cpuMs / result.elapsedMs,
        server: (after.server - before.server) / result.elapsedMs,
        database:
          after.database === undefined || before.database === undefined
            ? undefined
            : (after.database - before.database) / result.elapsedMs,
      },
    };
    return { measure, outputs: result.outputs };
  }

  /** Ends every process, Postgres last, and removes the folder. */
  async stop(): Promise<void> {
    await Promise.all(this.#processes.map((process) => process.stop()));
    await this.#postgres.stop();
    await rm(this.folder, { recursive: true, force: true });
  }

  async #busyMs(server: Server): Promise<{ server: number; database: number | undefined }> {
    const database = await postgresCpuMs(this.#postgres.pid);
    return { server: await server.process.ask("cpuMs", null), database };
  }

  async #startLeasehold(name: string): Promise<LeaseholdServer> {
    const databaseUrl = await this.#createDatabase(name);
    const adminToken = randomBytes(24).toString("hex");
    const dataDir = join(this.folder, name);
    await mkdir(dataDir);
    const process = this.#start<ServerCommands>("server", {
      ...serverSettings(databaseUrl),
      LEASEHOLD_DATA_DIR: dataDir,
      LEASEHOLD_ADMIN_TOKEN: adminToken,
    });
    const ports = await process.ask("ports", null);
    return { process, ...ports, databaseUrl, bearer: await makeAccount(ports.grpcPort, adminToken) };
  }

  async #startEcho({ databaseUrl, bearer }: LeaseholdServer): Promise<EchoServer> {
    const process = this.#start<EchoCommands>("echo-server", serverSettings(databaseUrl));
    return { process, ...(await process.ask("ports", null)), bearer };
  }

  async #startRaw(): Promise<Server> {
    const folder = join(this.folder, "raw");
    await mkdir(folder);
    const process = this.#start<RawCommands>("raw-server", { RAW_DIR: folder });
    return { process, ...(await process.ask("ports", null)), grpcPort: 0, bearer: "none" };
  }

  #start<Own extends ServerCommands | EchoCommands | RawCommands>(
    program: string,
    environment: Record<string, string>,
  ): BenchProcess<Own> {
    const process = new BenchProcess<Own>(program, environment);
    this.#processes.push(process);
    return process;
  }

  async #createDatabase(name: string): Promise<string> {
    const client = new pg.Client({ connectionString: this.#postgres.url });
    await client.connect();
    await client.query(`create database bench_${name}`);
    await client.end();
    const url = new URL(this.#postgres.url);
    url.pathname = `/bench_${name}`;
    return url.href;
  }
}

function taskOf(server: Server, run: Run): LoadTask {
  const { grpcPort, httpPort, bearer } = server;
  return { callers: manyCallers, inputs: [], ...run, grpcPort, httpPort, bearer };
}

function serverSettings(databaseUrl: string): Record<string, string> {
  return {
    DATABASE_URL: databaseUrl,
    LEASEHOLD_GRPC_PORT: "0",
    LEASEHOLD_HTTP_PORT: "0",
    LEASEHOLD_LOG_LEVEL: "warn",
  };
}

async function makeAccount(grpcPort: number, adminToken: string): Promise<string> {
  const grpc = new GrpcConnection(grpcPort, adminToken);
  const { account, apiKey } = await grpc.unary(AdminService.method.createAccount, { name: "bench" });
  const accountId = account?.accountId ?? "";
  await grpc.unary(AdminService.method.creditAccount, { accountId, amountMicros: 10n ** 15n });
  grpc.close();
  return apiKey;
}
