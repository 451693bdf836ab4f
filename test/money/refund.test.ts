/** Design 4: a Storage lease that ends in CREATED is refunded in full, once; nothing else is. */
import { expect, test } from "vitest";
import { LedgerEntry_Kind } from "#gen/leasehold/v1/account_pb.js";
import { Lease_EndReason, Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { seenReason } from "../server/seen-error.ts";
import { expectSoundMoney } from "../support/sound-money.ts";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";

const windowSeconds = 1_800;
const first = await TestLeasehold.start({ settings: { LEASEHOLD_UPLOAD_WINDOW_SECONDS: `${windowSeconds}` } });
const second = await TestLeasehold.start({ beside: first });
const balanceMicros = 1_000_000n;
const body = Buffer.from("some content");

async function refundsOf(tenant: Tenant): Promise<number> {
  const { entries } = await tenant.accounts.listLedgerEntries({ pageSize: 1000 });
  return entries.filter(({ kind }) => kind === LedgerEntry_Kind.REFUND).length;
}

test("a lease deleted before its upload finished is refunded, with all that was stored of it", async () => {
  const tenant = await Tenant.open(first, balanceMicros);
  const { leaseId } = await tenant.create();
  await tenant.leases.uploadContentPart({ leaseId, data: body });
  const { lease } = await tenant.leases.deleteLease({ leaseId });
  expect(lease).toMatchObject({ state: Lease_State.EXPIRED, endReason: Lease_EndReason.OWNER_DELETED });
  expect(await tenant.balanceMicros()).toBe(balanceMicros);
  expect(await refundsOf(tenant)).toBe(1);
});

test("a lease whose upload window is over is refunded as of the window's end, and shown as ended before any sweep", async () => {
  const tenant = await Tenant.open(first, balanceMicros);
  const { leaseId, createTime } = await tenant.create({ duration: { seconds: 7_200n } });
  await tenant.age(leaseId, windowSeconds);
  const shown = await tenant.show(leaseId);
  expect(shown).toMatchObject({ state: Lease_State.EXPIRED, endReason: Lease_EndReason.UPLOAD_ABANDONED });
  expect(await tenant.balanceMicros()).toBe(balanceMicros - shown.priceMicros);
  await first.sweep();
  expect(await tenant.balanceMicros()).toBe(balanceMicros);
  const swept = await tenant.show(leaseId);
  expect(swept.endTime).toEqual(shown.endTime);
  expect(swept.endTime?.seconds).toBe(createTime?.seconds);
});

test("a lease shorter than the upload window is refunded when its duration is over", async () => {
  const tenant = await Tenant.open(first, balanceMicros);
  const { leaseId } = await tenant.create({ duration: { seconds: 60n } });
  await tenant.age(leaseId, 60);
  await first.sweep();
  expect(await tenant.show(leaseId)).toMatchObject({ endReason: Lease_EndReason.UPLOAD_ABANDONED });
  expect(await tenant.balanceMicros()).toBe(balanceMicros);
});

test("a lease that was active is not refunded, whether deleted or over, also beside one that is", async () => {
  const tenant = await Tenant.open(first, balanceMicros);
  const [deleted, over] = await Promise.all([tenant.store(body), tenant.store(body)]);
  const abandoned = await tenant.create();
  await tenant.leases.deleteLease({ leaseId: deleted.leaseId });
  await Promise.all([over, abandoned].map(({ leaseId }) => tenant.age(leaseId, 3_600)));
  await first.sweep();
  expect(await tenant.show(over.leaseId)).toMatchObject({ endReason: Lease_EndReason.DURATION_ELAPSED });
  expect(await tenant.balanceMicros()).toBe(balanceMicros - deleted.priceMicros - over.priceMicros);
  expect(await refundsOf(tenant)).toBe(1);
});

test("an active lease outlives the upload window", async () => {
  const tenant = await Tenant.open(first, balanceMicros);
  const { leaseId } = await tenant.store(body, { duration: { seconds: 7_200n } });
  await tenant.age(leaseId, windowSeconds);
  await first.sweep();
  expect((await tenant.show(leaseId)).state).toBe(Lease_State.ACTIVE);
});

test("deletes and sweeps of one lease that race on two servers refund it once, and all deletes succeed", async () => {
  const tenant = await Tenant.open(first, balanceMicros);
  for (let round = 0; round < 8; round++) {
    const { leaseId } = await tenant.create();
    const callers = [tenant, tenant.at(second)];
    if (round % 2 === 1) {
      await tenant.age(leaseId, windowSeconds);
    }
    await Promise.all([
      ...callers.flatMap(({ leases }) => [leases.deleteLease({ leaseId }), leases.deleteLease({ leaseId })]),
      first.sweep(),
      second.sweep(),
    ]);
    expect(await tenant.balanceMicros()).toBe(balanceMicros);
  }
  expect(await refundsOf(tenant)).toBe(8);
  await expectSoundMoney(first.database);
});

test("deletes of many leases that race on two servers lose no refund", async () => {
  const tenant = await Tenant.open(first, balanceMicros);
  const leases = await Promise.all(Array.from({ length: 24 }, () => tenant.create()));
  await Promise.all(
    leases.map(({ leaseId }, index) => tenant.at(index % 2 === 0 ? first : second).leases.deleteLease({ leaseId })),
  );
  expect(await tenant.balanceMicros()).toBe(balanceMicros);
  await expectSoundMoney(first.database);
});

test("a finish and a delete that race leave either a paid lease that was active or a refunded one that never was", async () => {
  const tenant = await Tenant.open(first, balanceMicros);
  for (let round = 0; round < 12; round++) {
    const { leaseId } = await tenant.create();
    const finish = tenant.at(second).leases.uploadContentPart({ leaseId, data: body, finish: true });
    const [finished] = await Promise.allSettled([finish, tenant.leases.deleteLease({ leaseId })]);
    const [row] = await query<{ was_active: boolean; ended: boolean }>(
      first.database,
      "select active_time is not null as was_active, end_time is not null as ended from lease where lease_id = $1",
      [leaseUuid(leaseId)],
    );
    expect(row).toEqual({ was_active: finished.status === "fulfilled", ended: true });
    if (finished.status === "rejected") {
      expect(await seenReason(Promise.reject(finished.reason))).toBe("LEASE_ENDED");
    }
  }
  await expectSoundMoney(first.database);
});
