/** Owns the process that serves the API: started over a migrated database, drained when it is asked to stop. */
import { readFile } from "node:fs/promises";
import type { Logger } from "pino";
import { collectDefaultMetrics, Registry } from "prom-client";
import { buildApi, openCore } from "../app.ts";
import { loadConfig } from "../config/load-config.ts";
import type { Config } from "../config/settings.ts";
import type { Database } from "../database/database.ts";
import { hasCode } from "../database/embedded/has-code.ts";
import { LeaseholdServer } from "../server/leasehold-server.ts";
import { adminTokenOf } from "./admin-token.ts";
import { addressOf, choosePort, explainListening, servingAddresses } from "./listening.ts";
import { openMigratedDatabase } from "./open-database.ts";
import { hasParent, type ServingAddresses, tellParent } from "./parent-link.ts";
import { processLogger } from "./process-logger.ts";
import { runProcess } from "./run-process.ts";
import { addServiceFigures, readinessOf } from "./service-figures.ts";
import { listenForStop, type StopRequest } from "./stop-request.ts";

/** How long calls under way have to end when the server stops, in milliseconds. */
const drainGraceMs = 25_000;
/** HTTP/2 windows: with Node's own of 64 KiB a stream moves half as fast. */
const windowBytes = 8 * 1024 * 1024;
/** How often a port that was free is looked for again after another program was faster. */
const mostPortChoices = 3;

/** Serves until it is asked to stop. */
export async function serve(environment: NodeJS.ProcessEnv): Promise<void> {
  await runProcess(async () => {
    const config = loadConfig(environment);
    const logger = processLogger("serve", config.logLevel);
    const stop = listenForStop();
    const database = await openMigratedDatabase(config);
    try {
      const server = await startServer(config, database, logger);
      await announce(servingAddresses(config, server.addresses), logger);
      await serveUntil(stop, server, logger);
    } finally {
      await database.close();
    }
  });
}

async function startServer(config: Config, database: Database, logger: Logger): Promise<LeaseholdServer> {
  const core = await openCore(config, database, logger);
  const adminToken = await adminTokenOf(config);
  const tls = await readTls(config);
  for (let choice = 1; ; choice++) {
    const httpPort = await choosePort(config.host, config.httpPort).catch((error: unknown) => {
      throw explainListening(config, error);
    });
    const api = await buildApi(core, { publicUrl: config.publicUrl ?? addressOf(config, httpPort), adminToken });
    const registry = new Registry();
    collectDefaultMetrics({ register: registry });
    addServiceFigures(registry, core, config.operatorPort !== undefined);
    try {
      const readiness = () => readinessOf(core);
      const server = await LeaseholdServer.start({
        ...config,
        ...api,
        httpPort,
        tls,
        windowBytes,
        logger,
        registry,
        readiness,
      });
      server.setServing(true);
      return server;
    } catch (error) {
      if (!hasCode(error, "EADDRINUSE") || config.httpPort !== 0 || choice === mostPortChoices) {
        throw explainListening(config, error);
      }
    }
  }
}

async function announce(addresses: ServingAddresses, logger: Logger): Promise<void> {
  logger.info({ http: addresses.httpUrl, grpc: addresses.grpcUrl }, "serving");
  if (hasParent) {
    await tellParent({ kind: "ready", addresses });
  } else {
    process.stdout.write(`HTTP  ${addresses.httpUrl}\ngRPC  ${addresses.grpcUrl}\n`);
  }
}

async function serveUntil(stop: StopRequest, server: LeaseholdServer, logger: Logger): Promise<void> {
  const reason = await stop.requested;
  logger.info({ reason }, "draining");
  void stop.insisted.then(() => {
    // What is acknowledged is on disk, and what is not can be resumed: nothing is lost by going now.
    logger.warn("stopping at once");
    process.exit(1);
  });
  await server.drain(drainGraceMs);
  logger.info("stopped");
}

async function readTls({ tlsCertPath, tlsKeyPath }: Config): Promise<{ cert: Buffer; key: Buffer } | undefined> {
  return tlsCertPath === undefined || tlsKeyPath === undefined
    ? undefined
    : { cert: await readFile(tlsCertPath), key: await readFile(tlsKeyPath) };
}
