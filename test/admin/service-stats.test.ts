/** What the operator's figures promise: they follow from ledger and leases, and tell how late the sweeper is. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { GetServiceStatsRequestSchema, GetServiceStatsResponseSchema } from "#gen/leasehold/v1/admin_pb.js";
import type { LeaseUuid } from "../../src/ids/ids.ts";
import { leasePriceMicros, TestHouse } from "../support/test-house.ts";
import { query } from "../support/test-query.ts";

const house = await TestHouse.open();

test("without leases everything is zero, and every variant is shown", async () => {
  expect(await stats()).toMatchObject({
    earnedMicros: 0n,
    refundedMicros: 0n,
    creditedMicros: 0n,
    liveLeases: { box: 0n },
    reservedBytes: 0n,
    storedBytes: 0n,
    sweeperLag: { seconds: 0n, nanos: 0 },
    undestroyedLeases: 0n,
  });
});

test("the figures follow the life of leases", async () => {
  const { call } = await house.openAccount(20_000n);
  const refunded = await house.lease(call);
  const kept = [await house.lease(call), await house.lease(call)];
  await query(house.database, "update lease set content_bytes = 100, active_time = now() where lease_id = any($1)", [
    kept,
  ]);
  expect(await stats()).toMatchObject({
    earnedMicros: 3n * leasePriceMicros,
    creditedMicros: 20_000n,
    liveLeases: { box: 3n },
    reservedBytes: 3n * 1024n,
    storedBytes: 200n,
    undestroyedLeases: 0n,
  });

  await house.refund(call, refunded);
  expect(await stats()).toMatchObject({
    earnedMicros: 2n * leasePriceMicros,
    refundedMicros: leasePriceMicros,
    liveLeases: { box: 2n },
    undestroyedLeases: 1n,
  });
  await destroy(refunded);
  expect(await stats()).toMatchObject({ undestroyedLeases: 0n, sweeperLag: { seconds: 0n, nanos: 0 } });

  await backDate("due_time", kept[0], 100);
  const late = await stats();
  expect(late).toMatchObject({
    liveLeases: { box: 1n },
    reservedBytes: 1024n,
    storedBytes: 100n,
    undestroyedLeases: 1n,
  });
  expect(late.sweeperLag?.seconds).toBeGreaterThanOrEqual(100n);
  expect(late.sweeperLag?.seconds).toBeLessThan(200n);

  await backDate("end_time", kept[1], 200);
  const later = await stats();
  expect(later).toMatchObject({ liveLeases: { box: 0n }, storedBytes: 0n, undestroyedLeases: 2n });
  expect(later.sweeperLag?.seconds).toBeGreaterThanOrEqual(200n);

  await destroy(kept[1]);
  expect((await stats()).sweeperLag?.seconds).toBeLessThan(200n);
  expect(await stats()).toMatchObject({ earnedMicros: 2n * leasePriceMicros, undestroyedLeases: 1n });
});

test("a sum that no int64 can hold is shown as the largest one", async () => {
  await query(
    house.database,
    `insert into ledger_entry (owner_id, entry_id, transaction_id, ledger_account, kind, amount_micros, create_time)
    select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 3, 1, -9223372036854775807, now()
    from generate_series(1, 3)`,
  );
  expect((await stats()).creditedMicros).toBe(2n ** 63n - 1n);
});

async function stats() {
  const answer = await house.admin.getServiceStats(create(GetServiceStatsRequestSchema), house.operator);
  return create(GetServiceStatsResponseSchema, answer);
}

async function backDate(
  column: "due_time" | "end_time",
  leaseId: LeaseUuid | undefined,
  seconds: number,
): Promise<void> {
  await query(house.database, `update lease set ${column} = now() - make_interval(secs => $2) where lease_id = $1`, [
    leaseId,
    seconds,
  ]);
}

async function destroy(leaseId: LeaseUuid | undefined): Promise<void> {
  await query(house.database, "update lease set destroy_time = now() where lease_id = $1", [leaseId]);
}
