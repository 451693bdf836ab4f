/** ClaimHandoff of 1 KiB with a request_id at 64 callers, against its echo: each of another token, and all of one. */

import { issueWideHandoffs, makeLeases } from "../harness/make-leases.ts";
import type { FigureSpec, Scenario } from "../harness/measure.ts";
import { prepareEcho } from "../harness/prepare-echo.ts";
import { manyCallers, type Server, type Stage } from "../harness/stage.ts";

/** How many claims a token is good for, which is as many as any can be. */
const claimsPerToken = 1000;
/** More claims than can be made in a second. */
const claimsPerSecond = 10_000;

export async function claimHandoff(stage: Stage): Promise<Scenario> {
  const { leasehold, echo } = await prepareEcho(stage);
  const leaseIds = await makeLeases(stage, leasehold, manyCallers);
  /** Tokens for so many seconds of claims, in the order of `arrange`, which are spent by the run. */
  const leg = (server: Server, name: string, arrange: (tokens: readonly string[]) => readonly string[]) => {
    return async (seconds: number) => {
      const needed = Math.max(manyCallers, Math.ceil((seconds * claimsPerSecond) / claimsPerToken));
      const leases = Array.from({ length: needed }, (_, at) => leaseIds[at % leaseIds.length] ?? "");
      const inputs = arrange(await issueWideHandoffs(stage, leasehold, leases));
      const { measure } = await stage.measure(server, name, { operation: "claimHandoff", inputs, stop: { seconds } });
      return new Map([[name, measure]]);
    };
  };
  return {
    legs: [
      leg(echo, "claim echo", inTurn),
      leg(leasehold, "claim", inTurn),
      leg(echo, "claim of one token echo", oneAfterTheOther),
      leg(leasehold, "claim of one token", oneAfterTheOther),
    ],
    figures: [
      figure("ClaimHandoff of 1 KiB, 64 callers with a token each", "claim"),
      figure("ClaimHandoff of 1 KiB, 64 callers with one token", "claim of one token"),
    ],
  };
}

/** Each call takes the next token. */
function inTurn(tokens: readonly string[]): readonly string[] {
  return tokens;
}

/** All calls take the same token, until that is used up. */
function oneAfterTheOther(tokens: readonly string[]): readonly string[] {
  return tokens.flatMap((token) => Array.from({ length: claimsPerToken }, () => token));
}

function figure(title: string, subject: string): FigureSpec {
  return { title, unit: "calls/s", subject, baseline: `${subject} echo`, atLeast: 0.35 };
}
