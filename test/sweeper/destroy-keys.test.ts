/** Design 11: an epoch's key goes when nothing can need it any more, and then no copy of what it wrapped opens. */
import { afterEach, expect, test, vi } from "vitest";
import { endDueLeases } from "../../src/lease/lease-statements.ts";
import { sweepTasks } from "../../src/sweeper/sweep-tasks.ts";
import { epochBefore, hasEpochKey, leaseRow, moveToEpoch } from "../support/epochs.ts";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold, 1_000_000_000n);
const { keyFolder } = leasehold.core;
afterEach(() => vi.restoreAllMocks());

/** Only what destroys keys, without the tasks that end leases. */
async function destroyKeys(): Promise<number> {
  const { database, variants, destroyer, claims } = leasehold.core;
  const options = { database, variants, destroyer, claims, keyFolder, intervalMs: 1_000, tombstoneSeconds: 1 };
  const task = sweepTasks(options).find(({ name }) => name === "destroy-keys");
  return (await task?.run())?.done ?? -1;
}

/** A lease with a body that is due in the last second of an epoch. */
async function storeDueIn(startSeconds: number): Promise<string> {
  const { leaseId } = await tenant.store(Buffer.from("content"));
  await moveToEpoch(leasehold, leaseId, startSeconds);
  return leaseId;
}

async function endedIn(startSeconds: number): Promise<string> {
  const leaseId = await storeDueIn(startSeconds);
  await leasehold.database.run(endDueLeases, [tenant.ownerId, [leaseUuid(leaseId)]]);
  return leaseId;
}

async function mark(): Promise<number> {
  const [row] = await query<{ mark: bigint }>(
    leasehold.database,
    "select destroyed_through_seconds as mark from installation",
  );
  return Number(row?.mark);
}

test("a key outlives its epoch by a spare one, and is destroyed then, which its leases show", async () => {
  const [spare, over] = [await epochBefore(leasehold, 1), await epochBefore(leasehold, 2)];
  const [kept, gone] = [await endedIn(spare), await endedIn(over)];
  await leasehold.sweep();
  expect(await hasEpochKey(leasehold, spare)).toBe(true);
  expect(await hasEpochKey(leasehold, over)).toBe(false);
  expect((await tenant.show(kept)).unrecoverableTime).toBeUndefined();
  const shown = await tenant.show(gone);
  expect(shown.destroyTime).toBeDefined();
  expect(shown.unrecoverableTime).toBeDefined();
  expect(await mark()).toBe(over);
});

test("a copy of a lease's row, as in a backup, opens until the key of its epoch is destroyed, and never after", async () => {
  const over = await epochBefore(leasehold, 3);
  const leaseId = await storeDueIn(over);
  const backup = await leaseRow(leasehold, leaseId);
  await leasehold.database.run(endDueLeases, [tenant.ownerId, [leaseUuid(leaseId)]]);
  leasehold.core.seals.forget(backup.lease_id);
  expect(await leasehold.core.seals.keyOf(backup)).toHaveLength(32);
  await leasehold.sweep();
  leasehold.core.seals.forget(backup.lease_id);
  await expect(leasehold.core.seals.keyOf(backup)).rejects.toMatchObject({ reason: "KEY_MISSING" });
});

test("a key is not destroyed while a lease of its epoch has not been ended, nor is any later one: the mark never passes a kept key", async () => {
  const [earlier, later] = [await epochBefore(leasehold, 6), await epochBefore(leasehold, 5)];
  const unended = await storeDueIn(earlier);
  await endedIn(later);
  const before = await mark();
  expect(await destroyKeys()).toBe(0);
  expect([await hasEpochKey(leasehold, earlier), await hasEpochKey(leasehold, later)]).toEqual([true, true]);
  expect(await mark()).toBe(before);
  await leasehold.sweep();
  expect([await hasEpochKey(leasehold, earlier), await hasEpochKey(leasehold, later)]).toEqual([false, false]);
  expect((await tenant.show(unended)).unrecoverableTime).toBeDefined();
});

test("a crash after a key was removed and before that was recorded is finished by the next sweep", async () => {
  const over = await epochBefore(leasehold, 4);
  const leaseId = await endedIn(over);
  await keyFolder.destroyEpoch(over);
  await query(leasehold.database, "update installation set destroyed_through_seconds = -1");
  await leasehold.sweep();
  expect((await tenant.show(leaseId)).unrecoverableTime).toBeDefined();
  expect(await mark()).toBe(over);
});

test("a key that is back, as after a power failure that undid its removal, is removed again", async () => {
  const over = await epochBefore(leasehold, 2);
  await keyFolder.epochKey(over);
  expect(await hasEpochKey(leasehold, over)).toBe(true);
  await leasehold.sweep();
  expect(await hasEpochKey(leasehold, over)).toBe(false);
});

test("no key is destroyed while the clocks of host and database disagree", async () => {
  const over = await epochBefore(leasehold, 2);
  await endedIn(over);
  const hostNow = Date.now();
  for (const apartMs of [-61_000, 61_000]) {
    vi.spyOn(Date, "now").mockReturnValue(hostNow + apartMs);
    await expect(destroyKeys()).rejects.toThrow(/clock/);
  }
  expect(await hasEpochKey(leasehold, over)).toBe(true);
  vi.restoreAllMocks();
  await leasehold.sweep();
  expect(await hasEpochKey(leasehold, over)).toBe(false);
});

test("an early end removes the lease's own key at once, and leaves the epoch's for the leases beside it", async () => {
  const [deleted, beside] = [await tenant.store(Buffer.from("one")), await tenant.store(Buffer.from("two"))];
  const { epoch_seconds: epoch } = await leaseRow(leasehold, deleted.leaseId);
  await tenant.leases.deleteLease({ leaseId: deleted.leaseId });
  await leasehold.sweep();
  expect((await leaseRow(leasehold, deleted.leaseId)).wrapped_key).toBeNull();
  expect((await tenant.show(deleted.leaseId)).unrecoverableTime).toBeUndefined();
  expect(await hasEpochKey(leasehold, Number(epoch))).toBe(true);
  expect((await tenant.download(beside.leaseId, "native")).toString()).toBe("two");
});
