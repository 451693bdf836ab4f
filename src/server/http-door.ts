/** The door for Connect, gRPC-Web, gRPC and plain HTTP: one port for HTTP/1.1 and HTTP/2, with TLS or without. */
import * as http from "node:http";
import * as http2 from "node:http2";
import * as https from "node:https";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { malformedRequest, unknownMethod } from "./call-failures.ts";
import { Connections } from "./connections.ts";
import { Cors } from "./cors.ts";
import { type DoorOptions, type ListeningAddress, listen } from "./door-options.ts";
import { HttpExchange, sendHttpError } from "./http-exchange.ts";
import { breakOff, type HttpRequest, type HttpResponse, HttpWire, writeHead } from "./http-wire.ts";
import type { Page } from "./pages.ts";
import type { Pipeline } from "./pipeline.ts";
import { type Route, Router } from "./router.ts";
import { RpcOverHttp } from "./rpc-over-http.ts";
import type { MountedService } from "./service-implementation.ts";
import { sniffProtocol } from "./sniff-protocol.ts";

/** What the door is opened with. */
export interface HttpDoorOptions extends DoorOptions {
  readonly port: number;
  readonly services: readonly MountedService[];
  readonly routes: readonly Route[];
  readonly pages: readonly Page[];
  /** `["*"]` for every origin. */
  readonly corsOrigins: readonly string[];
}

/** An open door for HTTP. */
export class HttpDoor {
  readonly #options: HttpDoorOptions;
  readonly #pipeline: Pipeline;
  readonly #rpcs: RpcOverHttp;
  readonly #router: Router;
  readonly #cors: Cors;
  readonly #pages: ReadonlyMap<string, Page>;
  /** Listens, and serves HTTP/1.1: so that Node's own limits on slow headers and idle connections apply. */
  readonly #listener: http.Server;
  readonly #http2: http2.Http2Server;
  readonly #connections: Connections;

  constructor(options: HttpDoorOptions, pipeline: Pipeline) {
    this.#options = options;
    this.#pipeline = pipeline;
    this.#rpcs = new RpcOverHttp(pipeline, options.services);
    this.#router = new Router(options.routes);
    this.#cors = new Cors(options.corsOrigins);
    this.#pages = new Map(options.pages.map((page) => [page.path, page]));
    this.#http2 = this.#createHttp2();
    this.#listener = this.#createListener();
    this.#connections = new Connections(this.#listener, options.logger);
  }

  /** Starts to listen. */
  async open(): Promise<ListeningAddress> {
    return await listen(this.#listener, this.#options.host, this.#options.port);
  }

  /** Stops listening, lets what is under way end within the grace, and then closes every connection. */
  async close(graceMs: number): Promise<void> {
    await this.#connections.close(graceMs);
  }

  #createHttp2(): http2.Http2Server {
    const { windowBytes, maxHeaderBytes, maxStreamsPerConnection } = this.#options;
    const server = http2.createServer(
      {
        settings: {
          initialWindowSize: windowBytes,
          maxHeaderListSize: maxHeaderBytes,
          maxConcurrentStreams: maxStreamsPerConnection,
        },
        // Node refuses streams at 10 MB a session, far below what its streams may have in flight. What bounds memory
        // are the windows, the streams and the size of a message.
        maxSessionMemory: Number.MAX_SAFE_INTEGER,
      },
      (request, response) => this.#receive(request, response),
    );
    server.on("session", (session) => {
      session.setLocalWindowSize(windowBytes);
      session.setTimeout(idleSessionMs, () => session.close());
      this.#connections.addSession(session);
    });
    return server;
  }

