/** What one caller of a scratchpad is compared with: a Redis that syncs each write before it answers, and its client. */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { createClient, RESP_TYPES } from "redis";
import { entryBytes } from "./harness/scratchpad-operations.ts";
import { servePeer } from "./harness/serve-peer.ts";

const value = randomBytes(entryBytes);

const port = await freePort();
const server = spawn(
  "redis-server",
  [
    ["--bind", "127.0.0.1"],
    ["--port", `${port}`],
    ["--dir", process.env.REDIS_DIR ?? ""],
    ["--save", ""],
    ["--appendonly", "yes"],
    ["--appendfsync", "always"],
  ].flat(),
  { stdio: ["ignore", "pipe", "inherit"] },
);
await untilReady();
// A string would go as UTF-8, of half as many bytes again.
const client = createClient({ socket: { host: "127.0.0.1", port } }).withTypeMapping({
  [RESP_TYPES.BLOB_STRING]: Buffer,
});
client.on("error", (error) => console.error(error));
await client.connect();

const operations = {
  async set(key: string) {
    return `${await client.set(key, value)}`;
  },

  async get(key: string) {
    const found = await client.get(key);
    if (found?.length !== entryBytes) {
      throw new Error(`${found?.length} bytes came instead of ${entryBytes}`);
    }
    return key;
  },
};

export type RedisOperation = keyof typeof operations;

servePeer(operations, async () => {
  await client.close();
  const ended = once(server, "exit");
  server.kill();
  await ended;
});

/** @throws Error if it ends instead. */
async function untilReady(): Promise<void> {
  for await (const line of createInterface({ input: server.stdout })) {
    if (line.includes("Ready to accept connections")) {
      server.stdout.resume();
      return;
    }
  }
  throw new Error("redis-server ended before it was ready");
}

/** Redis cannot choose a port itself. */
async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  await once(probe, "close");
  return typeof address === "object" && address !== null ? address.port : 0;
}
