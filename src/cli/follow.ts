/** Owns how a stream is read that has no end: over as many connections as it takes, until Ctrl-C. */
import type { CallOptions } from "@connectrpc/connect";
import { CallError, isTransientCallError } from "../client/call-error.ts";
import { closingStream } from "../client/closing-stream.ts";
import { endlessRetryPolicy, Retries } from "../client/retries.ts";

/** A stream to be followed. */
export interface Followed<Response> {
  /** Opens it. Called again, after a while, whenever it broke. */
  open(options: CallOptions): AsyncIterable<Response>;
  /** Handles what came. It is not interrupted by Ctrl-C. */
  each(response: Response): Promise<void>;
  readonly onRetry: (error: CallError) => void;
}

/**
 * Returns at the first Ctrl-C, when what came last is handled; a second one ends the process. Until the server has
 * answered once, the stream is tried as often as any other call, and then for ever.
 *
 * @throws CallError if the server refuses; whatever `each` throws.
 */
export async function follow<Response>(followed: Followed<Response>): Promise<void> {
  const stop = new AbortController();
  const interrupt = () => stop.abort();
  process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
  let retries = new Retries(undefined, followed.onRetry);
  const endless = new Retries(endlessRetryPolicy, followed.onRetry);
  const onHeader = () => {
    retries = endless;
  };
  try {
    while (!stop.signal.aborted) {
      try {
        for await (const response of closingStream(followed.open, { signal: stop.signal, onHeader })) {
          retries.progressed();
          await followed.each(response);
        }
        throw new CallError("CONNECTION_FAILED", "The server ended the stream", { code: "unavailable" });
      } catch (error) {
        if (!stop.signal.aborted) {
          await waitAfter(error, retries, stop.signal);
        }
      }
    }
  } finally {
    process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
  }
}

async function waitAfter(error: unknown, retries: Retries, signal: AbortSignal): Promise<void> {
  if (!isTransientCallError(error)) {
    throw error;
  }
  try {
    await retries.wait(error, signal);
  } catch (thrown) {
    if (!signal.aborted) {
      throw thrown;
    }
  }
}
