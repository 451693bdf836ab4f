/** Owns where a server listens: the addresses to call it at, and what to say when one is not to be had. */
import { createServer } from "node:net";
import type { Config } from "../config/settings.ts";
import { hasCode } from "../database/embedded/has-code.ts";
import type { ServerAddresses } from "../server/leasehold-server.ts";
import type { ServingAddresses } from "./parent-link.ts";
import { StartError } from "./start-error.ts";

/** The addresses that a server on this machine is called at. */
export function servingAddresses(config: Config, { http, grpc, operator }: ServerAddresses): ServingAddresses {
  const httpUrl = addressOf(config, http.port);
  return {
    httpUrl,
    grpcUrl: addressOf(config, grpc.port),
    adminUrl: operator === undefined ? httpUrl : addressOf(config, operator.port),
    ports: { http: http.port, grpc: grpc.port, operator: operator?.port },
  };
}

/** The address of a port. A host that means every address is called at the loopback one. */
export function addressOf(config: Config, port: number): string {
  const scheme = config.tlsCertPath === undefined ? "http" : "https";
  const host = { "0.0.0.0": "127.0.0.1", "::": "::1" }[config.host] ?? config.host;
  return `${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/**
 * The port to listen on. One that is left to the system has to be known before the server listens, since claim
 * addresses carry it: it is one that was free just now, which the server may still lose to another program.
 */
export async function choosePort(host: string, port: number): Promise<number> {
  if (port !== 0) {
    return port;
  }
  const server = createServer();
  const { promise: listening, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(0, host, resolve);
  await listening;
  const address = server.address();
  const { promise: closed, resolve: close } = Promise.withResolvers<void>();
  server.close(() => close());
  await closed;
  if (address === null || typeof address === "string") {
    throw new Error("a TCP server has no port");
  }
  return address.port;
}

/** Says in one line why a port or host is not to be had; gives back any other error. */
export function explainListening(config: Config, error: unknown): unknown {
  if (hasCode(error, "EADDRINUSE")) {
    const port = portOf(error);
    const variable =
      port === config.grpcPort
        ? "LEASEHOLD_GRPC_PORT"
        : port === config.operatorPort
          ? "LEASEHOLD_OPERATOR_PORT"
          : "LEASEHOLD_HTTP_PORT";
    return new StartError(
      `Port ${port} of ${config.host} is taken: stop the program that has it, or set another ${variable}`,
      {
        cause: error,
      },
    );
  }
  if (hasCode(error, "EACCES")) {
    return new StartError(`Port ${portOf(error)} needs rights that this user lacks: set one above 1023`, {
      cause: error,
    });
  }
  if (hasCode(error, "EADDRNOTAVAIL", "ENOTFOUND", "EAI_AGAIN")) {
    return new StartError(`LEASEHOLD_HOST ${config.host} is no address of this machine: set another`, { cause: error });
  }
  return error;
}

function portOf(error: unknown): number | undefined {
  return error instanceof Error && "port" in error && typeof error.port === "number" ? error.port : undefined;
}
