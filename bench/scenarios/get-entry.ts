/** GetEntry of 4 KiB at 64 callers of one scratchpad, against GetCheckpoint. */
import type { Scenario } from "../harness/measure.ts";
import { manyCallers, type Stage } from "../harness/stage.ts";

export async function getEntry(stage: Stage): Promise<Scenario> {
  const leasehold = await stage.leasehold("main");
  const [pad] = await stage.call(leasehold, { operation: "createScratchpad", stop: { calls: 1 } });
  const entries = Array.from({ length: manyCallers }, (_, place) => `${pad} key-${place}`);
  await stage.call(leasehold, { operation: "setEntry", inputs: entries, stop: "inputs" });
  const workflows = await stage.call(leasehold, { operation: "createCheckpoint", stop: { calls: manyCallers } });
  await stage.call(leasehold, { operation: "putCheckpoint", inputs: workflows, stop: "inputs" });
  const leg =
    (name: string, operation: "getEntry" | "getCheckpoint", inputs: readonly string[]) => async (seconds: number) => {
      const run = { operation, inputs, eachItsOwn: true, stop: { seconds } } as const;
      const { measure } = await stage.measure(leasehold, name, run);
      return new Map([[name, measure]]);
    };
  return {
    legs: [leg("get of a checkpoint", "getCheckpoint", workflows), leg("get of an entry", "getEntry", entries)],
    figures: [
      {
        title: "GetEntry of 4 KiB, 64 callers of one scratchpad, against GetCheckpoint of a workflow each",
        unit: "calls/s",
        subject: "get of an entry",
        baseline: "get of a checkpoint",
        atLeast: 1,
      },
    ],
  };
}
