/** How long a caller is willing to wait, as each protocol says it. */
import { LeaseholdError } from "../errors/leasehold-error.ts";

/** The headers that carry it: `grpc-timeout` for gRPC and gRPC-Web, `connect-timeout-ms` for Connect. */
export const timeoutHeaders = ["grpc-timeout", "connect-timeout-ms"] as const;

/**
 * Reads a timeout header's value, in milliseconds.
 *
 * @throws LeaseholdError MALFORMED_REQUEST
 */
export function parseTimeoutMs(name: (typeof timeoutHeaders)[number], value: string): number {
  const parts = (name === "grpc-timeout" ? grpcTimeout : connectTimeout).exec(value);
  if (parts?.[1] === undefined) {
    throw new LeaseholdError(
      "MALFORMED_REQUEST",
      `The header ${name} is not a timeout: send digits as its protocol says.`,
    );
  }
  return Number(parts[1]) * (unitsMs[parts[2] ?? "m"] ?? 1);
}

const grpcTimeout = /^(\d{1,8})([HMSmun])$/;
const connectTimeout = /^(\d{1,10})$/;
const unitsMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };
