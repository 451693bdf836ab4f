/** Owns what a failed call tells its caller: the reason of the catalogue, whichever way the answer came. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import type { Reason } from "../errors/error-catalog.ts";

/** A reason of the catalogue; or CONNECTION_FAILED: no server answered; or UNEXPLAINED: it was no Leasehold that did. */
export type FailureReason = Reason | "CONNECTION_FAILED" | "UNEXPLAINED";

/** What a call failed with, besides its reason and message. */
export interface CallErrorOptions {
  /** The name of the gRPC code, as Connect's JSON has it: `not_found`. */
  readonly code?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly retryAfterMs?: number | undefined;
  readonly fieldViolations?: readonly { readonly field: string; readonly description: string }[];
  readonly cause?: unknown;
}

/** A call that failed. */
export class CallError extends Error {
  override readonly name = "CallError";
  readonly reason: FailureReason;
  readonly code: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryAfterMs: number | undefined;
  readonly fieldViolations: readonly { readonly field: string; readonly description: string }[];

  constructor(reason: FailureReason, message: string, options: CallErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.reason = reason;
    this.code = options.code ?? "unknown";
    this.metadata = options.metadata ?? {};
    this.retryAfterMs = options.retryAfterMs;
    this.fieldViolations = options.fieldViolations ?? [];
  }

  /** Whether the same call may succeed a moment later, and repeating it does no harm if it is safe to repeat at all. */
  get isTransient(): boolean {
    return transientReasons.has(this.reason) || this.code === "unavailable";
  }
}

const transientReasons: ReadonlySet<FailureReason> = new Set<FailureReason>([
  "CONNECTION_FAILED",
  "DATABASE_UNAVAILABLE",
  "DRAINING",
  "DEADLINE",
  "STALLED",
  "CANCELLED",
]);

/** Whether a call failed in a way that may pass. */
export function isTransientCallError(error: unknown): error is CallError {
  return error instanceof CallError && error.isTransient;
}

/** No server answered, or the connection broke before all of the answer was there. */
export function connectionFailed(baseUrl: string, cause: unknown): CallError {
  return new CallError("CONNECTION_FAILED", `${baseUrl} cannot be reached: ${describe(cause)}`, {
    code: "unavailable",
    cause,
  });
}

/** Connect's words for a stream whose connection was closed before its end. */
const brokenStream = "protocol error: missing EndStreamResponse";

/** What an RPC failed with. Anything that Connect did not throw is given back as it is. */
export function fromRpc(baseUrl: string, thrown: unknown): unknown {
  if (!(thrown instanceof ConnectError)) {
    return thrown;
  }
  const [info] = thrown.findDetails(ErrorInfoSchema);
  const code = Code[thrown.code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toLowerCase();
  if (info === undefined && thrown.rawMessage === brokenStream) {
    return connectionFailed(baseUrl, "the stream broke off");
  }
  if (info === undefined) {
    return thrown.cause === undefined || thrown.cause === null
      ? new CallError("UNEXPLAINED", `${baseUrl} does not answer as a Leasehold server: ${thrown.rawMessage}`, {
          code,
          cause: thrown,
        })
      : connectionFailed(baseUrl, thrown.cause);
  }
  const [retry] = thrown.findDetails(RetryInfoSchema);
  const violations = thrown.findDetails(BadRequestSchema).flatMap((request) => request.fieldViolations);
  return new CallError(info.reason as Reason, thrown.rawMessage, {
    code,
    metadata: info.metadata,
    retryAfterMs: retry?.retryDelay === undefined ? undefined : durationMs(retry.retryDelay),
    fieldViolations: violations.map(({ field, description }) => ({ field, description })),
    cause: thrown,
  });
}

/** What a plain HTTP route answered instead of a success: the JSON of `error-to-wire`, or something of a proxy's. */
export function fromHttp(baseUrl: string, status: number, body: string): CallError {
  const error = parseBody(body);
  return error === undefined
    ? new CallError("UNEXPLAINED", `${baseUrl} answered with HTTP ${status}`, {
        code: status === 502 || status === 503 || status === 504 ? "unavailable" : "unknown",
      })
    : new CallError(error.reason as Reason, error.message, error);
}

interface HttpErrorBody extends CallErrorOptions {
  readonly reason: string;
  readonly message: string;
}

function parseBody(body: string): HttpErrorBody | undefined {
  try {
    const parsed: unknown = JSON.parse(body);
    return isErrorBody(parsed) ? parsed : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) {
      return undefined;
    }
    throw error;
  }
}

function isErrorBody(value: unknown): value is HttpErrorBody {
  return (
    value instanceof Object &&
    "reason" in value &&
    "message" in value &&
    typeof value.reason === "string" &&
    typeof value.message === "string"
  );
}

/** Node reports a name with several addresses as one error without a message of its own. */
function describe(cause: unknown): string {
  if (cause instanceof AggregateError && cause.message === "") {
    return cause.errors.map(describe).join(", ");
  }
  return cause instanceof Error ? cause.message || cause.name : String(cause);
}
