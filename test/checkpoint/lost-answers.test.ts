/** A put of which the server is not told whether it was done leaves what may count on its file. */
import { randomBytes, randomUUID } from "node:crypto";
import { afterAll, expect, test } from "vitest";
import { seenReason } from "../server/seen-error.ts";
import { Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { WayToPostgres } from "../support/way-to-postgres.ts";
import { rowsOf, segmentFiles, Workflows } from "./workflow.ts";

const steady = await TestLeasehold.start();
const way = await WayToPostgres.open(steady.databaseUrl);
const shaken = await TestLeasehold.start({ beside: steady, way: async () => way.url });
afterAll(() => way.close());
const workflows = new Workflows(await Tenant.open(steady, 1_000_000_000n));
const { database } = steady;
const body = randomBytes(3_000_000);

test.each([
  ["without a request_id is OUTCOME_UNKNOWN", "", "OUTCOME_UNKNOWN"],
  ["with one is UNAVAILABLE, and found by a repeat", randomUUID(), "DATABASE_UNAVAILABLE"],
])("an upload whose answer was lost %s, and its version is whole", async (_, requestId, reason) => {
  const { leaseId } = await workflows.begin({}, { sizeBytes: 10_000_000n });
  const put = { leaseId, requestId };
  async function* messages() {
    yield { put, data: body.subarray(0, 2_000_000) };
    while ((await segmentFiles(steady, leaseId)).length === 0) {
      // The file is being begun, of which the server is told.
    }
    way.loseAnswers();
    yield { offset: 2_000_000n, data: body.subarray(2_000_000), finish: true };
  }
  const lost = seenReason(workflows.at(shaken).upload("native", messages()));
  while ((await rowsOf(database, leaseId)).versions === 0n) {
    // The row is the signal that the put has committed.
  }
  way.break();
  expect(await lost).toBe(reason);
  expect((await workflows.download("native", { leaseId })).equals(body)).toBe(true);
  if (requestId !== "") {
    expect((await workflows.put(leaseId, body, put)).version).toBe(1n);
  }
  expect(await segmentFiles(steady, leaseId)).toHaveLength(1);
});
