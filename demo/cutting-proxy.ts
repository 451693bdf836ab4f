/** A TCP proxy that breaks connections on purpose: the demo's bad network. */
import { connect, createServer, type Server, type Socket } from "node:net";

/** When to break: once, when this much has gone in this direction over one connection. */
export interface Cut {
  readonly direction: "up" | "down";
  readonly afterBytes: number;
}

/** A proxy on a free port of this machine. */
export class CuttingProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #cut: Cut | undefined;

  private constructor(targetPort: number) {
    this.#server = createServer((client) => this.#join(client, connect(targetPort, "127.0.0.1")));
  }

  static async open(targetPort: number): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(targetPort);
    const { promise, resolve } = Promise.withResolvers<void>();
    proxy.#server.listen(0, "127.0.0.1", resolve);
    await promise;
    return proxy;
  }

  get url(): string {
    const address = this.#server.address();
    if (address === null || typeof address === "string") {
      throw new Error("the proxy does not listen");
    }
    return `http://127.0.0.1:${address.port}`;
  }

  /** Breaks the next connection over which this much goes. */
  cutOnce(cut: Cut): void {
    this.#cut = cut;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) {
      socket.destroy();
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    await promise;
  }

  #join(client: Socket, server: Socket): void {
    const end = () => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.on("error", end).on("close", () => {
        this.#sockets.delete(socket);
        end();
      });
    }
    this.#count(client, "up", end);
    this.#count(server, "down", end);
    client.pipe(server);
    server.pipe(client);
  }

  #count(source: Socket, direction: Cut["direction"], end: () => void): void {
    let bytes = 0;
    source.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (this.#cut?.direction === direction && bytes >= this.#cut.afterBytes) {
        this.#cut = undefined;
        end();
      }
    });
  }
}
