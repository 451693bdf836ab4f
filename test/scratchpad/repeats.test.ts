/** A change of an entry whose answer was lost is found again by its request_id. */
import { randomUUID } from "node:crypto";
import { inspect } from "node:util";
import { expect, test } from "vitest";
import { seenError, seenReason } from "../server/seen-error.ts";
import { Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { openPad, padOf, Worker } from "./pad.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);
const { apiKey } = tenant.account;
const leaseId = await openPad(tenant);
const worker = new Worker(leasehold, apiKey, leaseId);
const elsewhere = new Worker(other, apiKey, leaseId);

test("a repeated set gives the first version again, and undoes nothing that came after it", async () => {
  const requestId = randomUUID();
  const first = await worker.set("set", "one", { requestId, expectedVersion: 0n });
  await worker.set("set", "two");
  expect(await elsewhere.set("set", "one", { requestId, expectedVersion: 0n })).toBe(first);
  expect(await worker.text("set")).toBe("two");
});

test("a repeated append adds nothing, and tells where its bytes are", async () => {
  const requestId = randomUUID();
  await worker.append("log", "zero,");
  const first = await worker.append("log", "one,", { requestId });
  await worker.append("log", "two,");
  expect(await elsewhere.append("log", "one,", { requestId })).toEqual(first);
  expect(first.offset).toBe(5n);
  expect(await worker.text("log")).toBe("zero,one,two,");
});

test("a repeated increment adds nothing, and gives the value it had come to", async () => {
  const requestId = randomUUID();
  await worker.increment("hits", 5n);
  const first = await worker.increment("hits", 2n, { requestId });
  await elsewhere.increment("hits", 100n);
  expect(await elsewhere.increment("hits", 2n, { requestId })).toEqual(first);
  expect(first.value).toBe(7n);
  expect(await worker.text("hits")).toBe("107");
});

test("a repeated delete deletes nothing that was made since, also if it found nothing the first time", async () => {
  const [gone, absent] = [randomUUID(), randomUUID()];
  await worker.set("delete", "one");
  const first = await worker.delete("delete", { requestId: gone });
  expect(await worker.delete("delete", { requestId: absent })).toBe(0n);
  await worker.set("delete", "two");
  expect(await elsewhere.delete("delete", { requestId: gone })).toBe(first);
  expect(await elsewhere.delete("delete", { requestId: absent })).toBe(0n);
  expect(await worker.text("delete")).toBe("two");
});

test("twins that arrive together at two servers do their work once, and both get its answer", async () => {
  const before = (await padOf(tenant, leaseId)).version;
  const requestIds = Array.from({ length: 20 }, () => randomUUID());
  const twice = (work: (at: Worker, requestId: string) => Promise<unknown>) =>
    Promise.all(
      requestIds.flatMap((requestId) =>
        [worker, elsewhere, worker].map(async (at) => ({ requestId, answer: await work(at, requestId) })),
      ),
    );
  const done = [
    ...(await twice((at, requestId) => at.append("twins", "x", { requestId }))),
    ...(await twice((at, requestId) => at.increment("count", 1n, { requestId }))),
    ...(await twice((at, requestId) => at.set(`set ${requestId}`, "x", { requestId }))),
  ];
  for (const [requestId, answers] of Map.groupBy(done, ({ requestId }) => requestId)) {
    const told = answers.map(({ answer }) => inspect(answer));
    expect(new Set(told).size, requestId).toBe(3);
  }
  expect(await worker.text("twins")).toBe("x".repeat(20));
  expect(await worker.text("count")).toBe("20");
  expect((await padOf(tenant, leaseId)).version).toBe(before + 60n);
});

test.each([
  ["value", (requestId: string) => worker.set("field", "other", { requestId })],
  ["key", (requestId: string) => worker.set("another", "value", { requestId })],
  ["ttl", (requestId: string) => worker.set("field", "value", { requestId, ttl: { seconds: 60n } })],
  ["expected_version", (requestId: string) => worker.set("field", "value", { requestId, expectedVersion: 99n })],
])("the request_id with another %s is refused, and the field named", async (field, again) => {
  const requestId = randomUUID();
  await worker.set("field", "value", { requestId });
  const refused = await seenError(again(requestId));
  expect(refused.details.ErrorInfo).toMatchObject({ reason: "REQUEST_ID_REUSED", metadata: { field } });
});

test("the same request_id for another scratchpad or another kind of change is another call", async () => {
  const requestId = randomUUID();
  await worker.set("scope", "1", { requestId });
  const elsewherePad = new Worker(leasehold, apiKey, await openPad(tenant));
  expect(await elsewherePad.set("scope", "other", { requestId })).toBe(1n);
  expect((await worker.increment("scope", 1n, { requestId })).value).toBe(2n);
});

test("a refusal is not remembered: the same call may succeed later", async () => {
  const requestId = randomUUID();
  expect(await seenReason(worker.set("later", "x", { requestId, expectedVersion: 9_999n }))).toBe("VERSION_MISMATCH");
  await worker.set("later", "not a number");
  expect(await seenReason(worker.increment("later", 1n, { requestId }))).toBe("NOT_A_COUNTER");
  await worker.set("later", "41");
  expect((await worker.increment("later", 1n, { requestId })).value).toBe(42n);
});

test("what a record keeps of an increment is sealed, and is forgotten with its window", async () => {
  const requestId = randomUUID();
  await worker.set("secret", "1234567890123456788");
  await worker.increment("secret", 1n, { requestId });
  const [row] = await query<{ answer: Buffer }>(
    database,
    `update idempotency set create_time = create_time - interval '601 seconds' where request_id = $1 returning answer`,
    [requestId],
  );
  const clear = Buffer.alloc(8);
  clear.writeBigInt64BE(1_234_567_890_123_456_789n);
  expect(row?.answer.includes(clear)).toBe(false);
  await leasehold.sweep();
  expect((await worker.increment("secret", 1n, { requestId })).value).toBe(1_234_567_890_123_456_790n);
});
