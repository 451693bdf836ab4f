/** Promise 3 for checkpoints: nothing is readable or writable after expire_time, with the sweeper stopped. */
import { expect, test } from "vitest";
import { seenReason } from "../server/seen-error.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { doors, leaseUuid, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { rowsOf, segmentFiles, uploadOf, Workflows } from "./workflow.ts";

/** There is no sweeper, here or anywhere. */
const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold, 1_000_000_000n);
const workflows = new Workflows(tenant);
const { database } = leasehold;
const large = Buffer.alloc(300_000, 7);

test.each(doors)("every call of the %s door is refused once the time is over", async (door) => {
  const { leaseId } = await workflows.begin();
  const client = workflows.door(door);
  await client.putCheckpoint({ leaseId, body: large });
  await tenant.age(leaseId, 3_600);
  const calls = [
    client.putCheckpoint({ leaseId, body: Buffer.from("small") }),
    client.putCheckpoint({ leaseId, body: large }),
    client.getCheckpoint({ leaseId }),
    client.getCheckpoint({ leaseId, version: 1n }),
    client.listCheckpointVersions({ leaseId }),
    client.downloadCheckpoint({ leaseId })[Symbol.asyncIterator]().next(),
    client.watchCheckpoint({ leaseId })[Symbol.asyncIterator]().next(),
    workflows.upload(door, uploadOf({ leaseId }, large, 65_536)),
    tenant.handoffs.issueHandoff({ leaseId }),
    tenant.handoffs.issueHandoff({ leaseId, checkpointVersion: 1n }),
  ];
  const reasons = await Promise.all(calls.map((call: Promise<unknown>) => seenReason(call)));
  expect(new Set(reasons)).toEqual(new Set(["LEASE_ENDED"]));
  expect(await rowsOf(database, leaseId)).toMatchObject({ versions: 1n, files: 0n });
});

test.each([
  ["small", Buffer.from("late")],
  ["large", large],
])("a %s put that waits for the lock while the time runs out is refused, and leaves nothing", async (_, body) => {
  const { leaseId } = await workflows.begin();
  await workflows.put(leaseId, "before");
  const { put } = await database.transaction(async (transaction) => {
    const id = leaseUuid(leaseId);
    await query(transaction, "select from lease where lease_id = $1 for update", [id]);
    const put = seenReason(workflows.put(leaseId, body));
    await lockWaiters(database, 1);
    await query(transaction, "update lease set due_time = clock_timestamp() where lease_id = $1", [id]);
    return { put };
  });
  expect(await put).toBe("LEASE_ENDED");
  expect(await rowsOf(database, leaseId)).toMatchObject({ versions: 1n, files: 0n });
  expect(await segmentFiles(leasehold, leaseId)).toEqual([]);
});

test("a put by a key that is revoked while it waits is refused", async () => {
  const { leaseId } = await workflows.begin();
  const { key, apiKey } = await tenant.accounts.createApiKey({ name: "to be revoked", scopes: [1, 2] });
  const revoked = new Workflows(tenant.by(apiKey));
  await revoked.put(leaseId, "before");
  const { put } = await database.transaction(async (transaction) => {
    await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(leaseId)]);
    const put = seenReason(revoked.put(leaseId, "late"));
    await lockWaiters(database, 1);
    await tenant.accounts.revokeApiKey({ keyId: required(key).keyId });
    return { put };
  });
  expect(await put).toBe("CREDENTIAL_INVALID");
  expect((await workflows.get(leaseId)).version).toBe(1n);
});

test("an upload whose lease ends while it runs is cut, and leaves no file", async () => {
  const { leaseId } = await workflows.begin({}, { sizeBytes: 100_000_000n });
  const { promise: isOver, resolve: end } = Promise.withResolvers<void>();
  async function* messages() {
    yield { put: { leaseId }, data: Buffer.alloc(3_000_000) };
    await isOver;
    yield { offset: 3_000_000n, data: Buffer.alloc(1_000_000), finish: true };
  }
  const upload = seenReason(workflows.upload("native", messages()));
  while ((await segmentFiles(leasehold, leaseId)).length === 0) {
    // The first batch is being written.
  }
  await tenant.age(leaseId, 3_600);
  expect(await upload).toBe("LEASE_ENDED");
  end();
  while ((await segmentFiles(leasehold, leaseId)).length > 0) {
    // The error does not wait for the file's removal.
  }
});
