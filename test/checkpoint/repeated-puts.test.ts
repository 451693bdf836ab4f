/** A put whose answer was lost is found again by its request_id, whatever has happened since. */
import { randomBytes, randomUUID } from "node:crypto";
import { expect, test, vi } from "vitest";
import { findPut } from "../../src/checkpoint/put-checkpoints-statement.ts";
import { seenError, seenReason } from "../server/seen-error.ts";
import { doors, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { checkpointOf, rowsOf, segmentFiles, uploadOf, Workflows } from "./workflow.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold, 1_000_000_000n);
const workflows = new Workflows(tenant);
const { database } = leasehold;

test("a repeat gives the same version again, however its lease is named, and writes nothing", async () => {
  const lease = await workflows.begin();
  const { leaseId } = lease;
  const { workflowId } = checkpointOf(lease);
  const request = { requestId: randomUUID(), contentType: "text/plain", metadata: { step: "1" } };
  const first = await workflows.put(leaseId, "body", request);
  expect(await workflows.put(leaseId, "body", request)).toEqual(first);
  expect(await workflows.put("", "body", { ...request, workflowId })).toEqual(first);
  expect(await workflows.put(leaseId, "body", { ...request, requestId: request.requestId.toUpperCase() })).toEqual(
    first,
  );
  expect(await rowsOf(database, leaseId)).toMatchObject({ versions: 1n });
});

test("a repeat of a version that was pushed out since gives that version again", async () => {
  const { leaseId } = await workflows.begin({ retainedVersions: 1 });
  const requestId = randomUUID();
  const first = await workflows.put(leaseId, "body", { requestId });
  await workflows.put(leaseId, "later");
  expect(await workflows.put(leaseId, "body", { requestId })).toEqual(first);
  expect((await workflows.get(leaseId)).version).toBe(2n);
});

test("a repeat with an expected_version that would not match any more succeeds again", async () => {
  const { leaseId } = await workflows.begin();
  const request = { requestId: randomUUID(), expectedVersion: 0n };
  const first = await workflows.put(leaseId, "body", request);
  await workflows.put(leaseId, "later");
  expect(await workflows.put(leaseId, "body", request)).toEqual(first);
});

test.each([
  ["body", { body: Buffer.from("other") }],
  ["content_type", { contentType: "text/html" }],
  ["metadata", { metadata: { other: "1" } }],
  ["expected_version", { expectedVersion: 0n }],
])("the request_id with another %s is refused, and the field named", async (field, change) => {
  const { leaseId } = await workflows.begin();
  const requestId = randomUUID();
  await workflows.put(leaseId, "body", { requestId });
  const refused = await seenError(workflows.put(leaseId, "body", { requestId, ...change }));
  expect(refused.details.ErrorInfo).toMatchObject({ reason: "REQUEST_ID_REUSED", metadata: { field } });
});

test("the same request_id for another lease is another put", async () => {
  const [a, b] = await Promise.all([workflows.begin(), workflows.begin()]);
  const requestId = randomUUID();
  await workflows.put(a.leaseId, "of a", { requestId });
  await workflows.put(b.leaseId, "of b", { requestId });
  expect([await workflows.text(a.leaseId), await workflows.text(b.leaseId)]).toEqual(["of a", "of b"]);
});

test.each(doors)(
  "a repeat of an upload through the %s door gives the version again and leaves no second file",
  async (door) => {
    const { leaseId } = await workflows.begin();
    const body = randomBytes(300_000);
    const put = { leaseId, requestId: randomUUID() };
    const first = await workflows.upload(door, uploadOf(put, body, 65_536));
    expect(await workflows.upload(door, uploadOf(put, body, 50_000))).toEqual(first);
    expect(await workflows.put(leaseId, body, { requestId: put.requestId })).toEqual(first);
    expect(await segmentFiles(leasehold, leaseId)).toHaveLength(1);
    expect(await rowsOf(database, leaseId)).toMatchObject({ versions: 1n, files: 0n });
    const other = uploadOf(put, randomBytes(300_000), 65_536);
    expect(await seenReason(workflows.upload(door, other))).toBe("REQUEST_ID_REUSED");
  },
);

test("a put is remembered for its published window, and no longer", async () => {
  const { pricing } = await workflows.leases.getPricing({});
  const limits = new Map(pricing?.limits.map(({ name, value }) => [name, value]));
  const { leaseId } = await workflows.begin();
  const requestId = randomUUID();
  await workflows.put(leaseId, "body", { requestId });
  const windowSeconds = Number(limits.get("put_window_seconds"));
  const age = (seconds: number) =>
    query(
      database,
      "update idempotency set create_time = clock_timestamp() - make_interval(secs => $2) where request_id = $1",
      [requestId, seconds],
    );
  await age(windowSeconds - 30);
  await leasehold.sweep();
  expect((await workflows.put(leaseId, "body", { requestId })).version).toBe(1n);
  await age(windowSeconds + 1);
  await leasehold.sweep();
  expect((await workflows.put(leaseId, "body", { requestId })).version).toBe(2n);
});

test("a repeat whose first put is forgotten while it is looked for is a put of its own", async () => {
  const { leaseId } = await workflows.begin();
  const requestId = randomUUID();
  await workflows.put(leaseId, "body", { requestId });
  const run = database.run.bind(database);
  const spy = vi.spyOn(database, "run").mockImplementation(async (statement, ...asked) => {
    if (statement.name === findPut.name) {
      await query(database, "delete from idempotency where request_id = $1", [requestId]);
    }
    return await run(statement, ...asked);
  });
  const repeated = await workflows.put(leaseId, "body", { requestId }).finally(() => spy.mockRestore());
  expect(repeated.version).toBe(2n);
});

test("once the lease has ended a repeat is refused as any other call, and no digest of it is left", async () => {
  const { leaseId } = await workflows.begin();
  const requestId = randomUUID();
  await workflows.put(leaseId, "body", { requestId });
  await workflows.leases.deleteLease({ leaseId });
  expect(await seenReason(workflows.put(leaseId, "body", { requestId }))).toBe("LEASE_ENDED");
  const [row] = await query<{ digests: Buffer }>(database, "select digests from idempotency where request_id = $1", [
    requestId,
  ]);
  expect(row?.digests).toHaveLength(0);
});
