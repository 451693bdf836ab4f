/** PutCheckpoint of 4 KiB at 64 callers, each on its own workflow, against LangGraph's PostgresSaver. */
import type { Round, Scenario } from "../harness/measure.ts";
import { manyCallers, type Stage } from "../harness/stage.ts";

const threads = Array.from({ length: manyCallers }, (_, place) => `put-${place}`);

export async function putCheckpoint(stage: Stage): Promise<Scenario> {
  const leasehold = await stage.leasehold("main");
  const saver = await stage.postgresSaver();
  /** To leases and threads that are new, so that no round finds what the one before left. */
  const put = async (seconds: number): Promise<Round> => {
    const inputs = await stage.call(leasehold, { operation: "createCheckpoint", stop: { calls: manyCallers } });
    const run = { operation: "putCheckpoint", inputs, eachItsOwn: true, stop: { seconds } } as const;
    const { measure } = await stage.measure(leasehold, "put", run);
    await stage.call(leasehold, { operation: "deleteLease", inputs, stop: "inputs" });
    return new Map([["put", measure]]);
  };
  const putToPeer = async (seconds: number): Promise<Round> => {
    const run = { operation: "put", inputs: threads, eachItsOwn: true, stop: { seconds } } as const;
    const { measure } = await stage.measurePeer(saver, "PostgresSaver put", run);
    await stage.callPeer(saver, { operation: "deleteThread", inputs: threads, stop: "inputs" });
    return new Map([["PostgresSaver put", measure]]);
  };
  return {
    legs: [putToPeer, put],
    figures: [
      {
        title: "PutCheckpoint of 4 KiB, 64 callers with a workflow each, against PostgresSaver put",
        unit: "calls/s",
        subject: "put",
        baseline: "PostgresSaver put",
        atLeast: 2.5,
      },
    ],
  };
}
