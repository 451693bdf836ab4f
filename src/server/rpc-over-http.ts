/** Serves RPCs over Connect, gRPC and gRPC-Web on the HTTP door: Connect's handlers, our transport. */
import type { Message } from "@bufbuild/protobuf";
import {
  ConnectError,
  type ConnectRouter,
  type ContextValues,
  createConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
} from "@connectrpc/connect";
import type { UniversalHandler, UniversalServerResponse } from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import type { ActiveCall } from "./active-call.ts";
import { malformedRequest, unknownMethod } from "./call-failures.ts";
import { toConnectError } from "./error-to-wire.ts";
import { sendHttpError } from "./http-exchange.ts";
import { type HttpRequest, type HttpResponse, HttpWire, writeHead } from "./http-wire.ts";
import { fromConnectError } from "./library-error.ts";
import type { Pipeline } from "./pipeline.ts";
import type { MountedService, RpcMethod } from "./service-implementation.ts";

/**
 * Serves the RPCs of services. connect-node's own adapter does not wait until a small message is taken, drops no peer
 * that stalls, and prints a handler's failure to the console.
 */
export class RpcOverHttp {
  readonly #pipeline: Pipeline;
  readonly #byPath = new Map<string, { readonly method: RpcMethod; readonly handle: UniversalHandler }>();

  constructor(pipeline: Pipeline, services: readonly MountedService[]) {
    this.#pipeline = pipeline;
    const router = createConnectRouter({
      acceptCompression: [compressionGzip, compressionBrotli],
      // Larger than any message: answers are not compressed, which would cost 18 to 39 % of throughput.
      compressMinBytes: Number.MAX_SAFE_INTEGER,
      readMaxBytes: pipeline.maxMessageBytes,
      requestGate: (context) => this.#admit(context),
    });
    for (const method of services.flatMap((service) => service.methods)) {
      this.#register(router, method);
      const handle = router.handlers.at(-1);
      if (handle !== undefined) {
        this.#byPath.set(handle.requestPath, { method, handle });
      }
    }
  }

  /** Whether there is an RPC at this path. */
  serves(path: string): boolean {
    return this.#byPath.has(path);
  }

  /** Serves a request of an RPC. */
  async serve(path: string, search: string, request: HttpRequest, response: HttpResponse): Promise<void> {
    const rpc = this.#byPath.get(path);
    if (rpc === undefined) {
      throw new RangeError(`No RPC at ${path}`);
    }
    // Connect itself sends the error: what waits in its pipeline is interrupted with it.
    const wire = new HttpWire(this.#pipeline, rpc.method, request, response, () => undefined);
    const { call } = wire;
    try {
      const answer = await rpc.handle({
        httpVersion: request.httpVersion,
        method: request.method ?? "",
        url: `http://localhost${path}${search}`,
        header: toWebHeaders(request),
        body: this.#readBody(wire),
        signal: new AbortController().signal,
        contextValues: contextOf(call),
      });
      await this.#respond(wire, answer);
    } catch (error) {
      this.#pipeline.fail(call, error);
      wire.destroy();
    }
  }

  /** Runs before the request is read. */
  #admit(context: HandlerContext): void {
    const call = callOf(context);
    context.signal.addEventListener("abort", () => this.#explain(call, context.signal.reason));
    const isGrpc = context.protocolName !== "connect";
    try {
      this.#pipeline.admit(call, isGrpc ? "grpc-timeout" : "connect-timeout-ms");
    } catch (error) {
      throw toConnectError(this.#pipeline.fail(call, error));
    }
  }

  /**
   * Gives what Connect refuses by itself, such as a message that does not decode, its reason. All of Connect's handlers
   * abort their context with an error just before they send that very object.
   */
  #explain(call: ActiveCall, reason: unknown): void {
    if (reason instanceof ConnectError && reason.details.length === 0) {
      const error = this.#pipeline.fail(call, fromConnectError(reason, this.#pipeline.maxMessageBytes));
      const { code, rawMessage, message, details } = toConnectError(error);
      Object.assign(reason, { code, rawMessage, message, details });
    }
  }

  #register(router: ConnectRouter, method: RpcMethod): void {
    const pipeline = this.#pipeline;
    switch (method.kind) {
      case "unary":
        router.rpc(method.descriptor, (request, context) =>
          this.#one(context, (call) => pipeline.answerOne(method, request, call)),
        );
        return;
      case "client_streaming":
        router.rpc(method.descriptor, (requests, context) =>
          this.#one(context, (call) => pipeline.answerMany(method, this.#readable(requests, call), call)),
        );
        return;
      case "server_streaming":
        router.rpc(method.descriptor, (request, context) =>
          this.#many(context, (call) => pipeline.streamOne(method, request, call)),
        );
        return;
      case "bidi_streaming":
        router.rpc(method.descriptor, (requests, context) =>
          this.#many(context, (call) => pipeline.streamMany(method, this.#readable(requests, call), call)),
        );
        return;
    }
  }

