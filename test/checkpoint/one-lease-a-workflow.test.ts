/** One active lease at a time has a workflow, and a worker that was thought dead never writes into the next one. */
import { randomUUID } from "node:crypto";
import { describe, expect, test, vi } from "vitest";
import { Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { deleteCheckpoints, findHolder } from "../../src/checkpoint/checkpoint-statements.ts";
import { seenError, seenReason } from "../server/seen-error.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { leaseUuid, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { rowsOf, segmentFiles, uploadOf, Workflows } from "./workflow.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const tenant = await Tenant.open(leasehold, 1_000_000_000n);
const workflows = new Workflows(tenant);
const { database } = leasehold;

const newWorkflow = () => `wf-${randomUUID()}`;

test("a second lease for a workflow is refused, names the first, and costs nothing", async () => {
  const workflowId = newWorkflow();
  const { leaseId } = await workflows.begin({ workflowId });
  const before = await tenant.balanceMicros();
  expect((await seenError(workflows.begin({ workflowId }))).details.ErrorInfo).toMatchObject({
    reason: "WORKFLOW_IN_USE",
    metadata: { workflow_id: workflowId, lease_id: leaseId },
  });
  expect(await tenant.balanceMicros()).toBe(before);
});

test("the same workflow_id of another owner is another workflow", async () => {
  const workflowId = newWorkflow();
  const stranger = new Workflows(await Tenant.open(leasehold));
  const mine = await workflows.begin({ workflowId });
  const theirs = await stranger.begin({ workflowId });
  await workflows.put("", "mine", { workflowId });
  await stranger.put("", "theirs", { workflowId });
  expect([await workflows.text(mine.leaseId), await stranger.text(theirs.leaseId)]).toEqual(["mine", "theirs"]);
});

test("of many leases asked for at once over two servers exactly one gets the workflow", async () => {
  const workflowId = newWorkflow();
  const callers = [workflows, workflows.at(other)];
  const asked = Array.from({ length: 20 }, (_, index) => (callers[index % 2] ?? workflows).begin({ workflowId }));
  const made = (await Promise.allSettled(asked)).filter(({ status }) => status === "fulfilled");
  expect(made).toHaveLength(1);
});

test("a repeat of a create by its request_id finds its own lease, whoever holds the workflow by then", async () => {
  const workflowId = newWorkflow();
  const requestId = randomUUID();
  const lease = { requestId };
  const first = await workflows.begin({ workflowId }, lease);
  expect((await workflows.begin({ workflowId }, lease)).leaseId).toBe(first.leaseId);
  await workflows.leases.deleteLease({ leaseId: first.leaseId });
  const second = await workflows.begin({ workflowId });
  expect(await workflows.begin({ workflowId }, lease)).toMatchObject({
    leaseId: first.leaseId,
    state: Lease_State.EXPIRED,
  });
  expect(second.leaseId).not.toBe(first.leaseId);
});

test("a workflow that comes free while its holder is looked for is given, and no first version of a try is left", async () => {
  const workflowId = newWorkflow();
  const holder = await workflows.begin({ workflowId });
  const run = database.run.bind(database);
  const spy = vi.spyOn(database, "run").mockImplementation(async (statement, ...asked) => {
    if (statement.name === findHolder.name) {
      await workflows.leases.deleteLease({ leaseId: holder.leaseId });
    }
    return await run(statement, ...asked);
  });
  const before = await segmentFiles(leasehold);
  const made = await workflows
    .begin({ workflowId, initial: { body: Buffer.alloc(300_000) } })
    .finally(() => spy.mockRestore());
  expect((await workflows.get(made.leaseId)).version).toBe(1n);
  expect(await segmentFiles(leasehold)).toHaveLength(before.length + 1);
});

test("twins of a create that meet at two servers both get the one lease", async () => {
  const workflowId = newWorkflow();
  const lease = { requestId: randomUUID() };
  const twins = await Promise.all([workflows, workflows.at(other)].map((at) => at.begin({ workflowId }, lease)));
  expect(new Set(twins.map(({ leaseId }) => leaseId)).size).toBe(1);
});

describe.each([
  ["deleted", (leaseId: string) => workflows.leases.deleteLease({ leaseId })],
  ["overdue, with the sweeper stopped,", (leaseId: string) => tenant.age(leaseId, 3_600)],
])("when a workflow's lease is %s", (_, end) => {
  test("another can be made, and the zombie of the first can neither write into it nor read it", async () => {
    const workflowId = newWorkflow();
    const first = await workflows.begin({ workflowId });
    await workflows.put(first.leaseId, "of the first");
    await workflows.put("", "also of the first", { workflowId });
    await end(first.leaseId);
    const next = await workflows.begin({ workflowId });
    await workflows.put(next.leaseId, "of the next");
    for (const target of [{ leaseId: first.leaseId }, { leaseId: first.leaseId, workflowId }]) {
      const { checkpoints } = workflows;
      const body = Buffer.from("of a zombie");
      expect(await seenReason(checkpoints.putCheckpoint({ ...target, body }))).toBe("LEASE_ENDED");
      expect(await seenReason(checkpoints.getCheckpoint(target))).toBe("LEASE_ENDED");
      expect(await seenReason(checkpoints.listCheckpointVersions(target))).toBe("LEASE_ENDED");
      expect(await seenReason(workflows.upload("native", uploadOf(target, body, 4)))).toBe("LEASE_ENDED");
      expect(await seenReason(checkpoints.watchCheckpoint(target)[Symbol.asyncIterator]().next())).toBe("LEASE_ENDED");
      expect(await seenReason(checkpoints.downloadCheckpoint(target)[Symbol.asyncIterator]().next())).toBe(
        "LEASE_ENDED",
      );
    }
    expect(await workflows.text(next.leaseId)).toBe("of the next");
    expect((await workflows.get(next.leaseId)).version).toBe(1n);
  });

  test("its workflow alone finds nothing, and then the next lease, also where the first is remembered", async () => {
    const workflowId = newWorkflow();
    const first = await workflows.begin({ workflowId });
    await workflows.put("", "remembered", { workflowId });
    await end(first.leaseId);
    expect(await seenReason(workflows.put("", "x", { workflowId }))).toBe("NOT_FOUND");
    expect(await seenReason(workflows.checkpoints.getCheckpoint({ workflowId }))).toBe("NOT_FOUND");
    const next = await workflows.begin({ workflowId });
    expect(await workflows.put("", "y", { workflowId })).toMatchObject({ leaseId: next.leaseId, version: 1n });
  });

  test("a large put that names the workflow alone follows it to the next lease", async () => {
    const workflowId = newWorkflow();
    const first = await workflows.begin({ workflowId });
    await workflows.put("", "remembered", { workflowId });
    await end(first.leaseId);
    const next = await workflows.begin({ workflowId });
    const put = await workflows.put("", Buffer.alloc(300_000), { workflowId });
    expect(put).toMatchObject({ leaseId: next.leaseId, version: 1n });
  });

  test("its destruction leaves the next lease's name and versions alone", async () => {
    const workflowId = newWorkflow();
    const first = await workflows.begin({ workflowId });
    await end(first.leaseId);
    const next = await workflows.begin({ workflowId });
    await workflows.put("", "kept", { workflowId });
    await leasehold.sweep();
    expect(await rowsOf(database, first.leaseId)).toEqual({ checkpoints: 0n, versions: 0n, files: 0n, workflows: 0n });
    expect(await rowsOf(database, next.leaseId)).toMatchObject({ checkpoints: 1n, versions: 1n, workflows: 1n });
    expect(await workflows.put("", "again", { workflowId })).toMatchObject({ leaseId: next.leaseId, version: 2n });
  });
});

test("a put that waits for its lease's lock while the lease is replaced writes into neither", async () => {
  const workflowId = newWorkflow();
  const first = await workflows.begin({ workflowId });
  await workflows.put(first.leaseId, "before");
  const waiting = await database.transaction(async (transaction) => {
    const id = leaseUuid(first.leaseId);
    await query(transaction, "select from lease where lease_id = $1 for update", [id]);
    const put = seenReason(workflows.put(first.leaseId, "late", { workflowId }));
    await lockWaiters(database, 1);
    await query(transaction, "update lease set due_time = clock_timestamp() where lease_id = $1", [id]);
    return { put };
  });
  expect(await waiting.put).toBe("LEASE_ENDED");
  const next = await workflows.begin({ workflowId });
  expect(await seenReason(workflows.get(next.leaseId))).toBe("NOT_FOUND");
});

test("the destruction of several leases and the making of others for their workflows cannot wait for each other", async () => {
  const [first, second] = ["a", "b"].map((name) => `${name}-${randomUUID()}`);
  // The other way round, so that an order by lease would not do.
  const leaseIds = [
    (await workflows.begin({ workflowId: required(second) })).leaseId,
    (await workflows.begin({ workflowId: required(first) })).leaseId,
  ];
  await Promise.all(leaseIds.map((leaseId) => tenant.age(leaseId, 3_600)));
  const { destroyed } = await database.transaction(async (transaction) => {
    const lock = "select from checkpoint_workflow where workflow_id = $1 for update nowait";
    await query(transaction, lock, [first]);
    const uuids = leaseIds.map(leaseUuid);
    const destroyed = database.run(deleteCheckpoints, [uuids.map(() => tenant.ownerId), uuids]);
    await lockWaiters(database, 1);
    await query(transaction, lock, [second]);
    return { destroyed };
  });
  await destroyed;
  for (const leaseId of leaseIds) {
    expect(await rowsOf(database, leaseId)).toMatchObject({ checkpoints: 0n, workflows: 0n });
  }
});
