/** GetCheckpoint at 64 callers, against LangGraph's PostgresSaver, and behind 10,000 puts against behind one. */
import type { Scenario } from "../harness/measure.ts";
import { manyCallers, type Stage } from "../harness/stage.ts";

/** How many versions each workflow and each thread was put, as many as are kept unless a lease says otherwise. */
const putsPerWorkflow = 10;
const manyPuts = 10_000;
/** Between rounds more are put, so that none finds the tables long cleaned. */
const putsPerRound = 1000;

const threads = Array.from({ length: manyCallers }, (_, place) => `get-${place}`);

export async function getCheckpoint(stage: Stage): Promise<Scenario> {
  const leasehold = await stage.leasehold("main");
  const saver = await stage.postgresSaver();
  const create = (count: number) => stage.call(leasehold, { operation: "createCheckpoint", stop: { calls: count } });
  /** Puts to one lease come one after the other, as a workflow's do. */
  const put = (leaseIds: readonly string[], times: number) => {
    const inputs = repeated(leaseIds, times);
    return stage.call(leasehold, { operation: "putCheckpoint", inputs, callers: leaseIds.length, stop: "inputs" });
  };
  const workflows = await create(manyCallers);
  await put(workflows, putsPerWorkflow);
  await stage.callPeer(saver, { operation: "put", inputs: repeated(threads, putsPerWorkflow), stop: "inputs" });
  const shallow = await create(1);
  await put(shallow, 1);
  const deep = await create(1);
  await put(deep, manyPuts);
  const get = (name: string, inputs: readonly string[]) => async (seconds: number) => {
    const run = { operation: "getCheckpoint", inputs, eachItsOwn: true, stop: { seconds } } as const;
    const { measure } = await stage.measure(leasehold, name, run);
    return new Map([[name, measure]]);
  };
  const getFromPeer = async (seconds: number) => {
    const run = { operation: "getTuple", inputs: threads, eachItsOwn: true, stop: { seconds } } as const;
    const { measure } = await stage.measurePeer(saver, "getTuple", run);
    return new Map([["getTuple", measure]]);
  };
  return {
    legs: [
      getFromPeer,
      get("get of many workflows", workflows),
      get("get behind one put", shallow),
      get("get behind many puts", deep),
    ],
    figures: [
      {
        title: "GetCheckpoint of 4 KiB, 64 callers with a workflow each, against PostgresSaver getTuple",
        unit: "calls/s",
        subject: "get of many workflows",
        baseline: "getTuple",
        atLeast: 4,
      },
      {
        title: `GetCheckpoint behind ${manyPuts} puts, 64 callers, against behind one`,
        unit: "calls/s",
        subject: "get behind many puts",
        baseline: "get behind one put",
        atLeast: 0.75,
      },
    ],
    reset: async () => {
      await put(deep, putsPerRound);
    },
  };
}

function repeated(names: readonly string[], times: number): readonly string[] {
  return Array.from({ length: times }, () => names).flat();
}
