/** Owns what a bench runs on: Postgres, the servers and the load, each a process, all in one folder that goes at the end. */
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/database/embedded/start-embedded-postgres.ts";
import type { EchoCommands } from "../echo-server.ts";
import type { LoadAddress, LoadCommands, LoadTask } from "../load.ts";
import type { PgBossOperation } from "../pg-boss-peer.ts";
import type { PostgresSaverOperation } from "../postgres-saver-peer.ts";
import type { RawCommands } from "../raw-server.ts";
import type { RedisOperation } from "../redis-peer.ts";
import type { ServerCommands } from "../server.ts";
import { BenchProcess, type Commands } from "./bench-process.ts";
import type { DropStream } from "./drop-to-receiver.ts";
import { GrpcConnection } from "./grpc-connection.ts";
import type { CallsResult, CallTask } from "./make-calls.ts";
import type { Measure } from "./measure.ts";
import { type MeasuredProcess, Meter } from "./meter.ts";
import type { PeerCommands } from "./serve-peer.ts";

/** A server that can be put under load. */
export interface Server {
  readonly process: MeasuredProcess;
  readonly grpcPort: number;
  readonly httpPort: number;
  /** The key of the one account that all load of this server belongs to. */
  readonly bearer: string;
}

/** The product, with a database of its own. */
export interface LeaseholdServer extends Server {
  readonly databaseUrl: string;
  /** What its process was given. */
  readonly environment: Readonly<Record<string, string>>;
}

/** The server that answers without doing anything. */
export interface EchoServer extends Server {
  readonly process: BenchProcess<EchoCommands>;
}

/** A library over a database of its own, in a process that calls it. */
export interface Peer<Operation extends string> {
  readonly process: BenchProcess<PeerCommands<Operation>>;
}

/** What a run is of: a task of an operation, without what is usual. */
type RunOf<Operation extends string> = Pick<CallTask<Operation>, "operation" | "stop"> & Partial<CallTask<Operation>>;

/** What a run by the load is of. */
export type Run = RunOf<LoadTask["operation"]>;

/** A measure, and what the calls gave. */
export interface Measured {
  readonly measure: Measure;
  readonly outputs: readonly string[];
}

/** How many callers there are unless a run says otherwise. */
export const manyCallers = 64;

/** Starts what a scenario asks for, once. */
export class Stage {
  readonly folder: string;
  readonly #postgres: EmbeddedPostgres;
  readonly #load = new BenchProcess<LoadCommands>("load");
  readonly #meter: Meter;
  readonly #processes: BenchProcess<Record<never, never>>[] = [this.#load];
  readonly #leaseholds = new Map<string, Promise<LeaseholdServer>>();
  #echo: Promise<EchoServer> | undefined;
  #raw: Promise<Server> | undefined;
  #sibling: Promise<Server> | undefined;
  #pgBoss: Promise<Peer<PgBossOperation>> | undefined;
  #postgresSaver: Promise<Peer<PostgresSaverOperation>> | undefined;
  #redis: Promise<Peer<RedisOperation> | undefined> | undefined;

