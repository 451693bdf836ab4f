/** Owns that a stream ends with its reader: Connect leaves the connection open if a reader stops early. */
import type { CallOptions } from "@connectrpc/connect";

/** Opens a stream without a deadline, and hangs up as soon as nobody reads it any more, or the signal says so. */
export async function* closingStream<Message>(
  open: (options: CallOptions) => AsyncIterable<Message>,
  options: CallOptions = {},
): AsyncGenerator<Message, void> {
  const hangUp = new AbortController();
  const signal = options.signal === undefined ? hangUp.signal : AbortSignal.any([options.signal, hangUp.signal]);
  try {
    yield* open({ ...options, signal, timeoutMs: 0 });
  } finally {
    hangUp.abort();
  }
}
