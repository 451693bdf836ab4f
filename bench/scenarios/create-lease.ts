/** CreateLease of one account at 64 callers, with and without a request_id, against its echo. */
import type { FigureSpec, Scenario } from "../harness/measure.ts";
import { prepareEcho } from "../harness/prepare-echo.ts";
import type { Server, Stage } from "../harness/stage.ts";

export async function createLease(stage: Stage): Promise<Scenario> {
  const { leasehold, echo } = await prepareEcho(stage);
  const leg = (server: Server, name: string, operation: "createLease" | "createRepeatableLease") => {
    return async (seconds: number) => {
      const { measure } = await stage.measure(server, name, { operation, stop: { seconds } });
      return new Map([[name, measure]]);
    };
  };
  return {
    legs: [
      leg(echo, "create echo", "createLease"),
      leg(leasehold, "create", "createLease"),
      leg(echo, "repeatable create echo", "createRepeatableLease"),
      leg(leasehold, "repeatable create", "createRepeatableLease"),
    ],
    figures: [
      figure("CreateLease, one account, 64 callers", "create"),
      figure("CreateLease with request_id, one account, 64 callers", "repeatable create"),
    ],
  };
}

function figure(title: string, subject: string): FigureSpec {
  return { title, unit: "calls/s", subject, baseline: `${subject} echo`, atLeast: 0.4 };
}
