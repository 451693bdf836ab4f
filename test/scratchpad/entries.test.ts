import { describe, expect, test } from "vitest";
import { Lease_State, Lease_Variant, Lease_WriteAccess } from "#gen/leasehold/v1/lease_pb.js";
import { seenError, seenReason } from "../server/seen-error.ts";
import { Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { openPad, padOf, rowsOf, Worker } from "./pad.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);
const { apiKey } = tenant.account;

async function openWorkers(...asked: Parameters<typeof openPad> extends [unknown, ...infer Rest] ? Rest : never) {
  const leaseId = await openPad(tenant, ...asked);
  return { leaseId, worker: new Worker(leasehold, apiKey, leaseId), elsewhere: new Worker(other, apiKey, leaseId) };
}

describe("a scratchpad", () => {
  test("is active at once, with the limits it was asked for or the published ones", async () => {
    const { leaseId } = await openWorkers({ maxEntryBytes: 1_000 });
    const lease = await tenant.show(leaseId);
    expect(lease).toMatchObject({
      variant: Lease_Variant.SCRATCHPAD,
      state: Lease_State.ACTIVE,
      writeAccess: Lease_WriteAccess.OWNER,
    });
    expect(await padOf(tenant, leaseId)).toMatchObject({
      maxEntryBytes: 1_000,
      entryCount: 0n,
      usedBytes: 0n,
      version: 0n,
    });
    expect(await padOf(tenant, (await openWorkers()).leaseId)).toMatchObject({ maxEntryBytes: 1_048_576 });
    const small = await openWorkers({}, { sizeBytes: 2_048n });
    expect(await padOf(tenant, small.leaseId)).toMatchObject({ maxEntryBytes: 2_048 });
  });

  test("lasts at most as long as the pricing says for its variant", async () => {
    const refused = await seenError(openPad(tenant, {}, { duration: { seconds: 86_401n } }));
    expect(refused.details.ErrorInfo).toMatchObject({
      reason: "OUT_OF_BOUNDS",
      metadata: { field: "duration", max: "86400" },
    });
  });
});

describe("an entry", () => {
  test("is read as it was set, replaced and deleted, at any server, each change with the lease's next version", async () => {
    const { leaseId, worker, elsewhere } = await openWorkers();
    expect(await worker.set("plan", "one")).toBe(1n);
    expect(await elsewhere.set("plan", "two")).toBe(2n);
    expect(await worker.set("other", "")).toBe(3n);
    expect(await elsewhere.get("plan")).toMatchObject({ key: "plan", version: 2n, valueBytes: 3n });
    expect(await elsewhere.text("plan")).toBe("two");
    expect(await worker.text("other")).toBe("");
    expect(await worker.delete("plan")).toBe(4n);
    expect(await worker.delete("plan")).toBe(0n);
    expect(await seenReason(elsewhere.get("plan"))).toBe("NOT_FOUND");
    expect(await worker.set("plan", "three")).toBe(5n);
    expect(await elsewhere.text("plan")).toBe("three");
    expect(await padOf(tenant, leaseId)).toMatchObject({
      entryCount: 2n,
      usedBytes: BigInt(5 + 4 + 5 + 2 * 256),
      version: 5n,
    });
  });

  test("is a log that several workers write: nothing is lost, and each learns where its bytes are", async () => {
    const { leaseId, worker, elsewhere } = await openWorkers();
    const lines = Array.from({ length: 60 }, (_, index) => `line ${index}\n`);
    const answers = await Promise.all(
      lines.map((line, index) => (index % 2 === 0 ? worker : elsewhere).append("log", line)),
    );
    const log = await worker.text("log");
    expect(log).toHaveLength(lines.join("").length);
    for (const [index, { offset }] of answers.entries()) {
      expect(log.slice(Number(offset)).startsWith(lines[index] ?? "")).toBe(true);
    }
    expect(new Set(answers.map(({ version }) => version)).size).toBe(60);
    expect(await padOf(tenant, leaseId)).toMatchObject({ entryCount: 1n, version: 60n });
    await worker.set("log", "new");
    expect(await elsewhere.text("log")).toBe("new");
    expect(await rowsOf(database, leaseId)).toMatchObject({ scratchpad_append: 0, scratchpad_kept: 0 });
    expect((await padOf(tenant, leaseId)).usedBytes).toBe(BigInt(3 + 3 + 256));
  });

  test("is a counter that several workers increment: nothing is lost, and each answer is the only one of its value", async () => {
    const { worker, elsewhere } = await openWorkers();
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, index) => (index % 2 === 0 ? worker : elsewhere).increment("hits")),
    );
    expect(new Set(answers.map(({ value }) => value)).size).toBe(60);
    expect(new Set(answers.map(({ version }) => version)).size).toBe(60);
    for (const { version, value } of answers) {
      expect(version).toBe(value);
    }
    expect(await elsewhere.text("hits")).toBe("60");
    expect(await worker.increment("hits", -100n)).toEqual({ version: 61n, value: -40n });
  });
});
