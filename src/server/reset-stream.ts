/** Ends one HTTP/2 stream early. */
import { constants, type Http2Stream } from "node:http2";

/**
 * Resets a stream with CANCEL, off the stack of its session's callbacks: closing a stream that waits for its trailers
 * from within one was seen to abort the process (`Assertion failed: !this->is_destroyed()` in OnTrailers, Node 26.10).
 */
export function resetStream(stream: Http2Stream): void {
  setImmediate(() => stream.close(constants.NGHTTP2_CANCEL));
}