  /** A server for HTTP/1.1 whose new connections are looked at first, and handed on if they speak HTTP/2. */
  #createListener(): http.Server {
    const { tls, maxHeaderBytes } = this.#options;
    const options: http.ServerOptions = {
      maxHeaderSize: maxHeaderBytes,
      headersTimeout: headersTimeoutMs,
      // An upload may take hours. A body that does not move is the stall watch's.
      requestTimeout: 0,
      keepAliveTimeout: 65_000,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: 60_000,
    };
    const serve = (request: http.IncomingMessage, response: http.ServerResponse) => this.#receive(request, response);
    const listener =
      tls === undefined
        ? http.createServer(options, serve)
        : https.createServer(
            {
              ...options,
              cert: tls.cert,
              key: tls.key,
              ALPNProtocols: ["h2", "http/1.1"],
              handshakeTimeout: headersTimeoutMs,
            },
            serve,
          );
    this.#divert(listener, tls === undefined ? "connection" : "secureConnection");
    return listener;
  }

  /** Takes the place of the listener's own handler of connections. */
  #divert(listener: http.Server, event: "connection" | "secureConnection"): void {
    const [serveHttp1, ...others] = listener.listeners(event);
    if (serveHttp1 === undefined) {
      throw new Error(`Node's HTTP server does not listen to its own ${event} event`);
    }
    listener.removeAllListeners(event);
    for (const other of others) {
      listener.on(event, (socket: Socket) => other.call(listener, socket));
    }
    listener.on(event, (socket: Socket) => {
      const decide = (protocol: "http1" | "http2") => {
        if (protocol === "http2") {
          // HTTP/1.1 may go on answering a peer that has ended its side. An HTTP/2 session would be kept for nothing.
          socket.allowHalfOpen = false;
          this.#http2.emit("connection", socket);
        } else {
          serveHttp1.call(listener, socket);
        }
      };
      if (socket instanceof TLSSocket) {
        decide(socket.alpnProtocol === "h2" ? "http2" : "http1");
      } else {
        sniffProtocol(socket, headersTimeoutMs, decide);
      }
    });
  }

  #receive(request: HttpRequest, response: HttpResponse): void {
    this.#serve(request, response).catch((error: unknown) => {
      this.#options.logger.error({ err: error }, "a request could not be served");
      breakOff(response);
    });
  }

  async #serve(request: HttpRequest, response: HttpResponse): Promise<void> {
    if (this.#pipeline.isDraining && response instanceof http.ServerResponse) {
      response.shouldKeepAlive = false;
    }
    if (this.#cors.apply(request, response)) {
      return;
    }
    const [path = "", query] = (request.url ?? "").split("?", 2);
    const search = query === undefined ? "" : `?${query}`;
    const page = this.#pages.get(path);
    if (this.#rpcs.serves(path)) {
      await this.#rpcs.serve(path, search, request, response);
    } else if (page !== undefined) {
      await page.answer(request, response);
    } else {
      await this.#serveRoute(path, search, request, response);
    }
  }

  async #serveRoute(path: string, search: string, request: HttpRequest, response: HttpResponse): Promise<void> {
    const method = request.method ?? "";
    const match = this.#router.find(method, path);
    switch (match.kind) {
      case "found":
        return await this.#serveMatch(match.route, match.params, search, request, response);
      case "wrong-method": {
        const headers = { allow: match.allowed.join(", ") };
        if (method === "OPTIONS") {
          writeHead(response, 204, headers);
          response.end();
        } else {
          sendHttpError(request, response, unknownMethod(`${method} for this path`), { status: 405, headers });
        }
        return;
      }
      case "malformed":
        return sendHttpError(request, response, malformedRequest("the path is not percent-encoded"));
      case "unknown":
        return sendHttpError(request, response, unknownMethod("RPC or route of this path"));
    }
  }

  async #serveMatch(
    route: Route,
    params: Readonly<Record<string, string>>,
    search: string,
    request: HttpRequest,
    response: HttpResponse,
  ): Promise<void> {
    const pipeline = this.#pipeline;
    const target = { descriptor: route.rpc, name: `${route.method} ${route.path}`, servedWhileDraining: false };
    const wire: HttpWire = new HttpWire(pipeline, target, request, response, (error) => {
      sendHttpError(request, response, error);
      wire.call.answered();
    });
    const exchange = new HttpExchange(wire, params, new URLSearchParams(search));
    try {
      pipeline.admit(wire.call);
      await pipeline.run(route, wire.call, () => route.handle(exchange));
    } catch (error) {
      pipeline.fail(wire.call, error);
    }
  }
}

/** How long headers, a TLS handshake or the first bytes of a connection may take, in milliseconds. */
const headersTimeoutMs = 20_000;
/** How long an HTTP/2 connection may be silent before it is told to go, in milliseconds. */
const idleSessionMs = 600_000;
