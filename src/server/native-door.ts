/** The door for native gRPC: a grpc-js server, tuned, whose calls NativeCall serves. */
import type { Http2Server } from "node:http2";
import { createServer, type Server as NetServer } from "node:net";
import {
  Server,
  ServerCredentials,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServiceDefinition,
} from "@grpc/grpc-js";
import { Connections } from "./connections.ts";
import { type DoorOptions, type ListeningAddress, listen } from "./door-options.ts";
import { type Arrival, NativeCall } from "./native-call.ts";
import type { Pipeline } from "./pipeline.ts";
import type { MountedService, RpcMethod } from "./service-implementation.ts";
import { unknownRpc } from "./unknown-rpc.ts";

/** What the door is opened with. */
export interface NativeDoorOptions extends DoorOptions {
  readonly port: number;
  readonly services: readonly MountedService[];
}

/** An open door for native gRPC. */
export class NativeDoor {
  readonly #options: NativeDoorOptions;
  readonly #pipeline: Pipeline;
  readonly #methods: ReadonlyMap<string, RpcMethod>;
  readonly #server: Server;
  readonly #listener: NetServer;
  readonly #connections: Connections;
  /** What the `stream` event that is being emitted is about: grpc-js makes its call within that event. */
  #arriving: Arrival | undefined;

  constructor(options: NativeDoorOptions, pipeline: Pipeline) {
    this.#options = options;
    this.#pipeline = pipeline;
    this.#methods = new Map(
      [...options.services.flatMap((service) => service.methods), unknownRpc].map((method) => [pathOf(method), method]),
    );
    this.#server = new Server({
      "grpc.max_receive_message_length": options.maxMessageBytes,
      "grpc.max_concurrent_streams": options.maxStreamsPerConnection,
      // A peer that vanished without a word is found within this and the timeout.
      "grpc.keepalive_time_ms": 60_000,
      "grpc.keepalive_timeout_ms": 20_000,
      "grpc.enable_channelz": 0,
      interceptors: [({ path }, call) => this.#take(path, call)],
    });
    this.#server.addService(this.#defineService(), {});
    const injector = this.#server.createConnectionInjector(credentialsOf(options));
    this.#listener = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 });
    this.#connections = new Connections(this.#listener, options.logger);
    this.#tune(http2ServerOf(this.#server));
    this.#listener.on("connection", (socket) => injector.injectConnection(socket));
  }

  /** Starts to listen. */
  async open(): Promise<ListeningAddress> {
    return await listen(this.#listener, this.#options.host, this.#options.port);
  }

  /** Stops listening, lets what is under way end within the grace, and then closes every connection. */
  async close(graceMs: number): Promise<void> {
    // Not by grpc-js's tryShutdown, which takes a session that is told to close for one that is closed.
    await this.#connections.close(graceMs);
    this.#server.forceShutdown();
  }

  /** The paths alone: messages stay bytes here, so that NativeCall can answer those that do not decode. */
  #defineService(): ServiceDefinition {
    return Object.fromEntries(
      [...this.#methods].map(([path, { descriptor }]) => [
        path,
        {
          path,
          requestStream: descriptor.methodKind === "client_streaming" || descriptor.methodKind === "bidi_streaming",
          responseStream: descriptor.methodKind === "server_streaming" || descriptor.methodKind === "bidi_streaming",
          requestSerialize: asBytes,
          requestDeserialize: asBytes,
          responseSerialize: asBytes,
          responseDeserialize: asBytes,
        },
      ]),
    );
  }

  /** grpc-js has an option for none of these but the streams. */
  #tune(server: Http2Server): void {
    const { windowBytes, maxHeaderBytes, maxStreamsPerConnection } = this.#options;
    server.updateSettings({
      initialWindowSize: windowBytes,
      maxHeaderListSize: maxHeaderBytes,
      maxConcurrentStreams: maxStreamsPerConnection,
    });
    server.on("session", (session) => {
      session.setLocalWindowSize(windowBytes);
      this.#connections.addSession(session);
    });
    server.prependListener("stream", (stream, headers, _flags, rawHeaders) => {
      this.#arriving = { stream, headers: { ...headers }, rawHeaders };
      // The pipeline keeps the caller's deadline: grpc-js would fire at once for one beyond 2^31-1 ms, and tell no reason.
      delete headers["grpc-timeout"];
      if (!this.#methods.has(`${headers[":path"]}`)) {
        headers[":path"] = pathOf(unknownRpc);
      }
    });
  }

  /**
   * Takes a call from grpc-js before it makes one of its own stream objects, which read up to 16 messages ahead of the
   * handler: at the interceptors' level a message is read when it is asked for.
   */
  #take(path: string, base: ServerInterceptingCallInterface): ServerInterceptingCall {
    const method = this.#methods.get(path);
    if (this.#arriving === undefined || method === undefined) {
      throw new Error(`grpc-js made a call outside its stream event: ${path}`);
    }
    const call = new NativeCall(this.#pipeline, method, base, this.#arriving);
    this.#arriving = undefined;
    return new ServerInterceptingCall(base, { start: () => call.start() });
  }
}

function pathOf(method: RpcMethod): string {
  return `/${method.name}`;
}

function asBytes(bytes: Buffer): Buffer {
  return bytes;
}

function credentialsOf({ tls }: DoorOptions): ServerCredentials {
  return tls === undefined
    ? ServerCredentials.createInsecure()
    : ServerCredentials.createSsl(null, [{ cert_chain: Buffer.from(tls.cert), private_key: Buffer.from(tls.key) }]);
}

/**
 * The HTTP/2 server inside: the one private member of grpc-js that is leaned on. Windows, header limits and the reset
 * of a single stream cannot be had through its options.
 */
function http2ServerOf(server: Server): Http2Server {
  const servers: unknown = Reflect.get(server, "http2Servers");
  const first: unknown = servers instanceof Map ? servers.keys().next().value : undefined;
  if (!isHttp2Server(first)) {
    throw new Error("This version of @grpc/grpc-js keeps its HTTP/2 server elsewhere");
  }
  return first;
}

function isHttp2Server(value: unknown): value is Http2Server {
  return value instanceof Object && "updateSettings" in value && "prependListener" in value;
}
