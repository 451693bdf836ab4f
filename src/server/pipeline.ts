/** What every call goes through, once for both doors: drain, deadline, validation, errors, metrics and the log. */
import { randomUUID } from "node:crypto";
import { create, type Message } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Registry } from "prom-client";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import { ActiveCall, type CallObserver, type CallTarget, type Door, type Wire } from "./active-call.ts";
import { draining, headersTooLarge } from "./call-failures.ts";
import { CallLog } from "./call-log.ts";
import { CallMetrics } from "./call-metrics.ts";
import { codeName, entryOf } from "./error-to-wire.ts";
import { parseTimeoutMs, type timeoutHeaders } from "./request-timeout.ts";
import { RequestValidator } from "./request-validator.ts";
import type { MessageInit, MountedService, MountOptions, RpcMethod, RpcMethodOf } from "./service-implementation.ts";

/** What the pipeline is set up with. */
export interface PipelineOptions {
  readonly logger: Logger;
  readonly registry: Registry;
  /** How long a call with one request and one answer may take, in seconds. A caller's own deadline can only be sooner. */
  readonly callDeadlineSeconds: number;
  /** How long a peer may move nothing while the server waits for it, in seconds. */
  readonly stallSeconds: number;
  /** Of one message, after decompression, in bytes. */
  readonly maxMessageBytes: number;
  /** Of a request's headers together, in bytes. */
  readonly maxHeaderBytes: number;
}

/** Begins calls, runs their handlers and keeps count of them. */
export class Pipeline implements CallObserver {
  readonly #options: PipelineOptions;
  readonly #metrics: CallMetrics;
  readonly #log: CallLog;
  readonly #validator = new RequestValidator();
  readonly #open = new Set<ActiveCall>();
  #draining = false;
  #idle: PromiseWithResolvers<void> | undefined;

  constructor(options: PipelineOptions) {
    this.#options = options;
    this.#metrics = new CallMetrics(options.registry);
    this.#log = new CallLog(options.logger);
  }

  /** Compiles the rules of a service's requests. */
  prepare(service: MountedService): void {
    for (const method of service.methods) {
      this.#validator.compile(method.descriptor.input);
    }
  }

