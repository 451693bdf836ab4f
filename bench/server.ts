/** The server that is measured: composed as the product composes it, over the database and folder it is told of. */
import { pino } from "pino";
import { collectDefaultMetrics, Registry } from "prom-client";
import { buildApi, openCore } from "../src/app.ts";
import { loadConfig } from "../src/config/load-config.ts";
import { Database } from "../src/database/database.ts";
import { LeaseholdServer } from "../src/server/leasehold-server.ts";
import { type Commands, serveCommands } from "./harness/bench-process.ts";

const config = loadConfig(process.env);
const logger = pino({ level: config.logLevel }, pino.destination(2));
const database = await Database.connect({
  url: config.databaseUrl ?? "",
  poolSize: config.databasePoolSize,
});
await database.migrate();
const registry = new Registry();
collectDefaultMetrics({ register: registry });
const core = await openCore(config, database, logger);
const api = await buildApi(core, { publicUrl: "http://127.0.0.1", adminToken: config.adminToken ?? "" });
const server = await LeaseholdServer.start({
  ...config,
  ...api,
  windowBytes: 8 * 1024 * 1024,
  logger,
  registry,
  readiness: async () => ({ ready: true, detail: {} }),
});
server.setServing(true);

const commands = {
  ports: (_: null) => ({ grpcPort: server.addresses.grpc.port, httpPort: server.addresses.http.port }),
} satisfies Commands;

export type ServerCommands = typeof commands;

serveCommands(commands, async () => {
  await server.close();
  await database.close();
});
