/**
 * A gRPC client that costs little, so that the load is not what is measured: node:http2 with protobuf-es, and none of
 * what a library adds. A unary call takes about half the processor time that it does with grpc-js.
 */
import { once } from "node:events";
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
} from "node:http2";
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodClientStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";

/** One HTTP/2 connection, over which all calls carry the same credential. */
export class GrpcConnection {
  readonly #port: number;
  readonly #bearer: string;
  #session: ClientHttp2Session | undefined;

  /** Connects with the first call. */
  constructor(port: number, bearer: string) {
    this.#port = port;
    this.#bearer = bearer;
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    const stream = this.#request(method);
    const answer = readOne(method, stream);
    stream.end(encode(method.input, request));
    return await answer;
  }

  /** Hands each answer over as it comes, and returns after the last, or when `signal` makes it hang up. */
  async serverStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    receive: (answer: MessageShape<O>) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    const stream = this.#request(method);
    signal?.addEventListener("abort", () => stream.close(constants.NGHTTP2_CANCEL));
    const end = readAll(stream, (bytes) => receive(fromBinary(method.output, bytes)));
    stream.end(encode(method.input, request));
    try {
      await end;
    } catch (error) {
      // A call that was hung up has no status.
      if (signal?.aborted !== true) {
        throw error;
      }
    }
  }

  /** Sends requests as fast as they are taken. */
  async clientStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodClientStreaming<I, O>,
    requests: Iterable<MessageInitShape<I>>,
  ): Promise<MessageShape<O>> {
    const stream = this.#request(method);
    const answer = readOne(method, stream);
    // A refusal that comes while requests are written is thrown where the answer is awaited.
    answer.catch(() => stream.close());
    for (const request of requests) {
      stream.write(encode(method.input, request));
      if (stream.writableLength > aheadBytes) {
        await Promise.race([once(stream, "drain"), answer]);
      }
    }
    stream.end();
    return await answer;
  }

  close(): void {
    this.#session?.close();
  }

  #request(method: DescMethod): ClientHttp2Stream {
    this.#session ??= this.#connect();
    return this.#session.request({
      ":method": "POST",
      ":path": `/${method.parent.typeName}/${method.name}`,
      "content-type": "application/grpc",
      te: "trailers",
      authorization: `Bearer ${this.#bearer}`,
    });
  }

  #connect(): ClientHttp2Session {
    const session = connect(`http://127.0.0.1:${this.#port}`, {
      settings: { initialWindowSize: windowBytes, enablePush: false },
      maxSessionMemory: Number.MAX_SAFE_INTEGER,
    });
    session.once("connect", () => session.setLocalWindowSize(windowBytes));
    return session;
  }
}

const windowBytes = 8 * 1024 * 1024;
/** How much a stream of requests writes ahead of what the transport has taken. */
const aheadBytes = 2 * 1024 * 1024;
const prefixBytes = 5;

/** A message with gRPC's prefix: not compressed, and its length. */
function encode<D extends DescMessage>(descriptor: D, init: MessageInitShape<D>): Buffer {
  const message = toBinary(descriptor, create(descriptor, init));
  const framed = Buffer.allocUnsafe(prefixBytes + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, prefixBytes);
  return framed;
}

async function readOne<O extends DescMessage>(
  method: DescMethod & { readonly output: O },
  stream: ClientHttp2Stream,
): Promise<MessageShape<O>> {
  let answer: MessageShape<O> | undefined;
  await readAll(stream, (bytes) => {
    answer = fromBinary(method.output, bytes);
  });
  if (answer === undefined) {
    throw new Error(`${method.name} gave no answer`);
  }
  return answer;
}

/** Resolves when the call has ended with status 0. */
function readAll(stream: ClientHttp2Stream, receive: (bytes: Uint8Array) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    let buffered: Buffer = Buffer.alloc(0);
    let status: IncomingHttpHeaders = {};
    const takeStatus = (headers: IncomingHttpHeaders) => {
      status = "grpc-status" in headers ? headers : status;
    };
    stream.on("response", takeStatus);
    stream.on("trailers", takeStatus);
    stream.on("data", (chunk: Buffer) => {
      buffered = unframe(buffered.length === 0 ? chunk : Buffer.concat([buffered, chunk]), receive);
    });
    stream.once("error", reject);
    stream.once("close", () => {
      if (status["grpc-status"] === "0") {
        resolve();
      } else {
        reject(new Error(`status ${status["grpc-status"]}: ${status["grpc-message"]}`));
      }
    });
  });
}

/** Hands over the whole messages at the front, and gives back what is left. */
function unframe(bytes: Buffer, receive: (message: Uint8Array) => void): Buffer {
  let start = 0;
  while (bytes.length - start >= prefixBytes) {
    const end = start + prefixBytes + bytes.readUInt32BE(start + 1);
    if (end > bytes.length) {
      break;
    }
    receive(bytes.subarray(start + prefixBytes, end));
    start = end;
  }
  return bytes.subarray(start);
}
