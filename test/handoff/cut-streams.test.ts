import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { Claim_State } from "#gen/leasehold/v1/handoff_pb.js";
import { toTimestamp } from "../../src/proto-values/proto-time.ts";
import { LogLines } from "../support/log-lines.ts";
import { leaseUuid, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { claimsOf, type HandedOff, handOff, handoffRow } from "./handed-off.ts";
import { Redeemer, type Redemption, redeemDoors, refusedWith } from "./redeemer.ts";

const log = new LogLines();
/** Its streams look every 2 s whether they may go on. */
const leasehold = await TestLeasehold.start({ logger: log.logger, settings: { LEASEHOLD_CLAIM_HOLD_SECONDS: "6" } });
/** Drops a peer that takes nothing long after a hold without progress is over. */
const impatient = await TestLeasehold.start({
  beside: leasehold,
  logger: log.logger,
  settings: { LEASEHOLD_CLAIM_HOLD_SECONDS: "3", LEASEHOLD_STALL_SECONDS: "8" },
});
const beside = await TestLeasehold.start({ beside: leasehold });
const tenant = await Tenant.open(leasehold);
const redeemer = new Redeemer(leasehold);
const claimMethod = "leasehold.v1.HandoffService/ClaimHandoff";
const body = randomBytes(1_048_576);

test("a hold without progress is not extended, and its end cuts the stream", async () => {
  const handedOff = await handOff(tenant, body);
  const { claimId } = await expectCut(impatient, handedOff, "CLAIM_ENDED");
  expect(await refusedWith(redeemer.redeem("http", { ...handedOff, claimId }))).toMatchObject({
    reason: "CLAIM_ENDED",
  });
});

test("a hold ends with its token at the latest, and the stream with it", async () => {
  const handedOff = await handOff(tenant, body, { ttl: { seconds: 1n } });
  const { claimId } = await expectCut(leasehold, handedOff, "HANDOFF_EXPIRED");
  const { expire_time } = await handoffRow(leasehold.database, handedOff);
  expect(await claimsOf(leasehold.database, handedOff)).toMatchObject([{ hold_expire_time: expire_time }]);
  expect(await refusedWith(redeemer.redeem("http", { ...handedOff, claimId }))).toMatchObject({
    reason: "HANDOFF_EXPIRED",
  });
  expect(await refusedWith(redeemer.redeem("http", handedOff))).toMatchObject({ reason: "HANDOFF_EXPIRED" });
});

test("a hold ends with its lease at the latest, and the stream with it", async () => {
  const handedOff = await handOff(tenant, body);
  await query(
    leasehold.database,
    "update lease set expire_time = now.soon, due_time = now.soon from (select clock_timestamp() + interval '1 second' as soon) as now where lease_id = $1",
    [leaseUuid(handedOff.leaseId)],
  );
  const { claimId } = await expectCut(leasehold, handedOff, "LEASE_ENDED");
  const [claim] = await claimsOf(leasehold.database, handedOff);
  expect((await tenant.show(handedOff.leaseId)).expireTime).toEqual(toTimestamp(required(claim).hold_expire_time));
  expect(await refusedWith(redeemer.redeem("http", { ...handedOff, claimId }))).toMatchObject({
    reason: "LEASE_ENDED",
  });
});

test("a token that is revoked at another server cuts its streams, spends nothing for them, and is refused from then on", async () => {
  const handedOff = await handOff(tenant, body, { maxClaims: 2 });
  const { handoffId } = handedOff;
  const { claimId } = await expectCut(leasehold, handedOff, "HANDOFF_REVOKED", () =>
    tenant.at(beside).handoffs.revokeHandoff({ handoffId }),
  );
  expect(await claimsOf(leasehold.database, handedOff)).toMatchObject([{ state: Claim_State.HELD }]);
  for (const door of redeemDoors) {
    expect(await refusedWith(redeemer.redeem(door, { ...handedOff, claimId }))).toMatchObject({
      reason: "HANDOFF_REVOKED",
    });
    expect(await refusedWith(redeemer.redeem(door, handedOff))).toMatchObject({ reason: "HANDOFF_REVOKED" });
  }
});

test("a lease that is deleted at another server cuts the streams of its claims", async () => {
  const handedOff = await handOff(tenant, body);
  const { leaseId } = handedOff;
  await expectCut(leasehold, handedOff, "LEASE_ENDED", () => tenant.at(beside).leases.deleteLease({ leaseId }));
});

/** Makes a claim whose receiver takes nothing, does what is to cut its stream, and sees that it is cut for this reason. */
async function expectCut(
  server: TestLeasehold,
  handedOff: HandedOff,
  reason: string,
  act: () => Promise<unknown> = async () => undefined,
): Promise<Redemption> {
  const linesBefore = log.lines.length;
  const redemption = await new Redeemer(server).redeem("native", handedOff);
  await act();
  const failed = await log.find((line) => line.method === claimMethod && line.reason !== "CANCELLED", linesBefore);
  expect(failed.reason).toBe(reason);
  await expect(redemption.readRest()).rejects.toThrow();
  return redemption;
}
