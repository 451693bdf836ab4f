/** What a plain HTTP route is given: the request, its call, and the ways to answer. */
import { type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
import type { LeaseholdError } from "../errors/leasehold-error.ts";
import type { Call } from "./call.ts";
import { messageTooLarge } from "./call-failures.ts";
import { toHttpError } from "./error-to-wire.ts";
import { breakOff, type HttpRequest, type HttpResponse, type HttpWire, writeHead } from "./http-wire.ts";

/** Headers to answer with. */
export type ResponseHeaders = Readonly<Record<string, string>>;

/** One request of a plain route and its answer. */
export class HttpExchange {
  readonly request: HttpRequest;
  readonly response: HttpResponse;
  readonly call: Call;
  /** The path's variable parts, decoded. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly #wire: HttpWire;

  constructor(wire: HttpWire, params: Readonly<Record<string, string>>, query: URLSearchParams) {
    this.#wire = wire;
    this.request = wire.request;
    this.response = wire.response;
    this.call = wire.call;
    this.params = params;
    this.query = query;
  }

  /** The request's body as it comes. A peer that stalls is dropped; one that is not asked for more waits. */
  body(): AsyncIterable<Buffer> {
    return this.#wire.body();
  }

  /** @throws LeaseholdError BODY_TOO_LARGE */
  async readBody(maxBytes: number): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of this.body()) {
      bytes += chunk.byteLength;
      if (bytes > maxBytes) {
        throw messageTooLarge(maxBytes);
      }
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }

  /** Sends the status and the headers. The body follows with write and end. From here on an error breaks the answer off. */
  begin(status: number, headers: ResponseHeaders = {}): void {
    writeHead(this.response, status, headers);
  }

  /**
   * Sends a part of the body, and returns when the transport has taken it. Sends nothing for HEAD.
   *
   * @throws LeaseholdError as the call failed.
   */
  async write(bytes: Uint8Array): Promise<void> {
    await this.#wire.call.interruptible(this.#wire.write(bytes));
  }

  /** Ends the answer, and returns when the transport has taken all of it. */
  async end(): Promise<void> {
    await this.#wire.call.interruptible(this.#wire.end());
  }

  /** Sends a whole answer. */
  async send(
    status: number,
    contentType: string,
    body: string | Uint8Array,
    headers: ResponseHeaders = {},
  ): Promise<void> {
    const bytes = Buffer.from(body);
    this.begin(status, { ...headers, "content-type": contentType, "content-length": `${bytes.byteLength}` });
    await this.write(bytes);
    await this.end();
  }

  /** Sends a value as JSON. */
  async sendJson(status: number, value: unknown, headers: ResponseHeaders = {}): Promise<void> {
    await this.send(status, "application/json", JSON.stringify(value), headers);
  }

  /** Sends a message in its proto3 JSON form. */
  async sendMessage<Desc extends DescMessage>(
    descriptor: Desc,
    message: MessageShape<Desc>,
    headers: ResponseHeaders = {},
  ): Promise<void> {
    await this.sendJson(200, toJson(descriptor, message), headers);
  }
}

/** Answers with an error if nothing was sent yet, and breaks the answer off otherwise: a short body must not look whole. */
export function sendHttpError(
  request: HttpRequest,
  response: HttpResponse,
  error: LeaseholdError,
  options: { readonly status?: number; readonly headers?: ResponseHeaders } = {},
): void {
  if (response.headersSent) {
    breakOff(response);
    return;
  }
  const { status, headers, body } = toHttpError(error, options.status);
  const bytes = Buffer.from(JSON.stringify(body));
  writeHead(response, status, {
    ...headers,
    ...options.headers,
    "content-type": "application/json",
    "content-length": `${bytes.byteLength}`,
  });
  response.end(request.method === "HEAD" ? "" : bytes);
}
