/** Owns where the embedded Postgres listens and the address that leads there. */
import { createServer } from "node:net";
import { join } from "node:path";
import type { ClusterFolder } from "./cluster-folder.ts";

/** A Unix socket in `sockets`, or a port of 127.0.0.1. */
export type ListenPlace = { readonly sockets: string; readonly port: number } | { readonly port: number };

/** The role that owns everything. */
export const databaseRole = "leasehold";
/** The database that the server uses. */
export const databaseName = "leasehold";

/** macOS allows 103 bytes and Linux 107. */
const longestSocketPathBytes = 103;
/** Only part of the socket's name. */
const socketPort = 50_432;

/**
 * Prefers a Unix socket: only this user and root reach it, and two instances cannot meet on it. In a folder whose path
 * is too long for one, it is a port that was free just now.
 */
export async function chooseListenPlace(folder: ClusterFolder): Promise<ListenPlace> {
  return Buffer.byteLength(socketPath(folder.sockets, socketPort)) <= longestSocketPathBytes
    ? { sockets: folder.sockets, port: socketPort }
    : { port: await findFreePort() };
}

/** The address of a database there. libpq, node-postgres and MikroORM all read a path, percent-encoded, as the host. */
export function databaseUrl(place: ListenPlace, password: string, database = databaseName): string {
  const host = "sockets" in place ? encodeURIComponent(place.sockets) : "127.0.0.1";
  return `postgres://${databaseRole}:${encodeURIComponent(password)}@${host}:${place.port}/${database}`;
}

/** The socket's file. */
export function socketPath(sockets: string, port: number): string {
  return join(sockets, `.s.PGSQL.${port}`);
}

async function findFreePort(): Promise<number> {
  const server = createServer();
  const { promise: listening, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(0, "127.0.0.1", resolve);
  await listening;
  const address = server.address();
  const { promise: closed, resolve: close } = Promise.withResolvers<void>();
  server.close(() => close());
  await closed;
  if (address === null || typeof address === "string") {
    throw new Error("A TCP server has no port");
  }
  return address.port;
}
