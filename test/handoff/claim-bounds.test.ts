import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { claimsOf, claimUuid, endHold, type HandedOff, handOff, type StoredClaim } from "./handed-off.ts";
import { Redeemer, Redemption, redeemDoors, refusedWith } from "./redeemer.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold);
const redeemer = new Redeemer(leasehold);
const mebibyte = 1_048_576;
const body = randomBytes(mebibyte);

test("a claim is sent at most twice its size and a mebibyte more, however it is resumed", async () => {
  const handedOff = await handOff(tenant, body);
  const { claimId, body: first } = await redeemer.take("native", handedOff);
  let served = first.length;
  for (const door of ["connect", "http"] as const) {
    served += (await redeemer.take(door, { ...handedOff, claimId })).body.length;
  }
  const limit = 3 * mebibyte;
  expect(served).toBe(limit);
  for (const door of redeemDoors) {
    expect(await refusedWith(redeemer.redeem(door, { ...handedOff, claimId }))).toMatchObject({
      reason: "CLAIM_BYTES_EXCEEDED",
      metadata: { limit_bytes: `${limit}` },
    });
  }
});

test("pieces that were on their way when their stream broke count as sent", async () => {
  const handedOff = await handOff(tenant, body.subarray(0, 200_000));
  const { claimId } = await redeemer.redeem("native", handedOff);
  let served = 0;
  for (let round = 0; round < 100; round++) {
    const again = await redeemer.redeem("native", { ...handedOff, claimId }).catch((error: unknown) => error);
    if (!(again instanceof Redemption)) {
      expect(again).toMatchObject({ reason: "CLAIM_BYTES_EXCEEDED" });
      break;
    }
    served += (await again.read(1)).length;
    again.hangUp();
  }
  expect(served).toBeGreaterThan(0);
  expect(served).toBeLessThanOrEqual(2 * 200_000 + mebibyte);
});

test("what is counted and not sent is given back when a stream breaks", async () => {
  const handedOff = await handOff(tenant, body);
  const broken = await redeemer.redeem("native", handedOff);
  const received = await broken.read(100_000);
  broken.hangUp();
  const later = await redeemer.redeem("native", { ...handedOff, claimId: broken.claimId, offset: received.length });
  const [claim] = await claimsOf(leasehold.database, handedOff);
  const aheadOfLater = BigInt(body.length - received.length);
  const sentByEarlier = required(claim).served_bytes - aheadOfLater;
  expect(sentByEarlier).toBe(required(claim).delivered_bytes);
  expect(sentByEarlier).toBeLessThan(BigInt(body.length));
  later.hangUp();
});

test("progress extends a hold, up to its cap", async () => {
  const handedOff = await handOff(tenant, randomBytes(10 * mebibyte));
  const redemption = await redeemer.redeem("native", handedOff);
  const soon = await endHold(leasehold.database, redemption.claimId, -60);
  await redemption.read(9 * mebibyte);
  expect((await claimOf(handedOff)).hold_expire_time).toBeGreaterThan(soon);
  const capped = await redeemer.redeem("native", { ...handedOff, claimId: redemption.claimId });
  const [row] = await query<StoredClaim>(
    leasehold.database,
    "update claim set hold_cap_time = hold_expire_time + interval '1 millisecond' where claim_id = $1 returning *",
    [claimUuid(redemption.claimId)],
  );
  await capped.read(9 * mebibyte);
  expect((await claimOf(handedOff)).hold_expire_time).toBe(required(row).hold_cap_time);
  capped.hangUp();
});

async function claimOf(handedOff: HandedOff): Promise<StoredClaim> {
  return required((await claimsOf(leasehold.database, handedOff))[0]);
}
