/** HTTP/2 frame by frame, for what no client library sends on purpose: a reset right after a message, and worse. */
import { connect, type Socket } from "node:net";

const frameTypes = { data: 0, headers: 1, resetStream: 3, settings: 4, windowUpdate: 8 } as const;
const endStream = 1;
const endHeaders = 4;

/** One connection. Streams are numbered 1, 3, 5, ... by whoever starts them. */
export class FrameClient implements Disposable {
  readonly socket: Socket;

  constructor(port: number) {
    this.socket = connect(port, "127.0.0.1");
    this.socket.resume();
    this.socket.on("error", () => this.socket.destroy());
    this.socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    this.#send(frameTypes.settings, 0, 0, Buffer.alloc(0));
  }

  /** Starts a call of gRPC, or any POST for which that is no hindrance. */
  start(path: string, streamId = 1): void {
    const headers = {
      ":method": "POST",
      ":scheme": "http",
      ":path": path,
      ":authority": "localhost",
      "content-type": "application/grpc+proto",
      te: "trailers",
    };
    // RFC 7541, section 6.2.2: a literal header, not indexed, not Huffman coded.
    const literals = Object.entries(headers).flatMap(([name, value]) => [
      Buffer.from([0, name.length]),
      Buffer.from(name),
      Buffer.from([value.length]),
      Buffer.from(value),
    ]);
    this.#send(frameTypes.headers, endHeaders, streamId, Buffer.concat(literals));
  }

  sendData(bytes: Buffer, options: { readonly isLast?: boolean; readonly streamId?: number } = {}): void {
    this.#send(frameTypes.data, options.isLast === true ? endStream : 0, options.streamId ?? 1, bytes);
  }

  resetStream(code: number, streamId = 1): void {
    this.#send(frameTypes.resetStream, 0, streamId, word(code));
  }

  /** Lets the server send so many more bytes on a stream; on stream 0, on the connection. */
  openWindow(bytes: number, streamId: number): void {
    this.#send(frameTypes.windowUpdate, 0, streamId, word(bytes));
  }

  /** Sends what is done within in one piece, as far as the system lets it. */
  inOnePiece(send: () => void): void {
    this.socket.cork();
    send();
    this.socket.uncork();
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }

  #send(type: number, flags: number, streamId: number, payload: Buffer): void {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head.writeUInt8(type, 3);
    head.writeUInt8(flags, 4);
    head.writeUInt32BE(streamId, 5);
    this.socket.write(Buffer.concat([head, payload]));
  }
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
