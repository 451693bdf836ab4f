/** Gives what grpc-js and Connect refuse by themselves its place in the error catalogue. */
import { Code, type ConnectError } from "@connectrpc/connect";
import type { LeaseholdError } from "../errors/leasehold-error.ts";
import { malformedRequest, messageTooLarge } from "./call-failures.ts";
import type { GrpcStatus } from "./error-to-wire.ts";

/** What grpc-js ends a call with before, or instead of, its handler. */
export function fromGrpcStatus(status: GrpcStatus, maxMessageBytes: number): LeaseholdError {
  return fromRefusal(Number(status.code), status.details ?? "", maxMessageBytes);
}

/** What Connect ends a call with before, or instead of, its handler. */
export function fromConnectError(error: ConnectError, maxMessageBytes: number): LeaseholdError {
  return fromRefusal(error.code, error.rawMessage, maxMessageBytes);
}

/** Both refuse requests only: for their size, or for what they could not read in them. */
function fromRefusal(code: number, text: string, maxMessageBytes: number): LeaseholdError {
  if (code === Code.ResourceExhausted) {
    // The sizes they name are the message's, where they know it, and the limit.
    const sizes = [...text.matchAll(/\d+/g)].map(([digits]) => Number(digits));
    return messageTooLarge(
      maxMessageBytes,
      sizes.find((size) => size > maxMessageBytes),
    );
  }
  return malformedRequest(text);
}
