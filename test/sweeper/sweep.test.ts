/** Design 10 and 8: what the sweeper removes and what it leaves, and that nobody's trouble is another's. */
import { mkdir, readdir, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { buildSweeper, openCore } from "../../src/app.ts";
import { Database } from "../../src/database/database.ts";
import { newUuid } from "../../src/ids/ids.ts";
import { findSweeperLag } from "../../src/sweeper/sweeper-statements.ts";
import { seenReason } from "../server/seen-error.ts";
import { generatedBytes } from "../support/generated-bytes.ts";
import { leaseUuid, refusalOf, Tenant } from "../support/tenant.ts";
import { adminToken, TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";

const tombstoneSeconds = 172_800;
const leasehold = await TestLeasehold.start({ settings: { LEASEHOLD_TOMBSTONE_SECONDS: `${tombstoneSeconds}` } });
const hasty = await Database.connect({ url: leasehold.databaseUrl, poolSize: 4, lockTimeoutMs: 50 });
afterAll(() => hasty.close());
const tenant = await Tenant.open(leasehold, 1_000_000_000n);
const contentDir = join(leasehold.core.config.contentDir, leasehold.core.keyFolder.installationId);

describe("tombstones", () => {
  /** A lease with a claimed token and a request_id that ended so long ago. */
  async function endedFor(seconds: number) {
    const requestId = crypto.randomUUID();
    const { leaseId } = await tenant.store(Buffer.from("content"), { requestId });
    const { claimToken } = await tenant.handoffs.issueHandoff({ leaseId, requestId: crypto.randomUUID() });
    const claim = await fetch(`${leasehold.httpUrl}/api/claim/${claimToken}`, {
      method: "POST",
      headers: { "leasehold-request-id": crypto.randomUUID() },
    });
    expect(await claim.text()).toBe("content");
    await tenant.leases.deleteLease({ leaseId });
    await tenant.age(leaseId, seconds);
    return { leaseId, claimToken };
  }

  const traces = `
    select (select count(*) from lease where lease_id = $1) as leases, (select count(*) from token where lease_id = $1) as tokens,
      (select count(*) from handoff where lease_id = $1) as handoffs, (select count(*) from claim where lease_id = $1) as claims,
      (select count(*) from idempotency where lease_id = $1) as requests,
      (select count(*) from ledger_entry where lease_id = $1) as entries`;

  async function tracesOf(leaseId: string) {
    const [row] = await query(leasehold.database, traces, [leaseUuid(leaseId)]);
    return row;
  }

  const everything = { leases: 1n, tokens: 1n, handoffs: 1n, claims: 1n, requests: 3n, entries: 2n };

  test("are reaped after their time, with tokens, handoffs, claims and requests; the ledger stays", async () => {
    const { leaseId, claimToken } = await endedFor(tombstoneSeconds + 1);
    expect(await tracesOf(leaseId)).toEqual(everything);
    await leasehold.sweep();
    expect(await tracesOf(leaseId)).toEqual({
      leases: 0n,
      tokens: 0n,
      handoffs: 0n,
      claims: 0n,
      requests: 0n,
      entries: 2n,
    });
    expect(await seenReason(tenant.leases.getLease({ leaseId }))).toBe("NOT_FOUND");
    expect(await seenReason(tenant.leases.deleteLease({ leaseId }))).toBe("NOT_FOUND");
    const claim = await fetch(`${leasehold.httpUrl}/api/claim/${claimToken}`, { method: "POST" });
    expect(await refusalOf(claim)).toMatchObject({ status: 404, reason: "NOT_FOUND" });
  });

  test("are kept until then, and say that the lease has ended", async () => {
    const { leaseId } = await endedFor(tombstoneSeconds - 60);
    await leasehold.sweep();
    expect(await tracesOf(leaseId)).toEqual(everything);
    expect(await seenReason(tenant.download(leaseId, "native"))).toBe("LEASE_ENDED");
  });

  test("are kept for a day after the lease was made, so that a repeat of its request_id makes no second one", async () => {
    const { leaseId } = await endedFor(tombstoneSeconds + 1);
    await query(
      leasehold.database,
      "update lease set create_time = clock_timestamp() - interval '23 hours' where lease_id = $1",
      [leaseUuid(leaseId)],
    );
    await leasehold.sweep();
    expect(await tracesOf(leaseId)).toEqual(everything);
  });
});

test("a credit's request_id is forgotten after a day, and not before; what was credited stays", async () => {
  const admin = leasehold.client(AdminService, adminToken);
  const { accountId } = tenant.account;
  const credits = "select count(*) as requests from idempotency where lease_id is null and request_id = $1";
  const requestId = crypto.randomUUID();
  await admin.creditAccount({ accountId, amountMicros: 5n, requestId });
  const balanceMicros = await tenant.balanceMicros();
  const makeOld =
    "update idempotency set create_time = clock_timestamp() - make_interval(hours => $2) where request_id = $1";
  for (const [hours, requests] of [
    [23, 1n],
    [25, 0n],
  ] as const) {
    await query(leasehold.database, makeOld, [requestId, hours]);
    await leasehold.sweep();
    expect(await query(leasehold.database, credits, [requestId])).toEqual([{ requests }]);
  }
  expect(await tenant.balanceMicros()).toBe(balanceMicros);
});

describe("files", () => {
  /** A folder of a lease as a crash may leave it, untouched for so long. */
  async function leftover(ageSeconds: number): Promise<string> {
    const id = newUuid<"lse">();
    const folder = join(contentDir, id.slice(-2), id);
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, "1.segment"), "left");
    await touch(folder, ageSeconds);
    return id;
  }

  async function touch(folder: string, ageSeconds: number): Promise<void> {
    const time = Date.now() / 1000 - ageSeconds;
    await utimes(folder, time, time);
  }

  async function isThere(id: string): Promise<boolean> {
    return (await readdir(contentDir, { recursive: true })).some((path) => path.includes(id));
  }

  test("that no row accounts for are removed once they are old; those of live leases never, however old", async () => {
    const [old, young] = [await leftover(7_200), await leftover(5)];
    const body = generatedBytes(1, 0, 200_000);
    const live = await tenant.store(body);
    const unfinished = await tenant.create();
    await tenant.leases.uploadContentPart({ leaseId: unfinished.leaseId, data: body.subarray(0, 150_000) });
    for (const { leaseId } of [live, unfinished]) {
      const id = leaseUuid(leaseId);
      await touch(join(contentDir, id.slice(-2), id), 400 * 86_400);
    }
    expect((await leasehold.sweep())["remove-orphans"]).toBe(1);
    expect([await isThere(old), await isThere(young)]).toEqual([false, true]);
    expect((await tenant.download(live.leaseId, "native")).equals(body)).toBe(true);
    await tenant.leases.uploadContentPart({
      leaseId: unfinished.leaseId,
      offset: 150_000n,
      data: body.subarray(150_000),
      finish: true,
    });
    expect((await tenant.download(unfinished.leaseId, "native")).equals(body)).toBe(true);
  });

  test("that a late writer left of a destroyed lease are removed", async () => {
    const { leaseId } = await tenant.store(generatedBytes(2, 0, 100_000));
    await tenant.leases.deleteLease({ leaseId });
    const id = leaseUuid(leaseId);
    const folder = join(contentDir, id.slice(-2), id);
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, "2.segment"), "late");
    await touch(folder, 7_200);
    await leasehold.sweep();
    expect(await isThere(id)).toBe(false);
  });

  test("in the content folder that are no lease's are left alone", async () => {
    await mkdir(join(contentDir, "lost+found"), { recursive: true });
    await mkdir(join(contentDir, "ab", "notes"), { recursive: true });
    await touch(join(contentDir, "ab", "notes"), 7_200);
    await leasehold.sweep();
    expect(await readdir(contentDir)).toContain("lost+found");
    expect(await readdir(join(contentDir, "ab"))).toContain("notes");
  });
});

