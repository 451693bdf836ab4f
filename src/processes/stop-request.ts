/** Owns how a long-running process is asked to stop. */
import { hasParent } from "./parent-link.ts";

/** Being asked to stop, and being asked once more. */
export interface StopRequest {
  /** Resolves with what asked: a signal's name, or the loss of the parent. */
  readonly requested: Promise<string>;
  /** Resolves when somebody cannot wait for an orderly end. */
  readonly insisted: Promise<void>;
}

/**
 * Ctrl-C under npm comes twice: the terminal sends it to every process of the group, and npm passes its own on. Nobody
 * presses it twice within this time, in milliseconds.
 */
const sameKeyPressMs = 500;

/**
 * Listens for signals. A process that `leasehold dev` runs leaves Ctrl-C and a closed terminal to that, which knows the
 * order to stop in and sends SIGTERM; should it die without a word, that is a request too.
 */
export function listenForStop(): StopRequest {
  const requested = Promise.withResolvers<string>();
  const insisted = Promise.withResolvers<void>();
  let firstMs: number | undefined;
  const ask = (what: string, isRepeat: (elapsedMs: number) => boolean): void => {
    const nowMs = performance.now();
    if (firstMs === undefined) {
      firstMs = nowMs;
      requested.resolve(what);
    } else if (!isRepeat(nowMs - firstMs)) {
      insisted.resolve();
    }
  };
  process.on("SIGTERM", () => ask("SIGTERM", () => false));
  const onTerminal = (signal: string) => (): void => {
    if (!hasParent) {
      ask(signal, (elapsedMs) => elapsedMs < sameKeyPressMs);
    }
  };
  process.on("SIGINT", onTerminal("SIGINT"));
  process.on("SIGHUP", onTerminal("SIGHUP"));
  if (hasParent) {
    process.once("disconnect", () => ask("the end of its parent", () => true));
  }
  return { requested: requested.promise, insisted: insisted.promise };
}
