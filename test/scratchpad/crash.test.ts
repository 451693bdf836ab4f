/** Promise 5 for scratchpads: an acknowledged change is never lost and never made twice, whenever the server is killed. */
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { ServerProcess } from "../support/server-process.ts";
import { Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { openPad, Worker } from "./pad.ts";

/** The server that goes on. The one that is killed is a process of its own beside it. */
const leasehold = await TestLeasehold.start();
const { databaseUrl } = leasehold;
const { dataDir } = leasehold.core.config;
const tenant = await Tenant.open(leasehold);
const { apiKey } = tenant.account;

test("what a killed server has acknowledged is there, and what it has not is done once by a repeat elsewhere", async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const leaseId = await openPad(tenant, {}, { sizeBytes: 16_777_216n });
  const there = new Worker(doomed, apiKey, leaseId);
  const here = new Worker(leasehold, apiKey, leaseId);
  const calls = Array.from({ length: 400 }, (_, index) => ({ index, requestId: randomUUID() }));
  const change = async (at: Worker, { index, requestId }: (typeof calls)[number]) => {
    switch (index % 3) {
      case 0:
        return await at.append("log", `${index},`, { requestId });
      case 1:
        return await at.increment("count", 1n, { requestId });
      default:
        return { version: await at.set(`key-${index}`, `${index}`, { requestId }) };
    }
  };
  const acknowledged = new Map<number, bigint>();
  const lost: typeof calls = [];
  await Promise.all(
    Array.from({ length: 8 }, async (_, caller) => {
      for (const call of calls.filter(({ index }) => index % 8 === caller)) {
        try {
          acknowledged.set(call.index, (await change(there, call)).version);
        } catch {
          lost.push(call);
        }
        if (acknowledged.size === 150) {
          await doomed.kill();
        }
      }
    }),
  );
  expect(lost.length).toBeGreaterThan(0);
  for (const call of lost) {
    acknowledged.set(call.index, (await change(here, call)).version);
  }
  const repeated = await Promise.all(
    calls.map(async (call) => [call.index, (await change(here, call)).version] as const),
  );
  expect(new Map(repeated)).toEqual(new Map([...acknowledged].sort(([a], [b]) => a - b)));
  expect(new Set(acknowledged.values()).size).toBe(calls.length);
  const logged = (await here.text("log")).split(",").filter((line) => line !== "");
  expect(logged.map(Number).sort((a, b) => a - b)).toEqual(
    calls.map(({ index }) => index).filter((index) => index % 3 === 0),
  );
  expect(await here.text("count")).toBe(`${calls.filter(({ index }) => index % 3 === 1).length}`);
  const set = Object.keys(await here.list("key-", 1_000));
  expect(set).toHaveLength(calls.filter(({ index }) => index % 3 === 2).length);
});
