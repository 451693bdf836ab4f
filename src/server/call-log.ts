/** Writes one line for each call that failed: never a token, never a body. */
import { Code } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { LeaseholdError } from "../errors/leasehold-error.ts";
import type { ActiveCall } from "./active-call.ts";
import { codeName, entryOf } from "./error-to-wire.ts";
import { redactTokens } from "./redact-tokens.ts";

/** Logs failures at the level that tells whose they are: the server's, the moment's, or the caller's. */
export class CallLog {
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** A call was answered with an error. */
  failed(call: ActiveCall, error: LeaseholdError, durationMs: number): void {
    const { code } = entryOf(error);
    const line = {
      method: call.name,
      door: call.door,
      peer: call.peer,
      code: codeName(code),
      reason: error.reason,
      metadata: error.metadata,
      durationMs: Math.round(durationMs * 10) / 10,
      ...(error.cause === undefined ? {} : { cause: describeCause(error.cause) }),
    };
    this.#logger[levelOf(code)](line, redactTokens(error.message));
  }

  /** A handler failed after its call had ended, so that nobody else will hear of it. */
  failedLate(call: ActiveCall, error: unknown): void {
    this.#logger.warn(
      { method: call.name, door: call.door, cause: describeCause(error) },
      "a handler failed after its call had ended",
    );
  }
}

function levelOf(code: Code): "error" | "warn" | "info" {
  switch (code) {
    case Code.Internal:
    case Code.Unknown:
    case Code.DataLoss:
      return "error";
    case Code.Unavailable:
      return "warn";
    default:
      return "info";
  }
}

/** A chain of causes longer than this says nothing new. */
const maxCauses = 4;
/** A driver's message may quote a statement with its values. */
const maxMessageLength = 500;

/** What a cause says of itself, and none of the other fields that libraries hang on their errors. */
function describeCause(cause: unknown, remaining = maxCauses): Record<string, unknown> {
  if (!(cause instanceof Error)) {
    return { message: redactTokens(String(cause).slice(0, maxMessageLength)) };
  }
  const stackLines = cause.stack?.split("\n").filter((line) => line.trimStart().startsWith("at "));
  return {
    name: cause.name,
    message: redactTokens(cause.message.slice(0, maxMessageLength)),
    ...("code" in cause ? { code: cause.code } : {}),
    ...(stackLines === undefined ? {} : { stack: stackLines.map((line) => line.trim()) }),
    ...(cause.cause === undefined || remaining <= 1 ? {} : { cause: describeCause(cause.cause, remaining - 1) }),
  };
}
