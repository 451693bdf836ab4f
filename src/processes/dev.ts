/** Owns `leasehold dev`: a whole Leasehold on one machine, each part in a process of its own, started and stopped in order. */
import { readFile } from "node:fs/promises";
import { loadConfig } from "../config/load-config.ts";
import type { Config } from "../config/settings.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../database/embedded/start-embedded-postgres.ts";
import { adminTokenOf } from "./admin-token.ts";
import { ensureDemoAccount } from "./demo-account.ts";
import { ManagedProcess } from "./managed-process.ts";
import { migrateDatabase } from "./migrate.ts";
import type { ServingAddresses } from "./parent-link.ts";
import { runProcess } from "./run-process.ts";
import { StartError } from "./start-error.ts";
import { listenForStop } from "./stop-request.ts";
import { welcome } from "./welcome.ts";

/** Runs everything until it is asked to stop, or a part of it cannot be kept running. */
export async function dev(environment: NodeJS.ProcessEnv): Promise<void> {
  await runProcess(async () => {
    const config = loadConfig(environment);
    const stop = listenForStop();
    const stack = new Stack(config, environment);
    let isStopping = false;
    void stop.requested.then(() => {
      isStopping = true;
    });
    void stop.insisted.then(() => stack.insist());
    try {
      await stack.start(() => isStopping);
      const lost = await Promise.race([stop.requested.then(() => undefined), stack.lost]);
      if (lost !== undefined) {
        throw new StartError(lost);
      }
      console.error("Stopping: the API drains, then the sweeper, then Postgres. Ctrl-C again does not wait for calls.");
    } finally {
      await stack.stop();
    }
  });
}

/** The parts, of which any may not be there yet. */
class Stack {
  readonly #config: Config;
  readonly #environment: NodeJS.ProcessEnv;
  readonly #lost = Promise.withResolvers<string>();
  #postgres: EmbeddedPostgres | undefined;
  #serve: ManagedProcess | undefined;
  #sweep: ManagedProcess | undefined;
  #addresses: ServingAddresses | undefined;

  constructor(config: Config, environment: NodeJS.ProcessEnv) {
    this.#config = config;
    this.#environment = environment;
  }

  /** Resolves with the reason, in one line, when a part cannot be kept running. */
  get lost(): Promise<string> {
    return this.#lost.promise;
  }

  /** Starts everything and says so. Returns early, with nothing more started, if it is to stop meanwhile. */
  async start(isStopping: () => boolean): Promise<void> {
    const databaseUrl = this.#config.databaseUrl ?? (await this.#startPostgres());
    if (isStopping()) {
      return;
    }
    await migrateDatabase({ ...this.#config, databaseUrl });
    if (isStopping()) {
      return;
    }
    const serve = this.#manage("serve", databaseUrl);
    const sweep = this.#manage("sweep", databaseUrl);
    this.#serve = serve;
    this.#sweep = sweep;
    const [ready] = await Promise.all([serve.start(), sweep.start()]);
    if (ready.addresses === undefined) {
      throw new StartError("leasehold serve did not say where it listens");
    }
    this.#addresses = ready.addresses;
    if (!isStopping()) {
      await this.#welcome(ready.addresses);
    }
  }

  /** Stops what runs, in order: whoever uses a part ends before it. */
  async stop(): Promise<void> {
    await this.#serve?.stop();
    await this.#sweep?.stop();
    await this.#postgres?.stop();
  }

  /** Makes a stop that is under way wait for nobody. */
  insist(): void {
    this.#serve?.insist();
    this.#sweep?.insist();
  }

  async #startPostgres(): Promise<string> {
    const postgres = await startEmbeddedPostgres({ dataDir: this.#config.dataDir, log: say });
    this.#postgres = postgres;
    void postgres.lost.then(this.#lost.resolve);
    return postgres.url;
  }

  #manage(command: "serve" | "sweep", databaseUrl: string): ManagedProcess {
    const managed = new ManagedProcess({
      command,
      environment: () => ({ ...this.#environment, ...this.#portsTaken(), DATABASE_URL: databaseUrl }),
      onStart: () => this.#release(),
      log: say,
    });
    void managed.lost.then(this.#lost.resolve);
    return managed;
  }

  /** Should this process be killed, its children end by themselves, and Postgres waits for them. */
  #release(): void {
    this.#postgres?.release([this.#serve?.pid, this.#sweep?.pid].filter((pid) => pid !== undefined));
  }

  /** A server that is started again listens where it did, also if it had chosen its ports. */
  #portsTaken(): Record<string, string> {
    if (this.#addresses === undefined) {
      return {};
    }
    const { http, grpc, operator } = this.#addresses.ports;
    return {
      LEASEHOLD_HTTP_PORT: `${http}`,
      LEASEHOLD_GRPC_PORT: `${grpc}`,
      ...(operator === undefined ? {} : { LEASEHOLD_OPERATOR_PORT: `${operator}` }),
    };
  }

  async #welcome(addresses: ServingAddresses): Promise<void> {
    const config = this.#config;
    const { dataDir, tlsCertPath } = config;
    const demo = await ensureDemoAccount({
      dataDir,
      ...addresses,
      adminToken: await adminTokenOf(config),
      // This server's own certificate, whatever name is in it and whoever has signed it.
      ...(tlsCertPath === undefined
        ? {}
        : {
            tls: {
              ca: await readFile(tlsCertPath),
              allowPartialTrustChain: true,
              checkServerIdentity: () => undefined,
            },
          }),
    });
    process.stdout.write(`${welcome({ config, addresses, demo })}\n`);
  }
}

function say(message: string): void {
  console.error(message);
}
