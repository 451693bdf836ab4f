/** Owns one request to a plain HTTP route, whose bodies are streams in both directions. */
import { type ClientRequest, type IncomingMessage, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { connectionFailed, fromHttp } from "./call-error.ts";
import type { Connection } from "./connection.ts";

/** A request. */
export interface HttpCall {
  readonly method: "GET" | "PUT" | "POST";
  /** From the server's address on, with its slash. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Whoever sends one sets content-length too. */
  readonly body?: AsyncIterable<Uint8Array>;
}

/** A success. */
export interface HttpAnswer {
  readonly status: number;
  header(name: string): string | undefined;
  /** The body as it comes. @throws CallError CONNECTION_FAILED if it breaks off. */
  body(): AsyncIterable<Buffer>;
  /** The whole body. @throws likewise. */
  text(): Promise<string>;
}

/**
 * How long nothing may move in either direction, in milliseconds. A server reads an upload that was resumed once more
 * before it answers, and nothing moves meanwhile: 5 GiB take it a few seconds.
 */
const idleLimitMs = 120_000;
const largestErrorBytes = 65_536;

/** @throws CallError if no server answers, or one does with an error; whatever the body throws. */
export async function httpCall(connection: Connection, call: HttpCall): Promise<HttpAnswer> {
  const { url, bearer } = connection;
  const request = (url.startsWith("https:") ? requestHttps : requestHttp)(`${url}${call.path}`, {
    method: call.method,
    headers: bearer === undefined ? call.headers : { ...call.headers, authorization: `Bearer ${bearer}` },
  });
  request.setTimeout(idleLimitMs, () => request.destroy(new Error(`nothing moved for ${idleLimitMs / 1000} s`)));
  const response = await exchange(url, request, call.body);
  if (response.statusCode === undefined || response.statusCode < 200 || response.statusCode > 299) {
    const text = await readText(url, response, largestErrorBytes);
    request.destroy();
    throw fromHttp(url, response.statusCode ?? 0, text);
  }
  return {
    status: response.statusCode,
    header(name) {
      const value = response.headers[name];
      return Array.isArray(value) ? value.join(", ") : value;
    },
    body: () => readBody(url, response),
    text: () => readText(url, response, Number.POSITIVE_INFINITY),
  };
}

/** Sends the body and waits for the answer, which may come before all of the body is sent: a refusal. */
async function exchange(
  url: string,
  request: ClientRequest,
  body: AsyncIterable<Uint8Array> | undefined,
): Promise<IncomingMessage> {
  const { promise: answered, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  request.once("response", resolve);
  request.on("error", (error) => reject(connectionFailed(url, error)));
  if (body === undefined) {
    request.end();
  } else {
    // Once there is an answer, it counts and not what becomes of the rest of the body.
    pipeline(watched(body, reject), request).catch((error: unknown) => reject(connectionFailed(url, error)));
  }
  return await answered;
}

/** A body that cannot be read fails the call as it is, for that is no fault of the connection. */
function watched(body: AsyncIterable<Uint8Array>, onFailure: (error: unknown) => void): Readable {
  const source = Readable.from(body, { objectMode: false });
  source.on("error", onFailure);
  return source;
}

async function* readBody(url: string, response: IncomingMessage): AsyncGenerator<Buffer, void> {
  const chunks = response.iterator() as AsyncIterator<Buffer>;
  try {
    for (;;) {
      const chunk = await chunks.next().catch((error: unknown) => {
        throw connectionFailed(url, error);
      });
      if (chunk.done === true) {
        return;
      }
      yield chunk.value;
    }
  } finally {
    // Whoever stops reading early wants nothing more of this connection.
    response.destroy();
  }
}

async function readText(url: string, response: IncomingMessage, limitBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of readBody(url, response)) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > limitBytes) {
      break;
    }
  }
  return Buffer.concat(chunks).toString("utf8");
}
