/** Owns what a failed call means to the saver, and repeating calls that are safe to repeat. */
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.js";

/** Several seconds in all: a server that restarts is back by then. */
const maxFailures = 8;
const firstDelayMs = 100;
const longestDelayMs = 3_000;

/** What Leasehold says of a failure, as in `docs/errors.md`. The reason is undefined if it was not Leasehold that spoke. */
export interface Refusal {
  readonly reason: string | undefined;
  readonly metadata: Readonly<Record<string, string | undefined>>;
}

export function refusalOf(error: unknown): Refusal {
  const [info] = error instanceof ConnectError ? error.findDetails(ErrorInfoSchema) : [];
  return { reason: info?.reason, metadata: info?.metadata ?? {} };
}

/** Makes a call that is safe to repeat until it is answered. @throws what it was refused with, or the last failure. */
export async function untilAnswered<Answer>(call: () => Promise<Answer>): Promise<Answer> {
  for (let failures = 1; ; failures += 1) {
    try {
      return await call();
    } catch (error) {
      if (failures >= maxFailures || !mayPass(error)) {
        throw error;
      }
      const delayMs = Math.min(firstDelayMs * 2 ** (failures - 1), longestDelayMs);
      // Half of it by chance, so that the workers of a server that restarts do not come back as one.
      await delay(delayMs * (0.5 + Math.random() / 2));
    }
  }
}

/** Whether the server asked for another attempt, or the connection broke before there was an answer. */
function mayPass(error: unknown): boolean {
  if (!(error instanceof ConnectError)) {
    return false;
  }
  const broke = refusalOf(error).reason === undefined && error.cause !== undefined && error.cause !== null;
  return error.code === Code.Unavailable || broke;
}
