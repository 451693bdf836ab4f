/** What a handler knows of the call it serves, the same through both doors. */
import type { DescMethod } from "@bufbuild/protobuf";
import type { LeaseholdError } from "../errors/leasehold-error.ts";

/** One call of an RPC, or of the plain route that is another form of it. */
export interface Call {
  /** The RPC. */
  readonly method: DescMethod;
  /** The credential of `authorization: Bearer`. */
  readonly bearer: string | undefined;
  /** Aborted, with a LeaseholdError as its reason, when the call ends early: deadline, hang-up, stall, drain, abort. */
  readonly signal: AbortSignal;
  /** How much time is left, in milliseconds. Undefined if the call has no deadline. */
  readonly deadlineMs: number | undefined;
  /** Ends the call now with this error, even while its peer takes nothing. Without effect once the call has ended. */
  abort(error: LeaseholdError): void;
  /** Says that the call goes on until somebody ends it: a server that drains does so at once, and does not wait for it. */
  endWithDrain(): void;
  /** A request header by its lower-case name. */
  header(name: string): string | undefined;
}
