/** Moves one body of 256 MiB and measures it, to and from the product and plain node:http. */
import { largeBodyBytes } from "./load-operations.ts";
import type { Round } from "./measure.ts";
import type { Run, Server, Stage } from "./stage.ts";

/** Where plain node:http keeps its one body. */
export const rawPath = "/body";

/** Where the product's plain HTTP keeps the body of a lease. */
export function contentPath(leaseId: string): string {
  return `/api/leases/${leaseId}/content`;
}

/** A lease for a body of this size. */
export async function makeLargeLease(stage: Stage, server: Server): Promise<string> {
  const [leaseId = ""] = await stage.call(server, { operation: "createLargeLease", stop: { calls: 1 } });
  return leaseId;
}

/** One transfer by one caller. `place`: a path, or a lease id over gRPC. */
export function one(operation: Run["operation"], place: string): Run {
  return { operation, inputs: [place], callers: 1, stop: "inputs" };
}

/** Measures one transfer, in MiB a second. */
export async function measureTransfer(stage: Stage, server: Server, name: string, run: Run): Promise<Round> {
  const { measure } = await stage.measure(server, name, run, largeBodyBytes / 2 ** 20);
  return new Map([[name, measure]]);
}
