/** How late 10,000 Cron leases are delivered that are due at one moment, by one sweeper. */
import { setTimeout as delay } from "node:timers/promises";
import { awaitFirings } from "../harness/firing-lag.ts";
import { makeMailboxes } from "../harness/make-mailboxes.ts";
import type { Scenario } from "../harness/measure.ts";
import type { LeaseholdServer, Stage } from "../harness/stage.ts";

const count = 10_000;
const mailboxCount = 100;
/** How long making the leases may take, at first. */
const firstMakingMs = 15_000;
/** How much longer than the last time it may take. */
const spareFactor = 2;
const spareMs = 5000;

export async function fireCrons(stage: Stage): Promise<Scenario> {
  // A database of its own: the sweeper has nothing else to do, and others do not meet it.
  const leasehold = await stage.leasehold("cron");
  const sweeper = stage.sweeperOf(leasehold);
  const mailboxes = await makeMailboxes(stage, leasehold, mailboxCount);
  let makingMs = firstMakingMs;
  const fire = async () => {
    const dueSeconds = Math.ceil((Date.now() + makingMs * spareFactor + spareMs) / 1000);
    const inputs = Array.from({ length: count }, (_, place) => {
      return `${mailboxes[place % mailboxCount]?.leaseId} ${dueSeconds}`;
    });
    makingMs = await makeCrons(stage, leasehold, inputs);
    await delay(dueSeconds * 1000 - Date.now());
    const firings = { databaseUrl: leasehold.databaseUrl, dueSeconds, count };
    const measure = await stage.measureWork([sweeper], "fire", () => awaitFirings(firings));
    return new Map([["fire", measure]]);
  };
  return {
    legs: [fire],
    figures: [
      {
        title: `${count} Cron leases due at one moment, into ${mailboxCount} mailboxes: from due to delivered`,
        unit: "messages/s",
        latencyOf: "fire",
      },
    ],
  };
}

/** How long it took, in milliseconds. */
async function makeCrons(stage: Stage, server: LeaseholdServer, inputs: readonly string[]): Promise<number> {
  const startMs = performance.now();
  await stage.call(server, { operation: "createCron", inputs, stop: "inputs" });
  return performance.now() - startMs;
}
