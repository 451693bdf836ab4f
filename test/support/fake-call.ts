/** A call for tests that hand requests straight to a service's implementation. */
import type { DescMethod } from "@bufbuild/protobuf";
import { AccountService } from "#gen/leasehold/v1/account_pb.js";
import type { LeaseholdError } from "../../src/errors/leasehold-error.ts";
import type { Call } from "../../src/server/call.ts";

/** What a test sets of a call. */
export interface FakeCallOptions {
  readonly bearer?: string | undefined;
  readonly headers?: Readonly<Record<string, string>>;
  readonly method?: DescMethod;
  readonly deadlineMs?: number;
  /** Aborts the call, as a deadline or a hang-up would. */
  readonly controller?: AbortController;
}

/** A call by a bearer, unbounded unless said otherwise. `abort` aborts its signal with the error as the reason. */
export function fakeCall(options: FakeCallOptions = {}): Call {
  const controller = options.controller ?? new AbortController();
  return {
    bearer: options.bearer,
    signal: controller.signal,
    deadlineMs: options.deadlineMs,
    method: options.method ?? AccountService.method.getAccount,
    abort: (error: LeaseholdError) => controller.abort(error),
    endWithDrain: () => undefined,
    header: (name: string) => options.headers?.[name],
  };
}
