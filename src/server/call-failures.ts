/** The failures that the server itself gives a call, whatever the call was for. */
import { LeaseholdError } from "../errors/leasehold-error.ts";

/** The server is stopping. A second is enough for a load balancer to have another. */
export function draining(): LeaseholdError {
  return new LeaseholdError("DRAINING", "The server is stopping: repeat the call in a second.", { retryAfterMs: 1000 });
}

export function deadlineExceeded(deadlineMs: number): LeaseholdError {
  const seconds = `${deadlineMs / 1000}`;
  return new LeaseholdError("DEADLINE", `The call took longer than its deadline of ${seconds} s.`, {
    metadata: { deadline_seconds: seconds },
  });
}

export function stalled(stallMs: number): LeaseholdError {
  const seconds = `${stallMs / 1000}`;
  return new LeaseholdError("STALLED", `Nothing was sent or taken for ${seconds} s: resume from where it broke.`, {
    metadata: { stall_seconds: seconds },
  });
}

export function hungUp(cause?: unknown): LeaseholdError {
  return new LeaseholdError("CANCELLED", "The caller hung up.", { cause });
}

export function malformedRequest(what: string, cause?: unknown): LeaseholdError {
  return new LeaseholdError("MALFORMED_REQUEST", `The request could not be decoded: ${what}.`, { cause });
}

/** `valueBytes` is undefined where the size is not known, because the rest was not read. */
export function messageTooLarge(limitBytes: number, valueBytes?: number): LeaseholdError {
  const message = `A message is larger than ${limitBytes} bytes: send less in each message.`;
  return tooLarge("max_message_bytes", message, limitBytes, valueBytes);
}

export function headersTooLarge(limitBytes: number, valueBytes: number): LeaseholdError {
  const message = `The request's headers are larger than ${limitBytes} bytes: send fewer or shorter ones.`;
  return tooLarge("max_header_bytes", message, limitBytes, valueBytes);
}

function tooLarge(limit: string, message: string, limitBytes: number, valueBytes: number | undefined): LeaseholdError {
  return new LeaseholdError("BODY_TOO_LARGE", message, {
    metadata: {
      limit,
      limit_bytes: `${limitBytes}`,
      ...(valueBytes === undefined ? {} : { value_bytes: `${valueBytes}` }),
    },
  });
}

export function unknownMethod(name: string): LeaseholdError {
  return new LeaseholdError("UNKNOWN_METHOD", `There is no ${name}: check the name and the server's version.`);
}
