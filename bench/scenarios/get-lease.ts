/** GetLease of 1,000 leases at 64 callers, against its echo. */

import { makeLeases } from "../harness/make-leases.ts";
import type { Scenario } from "../harness/measure.ts";
import { prepareEcho } from "../harness/prepare-echo.ts";
import type { Server, Stage } from "../harness/stage.ts";

export async function getLease(stage: Stage): Promise<Scenario> {
  const { leasehold, echo } = await prepareEcho(stage);
  const inputs = await makeLeases(stage, leasehold, 1000);
  const leg = (server: Server, name: string) => async (seconds: number) => {
    const { measure } = await stage.measure(server, name, { operation: "getLease", inputs, stop: { seconds } });
    return new Map([[name, measure]]);
  };
  return {
    legs: [leg(echo, "get echo"), leg(leasehold, "get")],
    figures: [{ title: "GetLease, 64 callers", unit: "calls/s", subject: "get", baseline: "get echo", atLeast: 0.4 }],
  };
}
