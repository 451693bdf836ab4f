/** How long one caller waits for a set and for a get of an entry of 4 KiB, beside a Redis that syncs each write. */
import type { LatencySpec, Round, Scenario } from "../harness/measure.ts";
import type { Stage } from "../harness/stage.ts";

export async function oneCaller(stage: Stage): Promise<Scenario> {
  const leasehold = await stage.leasehold("main");
  const redis = await stage.redis();
  const [pad] = await stage.call(leasehold, { operation: "createScratchpad", stop: { calls: 1 } });
  const call = (operation: "setEntry" | "getEntry") => async (seconds: number) => {
    const run = { operation, inputs: [`${pad} key`], callers: 1, stop: { seconds } } as const;
    const { measure } = await stage.measure(leasehold, `one ${operation}`, run);
    return new Map([[operation, measure]]);
  };
  const callRedis = (operation: "set" | "get") => async (seconds: number) => {
    const measures: Round = new Map();
    if (redis === undefined) {
      return measures;
    }
    const run = { operation, inputs: ["key"], callers: 1, stop: { seconds } } as const;
    const { measure } = await stage.measurePeer(redis, `Redis ${operation}`, run);
    return new Map([[operation, measure]]);
  };
  const figure = (title: string, latencyOf: string, beside: string): LatencySpec =>
    redis === undefined
      ? { title: `${title} (there is no redis-server to show it beside)`, unit: "calls/s", latencyOf }
      : { title: `${title}, beside Redis ${beside.toUpperCase()}`, unit: "calls/s", latencyOf, beside };
  // In rounds that go backwards, gets come before sets.
  await call("setEntry")(0.1);
  await callRedis("set")(0.1);
  return {
    legs: [call("setEntry"), callRedis("set"), call("getEntry"), callRedis("get")],
    figures: [
      figure("SetEntry of 4 KiB, one caller", "setEntry", "set"),
      figure("GetEntry of 4 KiB, one caller", "getEntry", "get"),
    ],
  };
}
