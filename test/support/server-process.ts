/** A server in a process of its own, as `leasehold serve` runs it, for tests that kill it. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import type { FromChild } from "../../src/processes/parent-link.ts";
import { adminToken, authorize } from "./test-leasehold.ts";

const program = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

/** What the process is started over: a migrated database and a data folder, of its own or another server's. */
export interface ServerProcessOptions {
  readonly databaseUrl: string;
  readonly dataDir: string;
  readonly settings?: Readonly<Record<string, string>>;
}

/** A running process, which is killed when it is disposed of. */
export class ServerProcess implements AsyncDisposable {
  readonly httpUrl: string;
  readonly grpcUrl: string;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, addresses: { readonly httpUrl: string; readonly grpcUrl: string }) {
    this.#child = child;
    this.httpUrl = addresses.httpUrl;
    this.grpcUrl = addresses.grpcUrl;
  }

  /** Starts one. Resolves when it serves. */
  static async start(options: ServerProcessOptions): Promise<ServerProcess> {
    const child = fork(program, ["serve"], {
      execArgv: [],
      stdio: ["ignore", "ignore", "inherit", "ipc"],
      env: {
        PATH: process.env.PATH,
        DATABASE_URL: options.databaseUrl,
        LEASEHOLD_DATA_DIR: options.dataDir,
        LEASEHOLD_HTTP_PORT: "0",
        LEASEHOLD_GRPC_PORT: "0",
        LEASEHOLD_ADMIN_TOKEN: adminToken,
        LEASEHOLD_LOG_LEVEL: "fatal",
        ...options.settings,
      },
    });
    const [message] = (await Promise.race([once(child, "message"), endedEarly(child)])) as [FromChild];
    if (message.kind !== "ready" || message.addresses === undefined) {
      throw new Error(`the server did not start: ${JSON.stringify(message)}`);
    }
    return new ServerProcess(child, message.addresses);
  }

  /** A client of the Connect protocol, on the HTTP door. */
  client<Service extends DescService>(service: Service, bearer?: string): Client<Service> {
    const interceptors = bearer === undefined ? [] : [authorize(bearer)];
    return createClient(service, createConnectTransport({ httpVersion: "1.1", baseUrl: this.httpUrl, interceptors }));
  }

  /** A client of the gRPC protocol, on the native door. */
  nativeClient<Service extends DescService>(service: Service, bearer?: string): Client<Service> {
    const interceptors = bearer === undefined ? [] : [authorize(bearer)];
    return createClient(service, createGrpcTransport({ baseUrl: this.grpcUrl, interceptors }));
  }

  get pid(): number {
    return this.#child.pid ?? Number.NaN;
  }

  /** Ends it as kill -9 does. Resolves when it is gone. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child.exitCode === null && child.signalCode === null) {
      child.kill("SIGKILL");
      await once(child, "exit");
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

async function endedEarly(child: ChildProcess): Promise<never> {
  const [code] = await once(child, "exit");
  throw new Error(`the server ended with ${code} before it served`);
}
