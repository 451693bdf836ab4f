/** One HTTP request and its response, of version 1.1 or 2, as a carrier of a call: watched for stalls, cut when it fails. */
import { IncomingMessage, type ServerResponse } from "node:http";
import { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { LeaseholdError } from "../errors/leasehold-error.ts";
import type { ActiveCall, CallTarget, Wire } from "./active-call.ts";
import { hungUp } from "./call-failures.ts";
import { cutGraceMs } from "./door-options.ts";
import type { Pipeline } from "./pipeline.ts";
import { resetStream } from "./reset-stream.ts";

export type HttpRequest = IncomingMessage | Http2ServerRequest;
export type HttpResponse = ServerResponse | Http2ServerResponse;

/** Carries one call. */
export class HttpWire implements Wire {
  readonly request: HttpRequest;
  readonly response: HttpResponse;
  readonly call: ActiveCall;
  readonly #onCut: (error: LeaseholdError) => void;
  #isWriting = false;
  /** Who waits for something to be taken. */
  #onClosed: ((error: LeaseholdError) => void) | undefined;

  /** `onCut` sends an error, if that can still be done. The wire sees to the end of the stream. */
  constructor(
    pipeline: Pipeline,
    target: CallTarget,
    request: HttpRequest,
    response: HttpResponse,
    onCut: (error: LeaseholdError) => void,
  ) {
    this.request = request;
    this.response = response;
    this.#onCut = onCut;
    this.call = pipeline.begin(target, "http", this);
    response.once("close", () => this.#closed());
    response.on("error", (error: Error) => this.#closed(error));
    request.on("error", (error: Error) => this.#closed(error));
    if (request instanceof IncomingMessage) {
      response.once("finish", () => this.#boundRest());
    }
  }

  get peer(): string {
    const socket =
      this.request instanceof Http2ServerRequest ? this.request.stream.session?.socket : this.request.socket;
    return socket?.remoteAddress ?? "unknown";
  }

  get rawHeaders(): readonly string[] {
    return this.request.rawHeaders;
  }

  header(name: string): string | undefined {
    const value = this.request.headers[name];
    return Array.isArray(value) ? value.join(", ") : value;
  }

  cut(error: LeaseholdError): void {
    if (this.#isWriting && error.reason === "STALLED") {
      this.destroy();
      return;
    }
    this.#destroyLater();
    this.#onCut(error);
  }

  destroy(): void {
    breakOff(this.response);
  }

  /**
   * The request's body, as it comes. Leaving it half read does not end the request, so that it can still be answered.
   *
   * @throws LeaseholdError as the call failed, or CANCELLED if the body broke off.
   */
  async *body(): AsyncGenerator<Buffer, void> {
    const chunks: AsyncIterator<Buffer> = this.request.iterator({ destroyOnReturn: false });
    for (;;) {
      this.call.stall.wait();
      const chunk = await this.call.interruptible(chunks.next()).catch((error: unknown) => {
        throw this.call.failure ?? hungUp(error);
      });
      this.call.stall.rest();
      if (chunk.done === true) {
        this.#requireWhole();
        return;
      }
      yield chunk.value;
    }
  }

  /**
   * Writes a part of the answer's body, and returns when the transport has taken it.
   *
   * @throws LeaseholdError CANCELLED if the stream broke.
   */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.request.method === "HEAD") {
      return;
    }
    for (let start = 0; start < bytes.byteLength; start += sliceBytes) {
      await this.#handOver((done) => this.#writeSlice(bytes.subarray(start, start + sliceBytes), done));
    }
  }

  /**
   * Ends the answer, and returns when the transport has taken all of it.
   *
   * @throws LeaseholdError CANCELLED if the stream broke.
   */
  async end(): Promise<void> {
    await this.#handOver((done) =>
      this.response.end((error?: Error | null) => {
        // Before anybody else hears of it: a close that comes first would count the call as hung up.
        if (!error) {
          this.call.answered();
        }
        done(error);
      }),
    );
    if (!this.request.complete && this.response instanceof Http2ServerResponse) {
      this.#destroyLater();
    }
  }

  async #handOver(start: (done: (error?: Error | null) => void) => void): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#isWriting = true;
    this.#onClosed = reject;
    this.call.stall.wait();
    start((error) => (error ? reject(hungUp(error)) : resolve()));
    await promise;
    this.call.stall.rest();
    this.#onClosed = undefined;
    this.#isWriting = false;
  }

  #writeSlice(slice: Uint8Array, done: (error?: Error | null) => void): void {
    if (this.response instanceof Http2ServerResponse) {
      this.response.write(slice, "binary", (error) => done(error));
    } else {
      this.response.write(slice, done);
    }
  }

  /** A stream that was reset ends as a finished one does, and with some versions of Node closes much later. */
  #requireWhole(): void {
    const { request } = this;
    if (request instanceof IncomingMessage ? !request.complete : request.stream.aborted) {
      throw hungUp();
    }
  }

  #closed(cause?: Error): void {
    this.call.closed(cause);
    // A stream that is gone calls nobody back.
    this.#onClosed?.(hungUp(cause));
  }

  /** Gives the answer time to arrive. */
  #destroyLater(): void {
    const timeout = setTimeout(() => this.destroy(), cutGraceMs);
    this.response.once("close", () => clearTimeout(timeout));
  }

  /**
   * Bounds what a caller of HTTP/1.1 may go on to send after its answer. Closing at once would reset the connection,
   * and with it an answer that is not read yet.
   */
  #boundRest(): void {
    const { request } = this;
    if (!request.complete) {
      const timeout = setTimeout(() => request.destroy(), cutGraceMs);
      request.once("close", () => clearTimeout(timeout));
      request.resume();
    }
  }
}

/** Sends the status and headers of an answer. */
export function writeHead(response: HttpResponse, status: number, headers: Readonly<Record<string, string>>): void {
  if (response instanceof Http2ServerResponse) {
    response.writeHead(status, headers);
  } else {
    response.writeHead(status, headers);
  }
}

/** Ends an answer in a way that its reader cannot take for a whole one. */
export function breakOff(response: HttpResponse): void {
  if (response instanceof Http2ServerResponse) {
    resetStream(response.stream);
  } else {
    response.destroy();
  }
}

/** How much is written at once: what a peer must take within the stall time. */
const sliceBytes = 65_536;
