/** What both doors have in common: their limits, and how they start to listen. */
import type { AddressInfo, Server } from "node:net";
import type { Logger } from "pino";

/** Limits and surroundings of a door. */
export interface DoorOptions {
  readonly host: string;
  /** PEM. Plaintext if undefined. */
  readonly tls?: { readonly cert: string | Buffer; readonly key: string | Buffer } | undefined;
  /** Of one message, after decompression, in bytes. */
  readonly maxMessageBytes: number;
  /** Of a request's headers together, in bytes. */
  readonly maxHeaderBytes: number;
  readonly maxStreamsPerConnection: number;
  /** HTTP/2 flow-control windows, in bytes: of each stream and of each connection. */
  readonly windowBytes: number;
  readonly logger: Logger;
}

/** Where a door listens. */
export interface ListeningAddress {
  readonly host: string;
  readonly port: number;
}

/** How long an error may take to reach its caller before its stream is destroyed, in milliseconds. */
export const cutGraceMs = 1000;

/** Starts to listen. @throws if the address is not to be had. */
export async function listen(server: Server, host: string, port: number): Promise<ListeningAddress> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen({ host, port }, resolve);
  await promise;
  server.off("error", reject);
  return { host, port: (server.address() as AddressInfo).port };
}