  async #one(context: HandlerContext, answer: (call: ActiveCall) => Promise<Message>): Promise<Message> {
    const call = callOf(context);
    try {
      return await call.interruptible(answer(call));
    } catch (error) {
      throw toConnectError(this.#pipeline.fail(call, error));
    }
  }

  async *#many(context: HandlerContext, stream: (call: ActiveCall) => AsyncIterable<Message>): AsyncGenerator<Message> {
    const call = callOf(context);
    try {
      yield* stream(call);
    } catch (error) {
      throw toConnectError(this.#pipeline.fail(call, error));
    }
  }

  /** A handler sees a LeaseholdError where Connect could not read a request. */
  async *#readable(requests: AsyncIterable<Message>, call: ActiveCall): AsyncGenerator<Message> {
    try {
      yield* requests;
    } catch (error) {
      throw (
        call.failure ??
        (error instanceof ConnectError ? fromConnectError(error, this.#pipeline.maxMessageBytes) : error)
      );
    }
  }

  /** Connect sees a ConnectError where the body broke off. */
  async *#readBody(wire: HttpWire): AsyncGenerator<Uint8Array> {
    try {
      yield* wire.body();
    } catch (error) {
      throw toConnectError(this.#pipeline.fail(wire.call, error));
    }
  }

  async #respond(wire: HttpWire, answer: UniversalServerResponse): Promise<void> {
    const { call, response } = wire;
    if (answer.body === undefined) {
      this.#refuse(wire, answer);
      return;
    }
    if (call.method.methodKind === "unary") {
      call.answered();
    }
    const chunks = answer.body[Symbol.asyncIterator]();
    try {
      let chunk = await chunks.next();
      writeHead(response, answer.status, toNodeHeaders(answer.header));
      for (; chunk.done !== true; chunk = await chunks.next()) {
        await wire.write(chunk.value);
      }
      if (answer.trailer !== undefined) {
        response.addTrailers(toNodeHeaders(answer.trailer));
      }
      await wire.end();
    } finally {
      void chunks.return?.();
    }
  }

  /** 404, 405, 415 and 505 come from Connect without a body. */
  #refuse(wire: HttpWire, { status, header }: UniversalServerResponse): void {
    const { call, request, response } = wire;
    const error =
      status === 405
        ? unknownMethod(`${request.method} form of this RPC`)
        : malformedRequest(`the content type or HTTP version does not fit the RPC`);
    call.fail(error);
    sendHttpError(request, response, error, { status, headers: toNodeHeaders(header) });
  }
}

const callKey = createContextKey<ActiveCall | undefined>(undefined);

function contextOf(call: ActiveCall): ContextValues {
  return createContextValues().set(callKey, call);
}

function callOf(context: HandlerContext): ActiveCall {
  const call = context.values.get(callKey);
  if (call === undefined) {
    throw new LeaseholdError("INTERNAL", "Connect lost the call's context.");
  }
  return call;
}

/** All but the deadline's: Connect's own timer would fire at once for one beyond 2^31-1 ms, and give no reason. */
function toWebHeaders(request: HttpRequest): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined && !name.startsWith(":") && name !== "grpc-timeout" && name !== "connect-timeout-ms") {
      headers.set(name, Array.isArray(value) ? value.join(", ") : value);
    }
  }
  return headers;
}

function toNodeHeaders(headers: Headers | undefined): Record<string, string> {
  return Object.fromEntries(headers ?? []);
}
