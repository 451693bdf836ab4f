/** SetEntry of 4 KiB at 64 callers, in one scratchpad and in one each, against PutCheckpoint; and one entry that all change. */
import type { Scenario } from "../harness/measure.ts";
import { manyCallers, type Stage } from "../harness/stage.ts";

const places = Array.from({ length: manyCallers }, (_, place) => place);

export async function setEntry(stage: Stage): Promise<Scenario> {
  const leasehold = await stage.leasehold("main");
  const pads = await stage.call(leasehold, { operation: "createScratchpad", stop: { calls: manyCallers } });
  const workflows = await stage.call(leasehold, { operation: "createCheckpoint", stop: { calls: manyCallers } });
  const leg =
    (
      name: string,
      operation: "setEntry" | "putCheckpoint" | "appendToEntry" | "incrementEntry",
      inputs: readonly string[],
    ) =>
    async (seconds: number) => {
      const run = { operation, inputs, eachItsOwn: true, stop: { seconds } } as const;
      const { measure } = await stage.measure(leasehold, name, run);
      return new Map([[name, measure]]);
    };
  return {
    legs: [
      leg("put", "putCheckpoint", workflows),
      leg(
        "set in one",
        "setEntry",
        places.map((place) => `${pads[0]} key-${place}`),
      ),
      leg(
        "set in one each",
        "setEntry",
        pads.map((pad) => `${pad} key`),
      ),
      leg(
        "append to one",
        "appendToEntry",
        places.map(() => `${pads[1]} log`),
      ),
      leg(
        "increment one",
        "incrementEntry",
        places.map(() => `${pads[2]} counter`),
      ),
    ],
    figures: [
      {
        title: "SetEntry of 4 KiB, 64 callers of one scratchpad, against PutCheckpoint of a workflow each",
        unit: "calls/s",
        subject: "set in one",
        baseline: "put",
        atLeast: 1,
      },
      {
        title: "SetEntry of 4 KiB, 64 callers of a scratchpad each, against PutCheckpoint of a workflow each",
        unit: "calls/s",
        subject: "set in one each",
        baseline: "put",
        atLeast: 1,
      },
      { title: "AppendToEntry of 128 bytes, 64 callers of one entry", unit: "calls/s", latencyOf: "append to one" },
      { title: "IncrementEntry, 64 callers of one entry", unit: "calls/s", latencyOf: "increment one" },
    ],
  };
}
