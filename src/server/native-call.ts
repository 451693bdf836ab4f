/** One call of native gRPC: our handlers, adapted to what grpc-js's interceptors are given. */
import type { Http2Stream, IncomingHttpHeaders } from "node:http2";
import { fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { type ServerInterceptingCallInterface, status } from "@grpc/grpc-js";
import type { LeaseholdError } from "../errors/leasehold-error.ts";
import type { ActiveCall, Wire } from "./active-call.ts";
import { malformedRequest } from "./call-failures.ts";
import { cutGraceMs } from "./door-options.ts";
import { type GrpcStatus, toGrpcStatus } from "./error-to-wire.ts";
import { fromGrpcStatus } from "./library-error.ts";
import type { Pipeline } from "./pipeline.ts";
import { resetStream } from "./reset-stream.ts";
import type { RpcMethod } from "./service-implementation.ts";

/** A stream that a peer has opened, with its headers. */
export interface Arrival {
  readonly stream: Http2Stream;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
}

/** Serves one call, and is what carries it. It reads a message when the handler asks, and sends one at a time. */
export class NativeCall implements Wire {
  readonly #pipeline: Pipeline;
  readonly #method: RpcMethod;
  readonly #base: ServerInterceptingCallInterface;
  readonly #stream: Http2Stream;
  readonly #headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly #call: ActiveCall;
  readonly #sendStatus: (status: GrpcStatus) => void;
  /** Who waits for the next message, or for undefined, which is the end of them. */
  #reader: ((bytes: Buffer | undefined) => void) | undefined;
  #hasRequestEnded = false;
  #isWriting = false;

  constructor(pipeline: Pipeline, method: RpcMethod, base: ServerInterceptingCallInterface, arrival: Arrival) {
    this.#pipeline = pipeline;
    this.#method = method;
    this.#base = base;
    this.#stream = arrival.stream;
    this.#headers = arrival.headers;
    this.rawHeaders = arrival.rawHeaders;
    this.#call = pipeline.begin(method, "native", this);
    this.#sendStatus = base.sendStatus.bind(base);
    // From here on only grpc-js calls it, for what it refuses by itself: too large, not to be decompressed.
    base.sendStatus = (refusal) => this.#call.fail(fromGrpcStatus(refusal, pipeline.maxMessageBytes));
  }

  get peer(): string {
    return this.#base.getPeer();
  }

  header(name: string): string | undefined {
    const value = this.#headers[name];
    return Array.isArray(value) ? value.join(", ") : value;
  }

  /** Serves the call. Whatever becomes of it is told to the caller, the metrics and the log. */
  start(): void {
    const call = this.#call;
    this.#stream.on("data", () => call.stall.move());
    this.#stream.on("error", (error) => call.closed(error));
    this.#stream.once("close", () => call.closed());
    this.#base.start({
      onReceiveMetadata: () => void this.#serve(),
      onReceiveMessage: (bytes: Buffer) => this.#reader?.(bytes),
      onReceiveHalfClose: () => this.#receiveEnd(),
      // The stream's own close says so too, and also says it of calls that grpc-js has ended.
      onCancel: () => call.stall.move(),
    });
  }

  cut(error: LeaseholdError): void {
    if (this.#stream.destroyed) {
      return;
    }
    if (this.#isWriting && error.reason === "STALLED") {
      this.destroy();
    } else {
      this.#end(toGrpcStatus(error));
    }
    this.#call.answered();
  }

  destroy(): void {
    resetStream(this.#stream);
  }

  /** A stream that was reset ends as a finished one does, and with some versions of Node closes much later. */
  #receiveEnd(): void {
    if (this.#stream.aborted) {
      this.#call.closed();
    } else {
      this.#hasRequestEnded = true;
      this.#reader?.(undefined);
    }
  }

  async #serve(): Promise<void> {
    const call = this.#call;
    try {
      this.#pipeline.admit(call, "grpc-timeout");
      await this.#run();
      if (call.failure === undefined) {
        this.#end(ok);
        call.answered();
      }
    } catch (error) {
      this.#pipeline.fail(call, error);
    }
  }

  async #run(): Promise<void> {
    const method = this.#method;
    const call = this.#call;
    switch (method.kind) {
      case "unary":
        return this.#writeOnly(await this.#pipeline.answerOne(method, await this.#readOnly(), call));
      case "client_streaming":
        return this.#writeOnly(await this.#pipeline.answerMany(method, this.#readAll(), call));
      case "server_streaming":
        return await this.#writeAll(this.#pipeline.streamOne(method, await this.#readOnly(), call));
      case "bidi_streaming":
        return await this.#writeAll(this.#pipeline.streamMany(method, this.#readAll(), call));
    }
  }

  /** The one request of a call that takes one. */
  async #readOnly(): Promise<Message> {
    const bytes = await this.#read();
    if (bytes === undefined) {
      throw malformedRequest("it has no message");
    }
    if ((await this.#read()) !== undefined) {
      throw malformedRequest("it has more messages than the RPC takes");
    }
    return this.#decode(bytes);
  }

  async *#readAll(): AsyncGenerator<Message> {
    for (let bytes = await this.#read(); bytes !== undefined; bytes = await this.#read()) {
      yield this.#decode(bytes);
    }
  }

  async #read(): Promise<Buffer | undefined> {
    const { stall } = this.#call;
    stall.wait();
    const bytes = await this.#call.interruptible(
      new Promise<Buffer | undefined>((resolve) => {
        this.#reader = resolve;
        this.#base.startRead();
      }),
    );
    stall.rest();
    return bytes;
  }

  async #writeAll(messages: AsyncIterable<Message>): Promise<void> {
    for await (const message of messages) {
      const bytes = this.#encode(message);
      this.#isWriting = true;
      this.#call.stall.wait();
      await this.#call.interruptible(new Promise<void>((resolve) => this.#base.sendMessage(bytes, resolve)));
      this.#call.stall.rest();
      this.#isWriting = false;
    }
  }

  /** Does not wait until it is taken, so that the status leaves in the same packet. */
  #writeOnly(message: Message): void {
    if (this.#call.failure === undefined) {
      this.#base.sendMessage(this.#encode(message), () => this.#call.stall.move());
    }
  }

  #end(outcome: GrpcStatus): void {
    this.#sendStatus(outcome);
    // Until the peer has taken it all.
    this.#call.stall.wait();
    if (!this.#hasRequestEnded || this.#isWriting) {
      const timeout = setTimeout(() => this.destroy(), cutGraceMs);
      this.#stream.once("close", () => clearTimeout(timeout));
    }
  }

  #decode(bytes: Buffer): Message {
    try {
      return fromBinary(this.#method.descriptor.input, bytes);
    } catch (error) {
      throw malformedRequest("a message is not of its type", error);
    }
  }

  #encode(message: Message): Buffer {
    const { buffer, byteOffset, byteLength } = toBinary(this.#method.descriptor.output, message);
    return Buffer.from(buffer, byteOffset, byteLength);
  }
}

const ok: GrpcStatus = { code: status.OK, details: "OK", metadata: null };
