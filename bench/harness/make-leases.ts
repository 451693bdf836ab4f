/** Makes leases to measure with, through the API and not measured. */
import type { Server, Stage } from "./stage.ts";

/** Active leases, each with a body of 1 KiB. */
export async function makeLeases(stage: Stage, server: Server, count: number): Promise<readonly string[]> {
  const inputs = await stage.call(server, { operation: "createLease", stop: { calls: count } });
  return await stage.call(server, { operation: "uploadSmall", inputs, stop: "inputs" });
}

/** A token for each of these leases, good for 1,000 claims. */
export async function issueWideHandoffs(
  stage: Stage,
  server: Server,
  leaseIds: readonly string[],
): Promise<readonly string[]> {
  return await stage.call(server, { operation: "issueWideHandoff", inputs: leaseIds, stop: "inputs" });
}