test("an owner whose rows are locked stalls no other's end, and the round is told as failed and tried again", async () => {
  const [stuck, other] = [await Tenant.open(leasehold), await Tenant.open(leasehold)];
  const [stuckLease, otherLease] = [await stuck.store(Buffer.from("a")), await other.store(Buffer.from("b"))];
  await stuck.age(stuckLease.leaseId, 3_700);
  await other.age(otherLease.leaseId, 3_600);
  const sweeper = buildSweeper(await openCore(leasehold.core.config, hasty, leasehold.core.logger));
  const isEnded = "select end_time is not null as ended from lease where lease_id = $1";
  await leasehold.database.transaction(async (transaction) => {
    await query(transaction, "select from lease where owner_id = $1 for update", [stuck.ownerId]);
    await expect(sweeper.sweepOnce()).rejects.toThrow(stuck.ownerId);
    expect(await query(leasehold.database, isEnded, [leaseUuid(otherLease.leaseId)])).toEqual([{ ended: true }]);
    expect(await query(leasehold.database, isEnded, [leaseUuid(stuckLease.leaseId)])).toEqual([{ ended: false }]);
  });
  await sweeper.sweepOnce();
  expect(await query(leasehold.database, isEnded, [leaseUuid(stuckLease.leaseId)])).toEqual([{ ended: true }]);
});

test("more leases than a batch holds are all ended and destroyed by one sweep, and by several at once, each once", async () => {
  const many = await Tenant.open(leasehold, 10_000_000n);
  const [first] = await Promise.all([many.create()]);
  await query(
    leasehold.database,
    `insert into lease (owner_id, lease_id, key_id, variant, size_bytes, duration_seconds, expiry_behavior, read_access, delete_on_access,
      price_micros, pricing_version, create_time, active_time, expire_time, due_time, due_reason, epoch_seconds)
    select owner_id, uuidv7(), key_id, variant, size_bytes, duration_seconds, expiry_behavior, read_access, delete_on_access,
      price_micros, pricing_version, create_time - interval '2 hours', create_time, expire_time - interval '2 hours',
      expire_time - interval '2 hours', 1, epoch_seconds
    from lease, generate_series(1, 1203) where lease_id = $1`,
    [leaseUuid(first?.leaseId ?? "")],
  );
  const done = await Promise.all([leasehold.sweep(), leasehold.sweep(), leasehold.sweep()]);
  expect(done.every((counts) => (counts["end-leases"] ?? 0) >= 0)).toBe(true);
  const [row] = await query<{ ended: bigint; destroyed: bigint }>(
    leasehold.database,
    "select count(end_time) as ended, count(destroy_time) as destroyed from lease where owner_id = $1",
    [many.ownerId],
  );
  expect(row).toEqual({ ended: 1_203n, destroyed: 1_203n });
});

test("how late the sweeper is can be told: its most overdue work, and none once it is done", async () => {
  await leasehold.sweep();
  const { leaseId } = await tenant.store(Buffer.from("late"));
  const late = async () => (await leasehold.database.run(findSweeperLag, []))[0];
  expect((await late())?.overdue_since).toBeNull();
  await tenant.age(leaseId, 3_690);
  const lag = await late();
  const lateMicros = (lag?.now ?? 0n) - (lag?.overdue_since ?? 0n);
  expect(lateMicros).toBeGreaterThanOrEqual(90_000_000n);
  await leasehold.sweep();
  expect((await late())?.overdue_since).toBeNull();
  expect((await late())?.last_round).not.toBeNull();
});
