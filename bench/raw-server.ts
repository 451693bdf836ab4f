/** What transfers are compared with: node:http, that writes a body to a file and syncs it, and sends a file back. */

import { once } from "node:events";
import { createReadStream, createWriteStream } from "node:fs";
import { rm, stat } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { type Commands, serveCommands } from "./harness/bench-process.ts";

const folder = process.env.RAW_DIR ?? "";

const server = createServer((request, response) => {
  serve(request, response).catch((error: unknown) => {
    console.error(error);
    response.destroy();
  });
});
server.listen({ host: "127.0.0.1", port: 0 });
await once(server, "listening");

const commands = {
  ports: (_: null) => ({ httpPort: (server.address() as AddressInfo).port }),
} satisfies Commands;

export type RawCommands = typeof commands;

serveCommands(commands, async () => {
  server.closeAllConnections();
  server.close();
});

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = join(folder, request.url?.slice(1) ?? "");
  switch (request.method) {
    case "PUT":
      // flush: the file is synced before it is closed.
      await pipeline(request, createWriteStream(path, { flush: true }));
      break;
    case "GET": {
      response.writeHead(200, { "content-length": (await stat(path)).size });
      await pipeline(createReadStream(path), response);
      return;
    }
    case "DELETE":
      await rm(path);
      break;
    default:
      response.statusCode = 405;
  }
  response.end();
}