  private constructor(folder: string, postgres: EmbeddedPostgres, profileFolder: string | undefined) {
    this.folder = folder;
    this.#postgres = postgres;
    this.#meter = new Meter(postgres.pid, profileFolder);
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

  /** Another process of a server's installation: with its database, folder and account. */
  siblingOf(server: LeaseholdServer): Promise<Server> {
    this.#sibling ??= this.#startSibling(server);
    return this.#sibling;
  }

  /** A sweeper of a server's installation, another with each call. */
  sweeperOf({ environment }: LeaseholdServer): MeasuredProcess {
    return this.#start<Record<never, never>>("sweeper", environment);
  }

  pgBoss(): Promise<Peer<PgBossOperation>> {
    this.#pgBoss ??= this.#startPeer("pg-boss-peer", "pg_boss");
    return this.#pgBoss;
  }

  postgresSaver(): Promise<Peer<PostgresSaverOperation>> {
    this.#postgresSaver ??= this.#startPeer("postgres-saver-peer", "postgres_saver");
    return this.#postgresSaver;
  }

  /** Undefined if the machine has no redis-server. */
  redis(): Promise<Peer<RedisOperation> | undefined> {
    this.#redis ??= this.#startRedis();
    return this.#redis;
  }

  /** Makes calls that are not measured, and gives their outputs. */
  async call(server: Server, run: Run): Promise<readonly string[]> {
    return (await this.#load.ask("run", taskOf(server, run))).outputs;
  }

  /** Makes calls and measures them. `unitsPerCall`: what a call moves, in the unit of its figure. */
  async measure(server: Server, name: string, run: Run, unitsPerCall = 1): Promise<Measured> {
    const work = () => this.#load.ask("run", taskOf(server, run));
    const { measure, result } = await this.#meter.measure([server.process], name, unitsPerCall, work);
    return { measure, outputs: result.outputs };
  }

  /** Lets a peer make calls that are not measured. */
  async callPeer<Operation extends string>(peer: Peer<Operation>, run: RunOf<Operation>): Promise<void> {
    await peer.process.ask("run", { ...usualRun, ...run });
  }

  /** Lets a peer make calls, and measures them. */
  async measurePeer<Operation extends string>(
    peer: Peer<Operation>,
    name: string,
    run: RunOf<Operation>,
  ): Promise<Measured> {
    const work = () => peer.process.ask("run", { ...usualRun, ...run });
    const { measure, result } = await this.#meter.measure([peer.process], name, 1, work);
    return { measure: { ...measure, cores: { ...measure.cores, load: undefined } }, outputs: result.outputs };
  }

  /** Drops to one server for a receiver that waits at another, and measures how long each message took. */
  async measureWake(
    { dropping, receiving }: { readonly dropping: Server; readonly receiving: Server },
    name: string,
    drops: DropStream,
  ): Promise<Measure> {
    const task = { ...drops, dropAt: addressOf(dropping), receiveAt: addressOf(receiving) };
    return await this.measureWork([dropping.process, receiving.process], name, () => this.#load.ask("wake", task));
  }

  /** Measures what some processes do, however it comes that they do it. */
  async measureWork(
    processes: readonly MeasuredProcess[],
    name: string,
    work: () => Promise<CallsResult>,
  ): Promise<Measure> {
    return (await this.#meter.measure(processes, name, 1, work)).measure;
  }

  /** Ends every process, Postgres last, and removes the folder. */
  async stop(): Promise<void> {
    await Promise.all(this.#processes.map((process) => process.stop()));
    await this.#postgres.stop();
    await rm(this.folder, { recursive: true, force: true });
  }

  async #startLeasehold(name: string): Promise<LeaseholdServer> {
    const databaseUrl = await this.#createDatabase(name);
    const adminToken = randomBytes(24).toString("hex");
    const dataDir = join(this.folder, name);
    await mkdir(dataDir);
    const environment = {
      ...serverSettings(databaseUrl),
      LEASEHOLD_DATA_DIR: dataDir,
      LEASEHOLD_ADMIN_TOKEN: adminToken,
    };
    const process = this.#start<ServerCommands>("server", environment);
    const ports = await process.ask("ports", null);
    return { process, ...ports, databaseUrl, environment, bearer: await makeAccount(ports.grpcPort, adminToken) };
  }

  async #startSibling({ environment, bearer }: LeaseholdServer): Promise<Server> {
    const process = this.#start<ServerCommands>("server", environment);
    return { process, ...(await process.ask("ports", null)), bearer };
  }

  async #startPeer<Operation extends string>(program: string, databaseName: string): Promise<Peer<Operation>> {
    const databaseUrl = await this.#createDatabase(databaseName);
    return { process: this.#start<PeerCommands<Operation>>(program, { DATABASE_URL: databaseUrl }) };
  }

  async #startRedis(): Promise<Peer<RedisOperation> | undefined> {
    if (spawnSync("redis-server", ["--version"]).status !== 0) {
      return undefined;
    }
    const folder = join(this.folder, "redis");
    await mkdir(folder);
    return { process: this.#start<PeerCommands<RedisOperation>>("redis-peer", { REDIS_DIR: folder }) };
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

  #start<Own extends Commands>(program: string, environment: Readonly<Record<string, string>>): BenchProcess<Own> {
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

/** Of a run that does not say otherwise. */
const usualRun = { callers: manyCallers, inputs: [] };

function taskOf(server: Server, run: Run): LoadTask {
  return { ...usualRun, ...run, ...addressOf(server) };
}

function addressOf({ grpcPort, httpPort, bearer }: Server): LoadAddress {
  return { grpcPort, httpPort, bearer };
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
