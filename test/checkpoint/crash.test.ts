/** Promise 5 for checkpoints: an acknowledged put is never lost, whenever the server is killed, and a repeat finds it. */
import { randomBytes, randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { lockWaiters } from "../support/lock-wait.ts";
import { ServerProcess } from "../support/server-process.ts";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { rowsOf, segmentFiles, Workflows } from "./workflow.ts";

/** The server that goes on. Those that are killed are processes of their own beside it. */
const leasehold = await TestLeasehold.start();
const { database, databaseUrl } = leasehold;
const { dataDir } = leasehold.core.config;
const tenant = await Tenant.open(leasehold, 1_000_000_000n);
const workflows = new Workflows(tenant);
const large = randomBytes(3_000_000);

async function locked<Value>(leaseId: string, work: () => Promise<Value>): Promise<Value> {
  return await database.transaction(async (transaction) => {
    await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(leaseId)]);
    return await work();
  });
}

test("every put that a killed server has acknowledged is there, small or large, and nothing else", async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const at = workflows.at(doomed);
  const leases = await Promise.all(Array.from({ length: 8 }, () => workflows.begin({ retainedVersions: 100 })));
  const bodyOf = (lease: number, version: bigint) =>
    Buffer.alloc(lease % 2 === 0 ? 500 : 70_000, `${lease} ${version} `);
  const acknowledged = leases.map(() => 0n);
  const workers = leases.map(async ({ leaseId }, lease) => {
    for (;;) {
      const next = (acknowledged[lease] ?? 0n) + 1n;
      const { version } = await at.put(leaseId, bodyOf(lease, next), { expectedVersion: next - 1n });
      acknowledged[lease] = version;
      if (lease === 0 && version === 20n) {
        await doomed.kill();
      }
    }
  });
  await Promise.allSettled(workers);
  expect(acknowledged[0]).toBe(20n);
  for (const [lease, { leaseId }] of leases.entries()) {
    const last = acknowledged[lease] ?? 0n;
    for (let version = 1n; version <= last; version++) {
      expect(Buffer.from((await workflows.get(leaseId, version)).body).equals(bodyOf(lease, version))).toBe(true);
    }
    // At most the one that was under way, whose answer nobody got.
    const latest = last === 0n ? last : (await workflows.get(leaseId)).version;
    expect(latest - last).toBeLessThanOrEqual(1n);
  }
});

test.each([
  ["small", Buffer.from("body")],
  ["large", large],
])("a %s put whose answer died with its server is found by a repeat at another", async (_, body) => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const at = workflows.at(doomed);
  const { leaseId } = await workflows.begin({}, { sizeBytes: 10_000_000n });
  await at.put(leaseId, "before");
  const request = { requestId: randomUUID(), expectedVersion: 1n };
  const lost = await locked(leaseId, async () => {
    const put = at.put(leaseId, body, request).catch((error: unknown) => error);
    await lockWaiters(database, 1);
    return { put };
  }).then(async ({ put }) => {
    while ((await rowsOf(database, leaseId)).versions < 2n) {
      // Committed, and perhaps answered.
    }
    await doomed.kill();
    return put;
  });
  await lost;
  expect((await workflows.put(leaseId, body, request)).version).toBe(2n);
  expect(Buffer.from((await workflows.get(leaseId)).body).equals(body)).toBe(true);
  expect(await rowsOf(database, leaseId)).toMatchObject({ versions: 2n, files: 0n });
});

test("a server that is killed before its put is done leaves the version before, and a repeat is done then", async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const at = workflows.at(doomed);
  const { leaseId } = await workflows.begin();
  await at.put(leaseId, "before");
  const request = { requestId: randomUUID() };
  await locked(leaseId, async () => {
    const put = at.put(leaseId, "lost", request).catch(() => undefined);
    await lockWaiters(database, 1);
    await doomed.kill();
    await query(
      database,
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    await put;
  });
  expect(await workflows.text(leaseId)).toBe("before");
  expect((await workflows.put(leaseId, "lost", request)).version).toBe(2n);
});

test("a server that is killed during an upload leaves the version before, and a file that is tidied up", async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const { leaseId } = await workflows.begin({}, { sizeBytes: 100_000_000n });
  await workflows.put(leaseId, "before");
  async function* messages() {
    yield { put: { leaseId }, data: large };
    await new Promise(() => undefined);
  }
  const upload = workflows
    .at(doomed)
    .nativeCheckpoints.uploadCheckpoint(messages())
    .catch(() => undefined);
  while ((await segmentFiles(leasehold, leaseId)).length === 0) {
    // The first batch is being written.
  }
  await doomed.kill();
  await upload;
  expect(await workflows.text(leaseId)).toBe("before");
  await query(database, "update checkpoint_file set touch_time = touch_time - interval '1 hour'");
  await leasehold.sweep();
  expect(await segmentFiles(leasehold, leaseId)).toEqual([]);
  expect(await rowsOf(database, leaseId)).toMatchObject({ versions: 1n, files: 0n });
});
