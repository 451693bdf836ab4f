/** The connections of one door, so that they can be ended in good order. */
import type { ServerHttp2Session } from "node:http2";
import type { Server, Socket } from "node:net";
import type { Logger } from "pino";

/** Keeps count of a listener's sockets and HTTP/2 sessions. */
export class Connections {
  readonly #listener: Server;
  readonly #sockets = new Set<Socket>();
  readonly #sessions = new Set<ServerHttp2Session>();

  constructor(listener: Server, logger: Logger) {
    this.#listener = listener;
    listener.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
      socket.on("error", (error) => logger.debug({ err: error }, "a connection broke"));
    });
  }

  /** A connection turned out to speak HTTP/2. */
  addSession(session: ServerHttp2Session): void {
    this.#sessions.add(session);
    session.once("close", () => this.#sessions.delete(session));
  }

  /** Stops listening, lets what is under way end within the grace, and then closes every connection. */
  async close(graceMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#listener.close(() => resolve());
    for (const session of this.#sessions) {
      session.close();
    }
    for (const socket of this.#sockets) {
      // Nothing is under way on a connection that never said a word.
      if (socket.bytesRead === 0) {
        socket.destroy();
      }
    }
    const timeout = setTimeout(() => {
      for (const socket of this.#sockets) {
        socket.destroy();
      }
    }, graceMs);
    await promise;
    clearTimeout(timeout);
  }
}