  /** Takes up a call. The wire must tell the call when it was answered and when it closed. */
  begin(target: CallTarget, door: Door, wire: Wire): ActiveCall {
    const call = new ActiveCall(target, door, wire, this, this.#options.stallSeconds * 1000);
    this.#open.add(call);
    this.#metrics.began(door);
    return call;
  }

  /**
   * Lets a call in, and sets its deadline. A stream has its caller's, if that gave one; the server bounds it by the
   * stall watch.
   *
   * @throws LeaseholdError DRAINING, BODY_TOO_LARGE for its headers, or MALFORMED_REQUEST for a timeout that is none.
   */
  admit(call: ActiveCall, timeoutHeader?: (typeof timeoutHeaders)[number]): void {
    if (this.#draining && !call.target.servedWhileDraining) {
      throw draining();
    }
    // HTTP/2 holds a peer to this only once that has acknowledged the settings, which it may put off for ever.
    if (call.headerBytes > this.#options.maxHeaderBytes) {
      throw headersTooLarge(this.#options.maxHeaderBytes, call.headerBytes);
    }
    const callerMs = timeoutHeader === undefined ? Number.POSITIVE_INFINITY : callerTimeoutMs(call, timeoutHeader);
    const serverMs =
      call.method.methodKind === "unary" ? this.#options.callDeadlineSeconds * 1000 : Number.POSITIVE_INFINITY;
    const deadlineMs = Math.min(callerMs, serverMs);
    if (deadlineMs !== Number.POSITIVE_INFINITY) {
      call.setDeadline(deadlineMs);
    }
  }

  /** Serves a call of one request and one answer. */
  async answerOne(method: RpcMethodOf<"unary">, request: Message, call: ActiveCall): Promise<Message> {
    await this.#check(method, request, call);
    return create(method.descriptor.output, await this.run(method, call, () => method.run(request, call)));
  }

  /** Serves a call of many requests and one answer. */
  async answerMany(
    method: RpcMethodOf<"client_streaming">,
    requests: AsyncIterable<Message>,
    call: ActiveCall,
  ): Promise<Message> {
    const answer = await this.run(method, call, () => method.run(this.#checked(method, requests, call), call));
    return create(method.descriptor.output, answer);
  }

  /** Serves a call of one request and many answers. */
  async *streamOne(
    method: RpcMethodOf<"server_streaming">,
    request: Message,
    call: ActiveCall,
  ): AsyncGenerator<Message> {
    await this.#check(method, request, call);
    yield* this.#stream(method, call, method.run(request, call));
  }

  /** Serves a call of many requests and many answers. */
  streamMany(
    method: RpcMethodOf<"bidi_streaming">,
    requests: AsyncIterable<Message>,
    call: ActiveCall,
  ): AsyncIterableIterator<Message> {
    return this.#stream(method, call, method.run(this.#checked(method, requests, call), call));
  }

  /** Runs a handler for a call: of an RPC, or of a plain route. */
  async run<T>(served: Served, call: ActiveCall, handle: () => Promise<T>): Promise<T> {
    call.enter();
    try {
      return await handle();
    } catch (error) {
      this.#noticeLate(call, error);
      throw await credentialFirst(served, call, error);
    } finally {
      call.leave();
    }
  }

  /** Fails a call with what its handler, or the way to it, threw. */
  fail(call: ActiveCall, thrown: unknown): LeaseholdError {
    if (call.failure !== undefined) {
      return call.failure;
    }
    const error = toLeaseholdError(thrown);
    call.fail(error);
    return error;
  }

  answered(call: ActiveCall): void {
    const durationMs = performance.now() - call.startMs;
    const { failure } = call;
    this.#metrics.answered(
      call.name,
      failure === undefined ? "ok" : codeName(entryOf(failure).code),
      call.door,
      durationMs,
    );
    if (failure !== undefined) {
      this.#log.failed(call, failure, durationMs);
    }
  }

  ended(call: ActiveCall): void {
    this.#open.delete(call);
    this.#resolveIdle();
  }

  get maxMessageBytes(): number {
    return this.#options.maxMessageBytes;
  }

  /** Whether new calls are refused. */
  get isDraining(): boolean {
    return this.#draining;
  }

  /**
   * Refuses new calls, waits at most so long for those under way, and then fails the rest with DRAINING. Those that have no
   * end of their own are failed at once.
   */
  async drain(graceMs: number): Promise<void> {
    this.#draining = true;
    for (const call of this.#open) {
      if (call.endsWithDrain) {
        call.fail(draining());
      }
    }
    this.#idle = Promise.withResolvers();
    const timeout = setTimeout(() => this.#idle?.resolve(), graceMs);
    this.#resolveIdle();
    await this.#idle.promise;
    clearTimeout(timeout);
    for (const call of this.#open) {
      call.fail(draining());
    }
  }

  #resolveIdle(): void {
    if (this.#open.size === 0) {
      this.#idle?.resolve();
    }
  }

  async *#checked(method: RpcMethod, requests: AsyncIterable<Message>, call: ActiveCall): AsyncGenerator<Message> {
    for await (const request of requests) {
      await this.#check(method, request, call);
      yield request;
    }
  }

  /** @throws LeaseholdError INVALID_FIELD, or what the credential is refused for: that comes first. */
  async #check(method: RpcMethod, request: Message, call: ActiveCall): Promise<void> {
    try {
      this.#validator.check(method.descriptor.input, request);
    } catch (error) {
      throw await credentialFirst(method, call, error);
    }
  }

  /** A handler's messages. Whatever ends the call ends them too: `return` reaches the handler's own `finally`. */
  #stream(method: RpcMethod, call: ActiveCall, messages: AsyncIterable<MessageInit>): AsyncIterableIterator<Message> {
    const iterator = messages[Symbol.asyncIterator]();
    let left = false;
    call.enter();
    const leave = async (): Promise<void> => {
      if (left) {
        return;
      }
      left = true;
      try {
        await iterator.return?.();
      } catch (error) {
        this.#noticeLate(call, error);
      } finally {
        call.leave();
      }
    };
    return {
      [Symbol.asyncIterator]() {
        return this;
      },
      next: async () => {
        try {
          const result = await call.interruptible(iterator.next());
          if (result.done !== true) {
            return { done: false, value: create(call.method.output, result.value) };
          }
        } catch (error) {
          void leave();
          throw await credentialFirst(method, call, error);
        }
        await leave();
        return { done: true, value: undefined };
      },
      return: async () => {
        await leave();
        return { done: true, value: undefined };
      },
    };
  }

  /** What a handler throws once its call has failed is that failure again, or an abort that follows from it, or news. */
  #noticeLate(call: ActiveCall, thrown: unknown): void {
    const isNews = !(thrown instanceof LeaseholdError) && !(thrown instanceof Error && thrown.name === "AbortError");
    if (call.failure !== undefined && isNews) {
      this.#log.failedLate(call, thrown);
    }
  }
}

function callerTimeoutMs(call: ActiveCall, header: (typeof timeoutHeaders)[number]): number {
  const value = call.header(header);
  return value === undefined ? Number.POSITIVE_INFINITY : parseTimeoutMs(header, value);
}

/** What nobody foresaw is a fault of the server, found in the log by a random id. */
function toLeaseholdError(thrown: unknown): LeaseholdError {
  if (thrown instanceof LeaseholdError && (thrown.reason !== "INTERNAL" || "incident" in thrown.metadata)) {
    return thrown;
  }
  const incident = randomUUID();
  return new LeaseholdError("INTERNAL", `The server failed: tell its operator the incident ${incident}.`, {
    metadata: { incident },
    cause: thrown,
  });
}

/** What is served: an RPC or a plain route. */
type Served = { readonly authenticate?: MountOptions["authenticate"] };

/** Codes of refusals that a handler may give before it has looked at the credential. */
const uncredentialed: ReadonlySet<Code> = new Set([Code.InvalidArgument, Code.NotFound]);

/** What a call is refused for: its credential, if that is refused too, which comes first. */
async function credentialFirst(served: Served, call: ActiveCall, error: unknown): Promise<unknown> {
  if (
    served.authenticate === undefined ||
    !(error instanceof LeaseholdError && uncredentialed.has(entryOf(error).code))
  ) {
    return error;
  }
  try {
    await served.authenticate(call);
    return error;
  } catch (refusal) {
    return refusal;
  }
}
