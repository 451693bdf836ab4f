/** Tells HTTP/2 from HTTP/1.1 on a plaintext connection by its first bytes. Node has no such fallback of its own. */
import type { Socket } from "node:net";

/** RFC 9113, section 3.4: no HTTP/1.1 request starts so. */
const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** Reads until the protocol is certain, puts what it read back, and decides. A connection that says too little in time is closed. */
export function sniffProtocol(socket: Socket, timeoutMs: number, decide: (protocol: "http1" | "http2") => void): void {
  let head: Buffer = Buffer.alloc(0);
  const timeout = setTimeout(() => socket.destroy(), timeoutMs);
  const stop = () => {
    clearTimeout(timeout);
    socket.off("readable", look);
    socket.off("close", stop);
  };
  const look = () => {
    const bytes: Buffer | null = socket.read();
    if (bytes === null) {
      if (socket.readableEnded) {
        socket.destroy();
      }
      return;
    }
    head = Buffer.concat([head, bytes]);
    const length = Math.min(head.length, preface.length);
    const isAlike = head.subarray(0, length).equals(preface.subarray(0, length));
    if (isAlike && length < preface.length) {
      return;
    }
    stop();
    socket.unshift(head);
    decide(isAlike ? "http2" : "http1");
  };
  socket.on("readable", look);
  socket.once("close", stop);
}
