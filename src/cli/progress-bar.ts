/** Owns the progress bar of a transfer: on a terminal's stderr, and nowhere else. */
import progress from "cli-progress";
import type { CallError } from "../client/call-error.ts";
import { note } from "./output.ts";
import { showBytes } from "./show-values.ts";

/** Shows how far a transfer is. */
export interface Progress {
  update(bytes: bigint): void;
  /** Says that the connection broke and is taken up again. */
  retry(error: CallError): void;
  stop(): void;
}

/** Starts to show a transfer of so many bytes. */
export function startProgress(what: string, totalBytes: bigint, asJson: boolean): Progress {
  if (asJson) {
    return { update: () => undefined, retry: () => undefined, stop: () => undefined };
  }
  return process.stderr.isTTY ? bar(what, totalBytes) : silent(what);
}

function silent(what: string): Progress {
  return {
    update: () => undefined,
    retry: (error) => note(`${what}: ${error.message}; trying again`),
    stop: () => undefined,
  };
}

function bar(what: string, totalBytes: bigint): Progress {
  const shown = new progress.SingleBar({
    stream: process.stderr,
    format: `${what} {bar} {percentage}% · {done} of ${showBytes(totalBytes)} · {eta_formatted} left{note}`,
    formatBar: progress.Format.BarFormat,
    barCompleteChar: "█",
    barIncompleteChar: "░",
    barsize: 24,
    etaBuffer: 50,
    hideCursor: false,
    // The library's own way leaves the process running after the first Ctrl-C.
    gracefulExit: false,
  });
  const end = (signal: NodeJS.Signals): void => {
    stop();
    process.kill(process.pid, signal);
  };
  const stop = (): void => {
    shown.stop();
    process.off("SIGINT", end);
    process.off("SIGTERM", end);
  };
  process.once("SIGINT", end);
  process.once("SIGTERM", end);
  // A bar of nothing is full from the start.
  shown.start(Math.max(Number(totalBytes), 1), 0, { done: showBytes(0n), note: "" });
  return {
    update: (bytes) => shown.update(totalBytes === 0n ? 1 : Number(bytes), { done: showBytes(bytes), note: "" }),
    retry: (error) => shown.update({ note: ` · ${error.reason}, trying again` }),
    stop,
  };
}
