/** The demo's own server: `leasehold dev` over a temporary folder, with a minimum duration of two seconds. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const startLimitMs = 60_000;

/** `leasehold dev` over a folder of its own, on free ports. */
export class DemoServer {
  readonly httpPort: number;
  readonly httpUrl: string;
  readonly apiKey: string;
  readonly #process: ChildProcess;
  readonly #dataDir: string;

  private constructor(process: ChildProcess, dataDir: string, httpPort: number, apiKey: string) {
    this.#process = process;
    this.#dataDir = dataDir;
    this.httpPort = httpPort;
    this.httpUrl = `http://127.0.0.1:${httpPort}`;
    this.apiKey = apiKey;
  }

  static async start(): Promise<DemoServer> {
    const dataDir = await mkdtemp(join(tmpdir(), "leasehold-demo-data-"));
    const [httpPort, grpcPort] = [await freePort(), await freePort()];
    const child = spawn(process.execPath, [main, "dev"], {
      stdio: ["ignore", "ignore", "inherit"],
      env: {
        ...process.env,
        LEASEHOLD_DATA_DIR: dataDir,
        LEASEHOLD_HTTP_PORT: `${httpPort}`,
        LEASEHOLD_GRPC_PORT: `${grpcPort}`,
        LEASEHOLD_MIN_DURATION_SECONDS: "2",
        LEASEHOLD_LOG_LEVEL: "error",
        DATABASE_URL: "",
      },
    });
    const keyFile = join(dataDir, "demo-api-key");
    const deadline = performance.now() + startLimitMs;
    while (!(existsSync(keyFile) && (await isReady(httpPort)))) {
      if (child.exitCode !== null || performance.now() > deadline) {
        child.kill("SIGINT");
        throw new Error("the demo's server did not start");
      }
      await delay(100);
    }
    return new DemoServer(child, dataDir, httpPort, readFileSync(keyFile, "utf8").trim());
  }

  getContent(leaseId: string): Promise<Response> {
    return fetch(`${this.httpUrl}/api/leases/${leaseId}/content`, {
      headers: { authorization: `Bearer ${this.apiKey}` },
    });
  }

  /** Stops it, and removes all that it kept. */
  async stop(): Promise<void> {
    if (this.#process.exitCode === null) {
      this.#process.kill("SIGINT");
      await once(this.#process, "exit");
    }
    await rm(this.#dataDir, { recursive: true, force: true });
  }
}

async function isReady(port: number): Promise<boolean> {
  try {
    return (await fetch(`http://127.0.0.1:${port}/readyz`)).ok;
  } catch (error) {
    if (error instanceof TypeError) {
      return false;
    }
    throw error;
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") {
    throw new Error("no free port");
  }
  return address.port;
}
