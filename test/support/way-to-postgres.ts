/** A port that leads to the tests' Postgres and can fail as a network does: closed, broken, or with answers lost. */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

/** One way to Postgres, for whoever is given its url. */
export class WayToPostgres {
  readonly #target: URL;
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((socket) => this.#join(socket));
  #port = 0;
  #isMuted = false;

  private constructor(url: string) {
    this.#target = new URL(url);
  }

  static async open(url: string): Promise<WayToPostgres> {
    const way = new WayToPostgres(url);
    await way.reopen();
    return way;
  }

  get url(): string {
    const address = new URL(this.#target);
    address.hostname = "127.0.0.1";
    address.port = `${this.#port}`;
    return address.href;
  }

  /** From now on what is sent arrives, and what is answered does not. */
  loseAnswers(): void {
    this.#isMuted = true;
  }

  /** Breaks every connection. New ones are whole again. */
  break(): void {
    this.#isMuted = false;
    for (const socket of this.#sockets) {
      socket.destroy();
    }
  }

  /** Breaks every connection and takes no new one. */
  close(): void {
    this.#server.close();
    this.break();
  }

  async reopen(): Promise<void> {
    this.#server.listen(this.#port, "127.0.0.1");
    await once(this.#server, "listening");
    const address = this.#server.address();
    this.#port = typeof address === "object" && address !== null ? address.port : 0;
  }

  #join(socket: Socket): void {
    const onward = connect(placeOf(this.#target));
    this.#carry(socket, onward, () => true);
    this.#carry(onward, socket, () => !this.#isMuted);
  }

  #carry(from: Socket, to: Socket, isCarried: () => boolean): void {
    this.#sockets.add(from);
    from.on("data", (bytes) => isCarried() && to.write(bytes));
    from.on("error", () => to.destroy());
    from.once("close", () => {
      this.#sockets.delete(from);
      to.destroy();
    });
  }
}

/** Where a database's address leads: its host may be the folder of a Unix socket, percent-encoded. */
function placeOf(url: URL): { readonly path: string } | { readonly host: string; readonly port: number } {
  const host = decodeURIComponent(url.hostname);
  const port = Number(url.port);
  return host.startsWith("/") ? { path: `${host}/.s.PGSQL.${port}` } : { host, port };
}
