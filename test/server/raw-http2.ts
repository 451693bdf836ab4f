/** An HTTP/2 client that reads and sends only what a test tells it to. */
import { once } from "node:events";
import { type ClientHttp2Session, type ClientHttp2Stream, connect, type IncomingHttpHeaders } from "node:http2";
import type { DescMethod } from "@bufbuild/protobuf";
import { pathOf } from "./native-client.ts";

/** A connection whose windows are small, so that a server is soon held up by a reader that does not read. */
export class RawHttp2 implements AsyncDisposable {
  readonly session: ClientHttp2Session;

  constructor(url: string) {
    this.session = connect(url, { settings: { initialWindowSize: 65_535 } });
    this.session.on("error", () => this.session.destroy());
  }

  /** Starts a call of gRPC, and sends its headers only. */
  startGrpc(method: DescMethod, headers: Record<string, string> = {}): ClientHttp2Stream {
    const stream = this.session.request({
      ":method": "POST",
      ":path": pathOf(method),
      "content-type": "application/grpc+proto",
      te: "trailers",
      ...headers,
    });
    stream.on("error", () => stream.destroy());
    return stream;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.session.destroyed) {
      this.session.destroy();
      await once(this.session, "close");
    }
  }
}

/** Reads a stream to its close, and tells the status in its trailers, or in its headers if there is nothing else. */
export async function grpcStatusOf(stream: ClientHttp2Stream): Promise<unknown> {
  let status: unknown;
  const read = (headers: IncomingHttpHeaders) => {
    status = headers["grpc-status"] ?? status;
  };
  stream.on("response", read);
  stream.on("trailers", read);
  stream.resume();
  await closed(stream);
  return status;
}

/** Resolves when a stream is gone, whatever the reason. */
export async function closed(stream: ClientHttp2Stream): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  stream.once("close", resolve);
  await promise;
}

/** A message as gRPC and Connect frame it. */
export function envelope(message: Uint8Array, flags = 0): Buffer {
  return Buffer.concat([envelopeHead(message.byteLength, flags), message]);
}

/** What comes before a message of so many bytes. */
export function envelopeHead(sizeBytes: number, flags = 0): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(flags, 0);
  head.writeUInt32BE(sizeBytes, 1);
  return head;
}
