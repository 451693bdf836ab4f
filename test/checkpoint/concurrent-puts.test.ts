/** Promise 6: of puts with the same expected_version exactly one succeeds, and every acknowledged put is a version of its own. */
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { Lease } from "#gen/leasehold/v1/lease_pb.js";
import { seenReason } from "../server/seen-error.ts";
import { callsGathered } from "../support/calls-in-flight.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { rowsOf, segmentFiles, Workflows } from "./workflow.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const tenant = await Tenant.open(leasehold, 1_000_000_000n);
const here = new Workflows(tenant);
const there = here.at(other);
const { database } = leasehold;

/** Runs work while leases are locked, and so every put to them waits. */
async function whileLocked<Value>(leaseIds: readonly string[], work: () => Promise<Value>): Promise<Value> {
  return await database.transaction(async (transaction) => {
    await query(transaction, "select from lease where lease_id = any($1::uuid[]) for update", [
      leaseIds.map(leaseUuid),
    ]);
    return await work();
  });
}

const idsOf = (leases: readonly Lease[]) => leases.map(({ leaseId }) => leaseId);

test("of two puts with one expected_version that wait for the lock at two servers, one succeeds and one is refused", async () => {
  const { leaseId } = await here.begin();
  await here.put(leaseId, "first");
  const outcomes = await whileLocked([leaseId], async () => {
    const puts = [here, there].map((at) => at.put(leaseId, "second", { expectedVersion: 1n }));
    await lockWaiters(database, 2);
    return { puts };
  });
  const settled = await Promise.allSettled(outcomes.puts);
  expect(settled.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  const refused = settled.find((outcome) => outcome.status === "rejected");
  expect(await seenReason(Promise.reject(refused?.reason))).toBe("VERSION_MISMATCH");
  expect((await here.get(leaseId)).version).toBe(2n);
});

test("many workers over two servers that each go on from what they last saw lose no step", async () => {
  const { leaseId } = await here.begin({ retainedVersions: 1 });
  await here.put(leaseId, "0");
  const steps = 10;
  await Promise.all(
    Array.from({ length: 8 }, async (_, worker) => {
      const at = worker % 2 === 0 ? here : there;
      for (let done = 0; done < steps; ) {
        const { version, body } = await at.get(leaseId);
        const next = `${Number(Buffer.from(body).toString()) + 1}`;
        const put = at.put(leaseId, next, { expectedVersion: version }).then(() => "done");
        done += (await put.catch(() => "late")) === "done" ? 1 : 0;
      }
    }),
  );
  expect(await here.text(leaseId)).toBe(`${8 * steps}`);
  expect((await here.get(leaseId)).version).toBe(BigInt(8 * steps + 1));
});

describe("puts that gather behind a statement that waits", () => {
  test("to different leases are each done, and to one lease are done one after the other", async () => {
    const leases = await Promise.all(Array.from({ length: 6 }, () => here.begin()));
    const { puts } = await whileLocked(idsOf(leases), async () => {
      const puts = leases.flatMap(({ leaseId }) => ["a", "b", "c"].map((body) => here.put(leaseId, body)));
      await lockWaiters(database, 1);
      await callsGathered(leasehold, puts.length);
      return { puts };
    });
    const versions = (await Promise.all(puts)).map(({ version }) => version);
    for (let lease = 0; lease < leases.length; lease++) {
      expect(versions.slice(lease * 3, lease * 3 + 3).sort()).toEqual([1n, 2n, 3n]);
    }
  });

  test("a refused one fails alone", async () => {
    const [first, good, gone] = await Promise.all([here.begin(), here.begin(), here.begin()]);
    const leases = idsOf([first, good, gone]);
    await Promise.all(leases.map((leaseId) => here.put(leaseId, "warm")));
    await tenant.age(gone.leaseId, 3_600);
    const { puts } = await whileLocked(leases, async () => {
      const puts = [
        here.put(first.leaseId, "first").then(({ version }) => `${version}`),
        seenReason(here.put(gone.leaseId, "late")),
        seenReason(here.put(good.leaseId, "stale", { expectedVersion: 7n })),
        here.put(good.leaseId, "good", { expectedVersion: 1n }).then(({ version }) => `${version}`),
      ];
      await lockWaiters(database, 1);
      await callsGathered(leasehold, puts.length);
      return { puts };
    });
    expect(await Promise.all(puts)).toEqual(["2", "LEASE_ENDED", "VERSION_MISMATCH", "2"]);
  });
});

test("a put that waits while others push out what it cannot see leaves no more than retained_versions, and no file", async () => {
  const { leaseId } = await here.begin({ retainedVersions: 1 });
  await here.put(leaseId, Buffer.alloc(200_000, 1));
  const { puts } = await whileLocked([leaseId], async () => {
    const puts = [here.put(leaseId, Buffer.alloc(300_000, 2)), there.put(leaseId, Buffer.alloc(400_000, 3))];
    // Each has begun its file, which takes the same lock, or waits to.
    await lockWaiters(database, 2);
    return { puts };
  });
  await Promise.all(puts);
  expect(await rowsOf(database, leaseId)).toMatchObject({ versions: 1n, files: 0n });
  expect(await segmentFiles(leasehold, leaseId)).toHaveLength(1);
});

test("small puts that wait at two servers leave retained_versions of them", async () => {
  const { leaseId } = await here.begin({ retainedVersions: 1 });
  await Promise.all([here.put(leaseId, "warm"), there.put(leaseId, "warm")]);
  const { puts } = await whileLocked([leaseId], async () => {
    const puts = [here.put(leaseId, "one"), there.put(leaseId, "two")];
    await lockWaiters(database, 2);
    return { puts };
  });
  await Promise.all(puts);
  expect(await rowsOf(database, leaseId)).toMatchObject({ versions: 1n });
  expect((await here.get(leaseId)).version).toBe(4n);
});

test("twins of a put that wait for the lock at two servers are one version, and both are told of it", async () => {
  const { leaseId } = await here.begin();
  await Promise.all([here.put(leaseId, "warm"), there.put(leaseId, "warm")]);
  const requestId = randomUUID();
  const { puts } = await whileLocked([leaseId], async () => {
    const puts = [here, there].map((at) => at.put(leaseId, "twin", { requestId, expectedVersion: 2n }));
    await lockWaiters(database, 2);
    return { puts };
  });
  const versions = (await Promise.all(puts)).map(({ version }) => version);
  expect(versions).toEqual([3n, 3n]);
  expect((await here.get(leaseId)).version).toBe(3n);
});
