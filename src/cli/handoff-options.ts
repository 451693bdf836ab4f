/** Owns the terms of a handoff as options, which `put` and `handoff` share. */
import { randomUUID } from "node:crypto";
import type { Command } from "commander";
import { Handoff_IncompleteClaimPolicy, type IssueHandoffResponse } from "#gen/leasehold/v1/handoff_pb.js";
import { isTransientCallError } from "../client/call-error.ts";
import type { Connection } from "../client/connection.ts";
import { Retries } from "../client/retries.ts";
import { parseCount, parseCountOrNone, parseDuration } from "./parse-values.ts";

/** What the options come to. */
export interface HandoffOptions {
  readonly maxClaims?: number;
  readonly ttl?: bigint;
  readonly deleteOnClaim?: boolean;
  readonly burnIncomplete?: boolean;
  readonly maxIncompleteClaims?: number;
  /** Of the handoff of a checkpoint. */
  readonly checkpointVersion?: bigint;
}

/** Adds the options. */
export function addHandoffOptions(command: Command): Command {
  return command
    .option("--max-claims <count>", "how often the token can be redeemed (default: 1)", parseCount)
    .option("--ttl <duration>", "how long the token lasts (default: as long as the lease)", parseDuration)
    .option("--delete-on-claim", "end the lease with the token's last claim")
    .option("--no-delete-on-claim", "keep the lease after the last claim, whatever the lease's own default is")
    .option("--burn-incomplete", "a claim that is not finished uses up its slot")
    .option("--max-incomplete-claims <count>", "how many unfinished claims give their slot back", parseCountOrNone);
}

/** Issues a token with these terms. Its request id makes that safe to repeat when the answer is lost. */
export async function issueHandoff(
  connection: Connection,
  leaseId: string,
  options: HandoffOptions,
  requestId: string = randomUUID(),
): Promise<IssueHandoffResponse> {
  const { RETURN, BURN } = Handoff_IncompleteClaimPolicy;
  return await new Retries().until(
    () =>
      connection.handoffs.issueHandoff({
        leaseId,
        requestId,
        maxClaims: options.maxClaims ?? 0,
        checkpointVersion: options.checkpointVersion ?? 0n,
        incompleteClaimPolicy: options.burnIncomplete === true ? BURN : RETURN,
        ...(options.ttl === undefined ? {} : { ttl: { seconds: options.ttl } }),
        ...(options.deleteOnClaim === undefined ? {} : { deleteOnClaim: options.deleteOnClaim }),
        ...(options.maxIncompleteClaims === undefined ? {} : { maxIncompleteClaims: options.maxIncompleteClaims }),
      }),
    isTransientCallError,
  );
}
