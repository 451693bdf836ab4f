import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { Claim_State, Handoff_IncompleteClaimPolicy, HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { Lease_EndReason, Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { toTimestamp } from "../../src/proto-values/proto-time.ts";
import { Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { claimsOf, endHold, endToken, type HandedOff, handOff, handoffRow } from "./handed-off.ts";
import { Redeemer, refusedWith } from "./redeemer.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold);
const redeemer = new Redeemer(leasehold);
const body = randomBytes(1_048_576);
const burn = { incompleteClaimPolicy: Handoff_IncompleteClaimPolicy.BURN };

test("unfinished claims give their slot back three times for each claim allowed, and burn it after", async () => {
  const handedOff = await handOff(tenant, body, { deleteOnClaim: true });
  for (let round = 0; round < 3; round++) {
    await breakOff(handedOff);
  }
  const last = await breakOff(handedOff);
  expect(await refusedWith(redeemer.redeem("http", handedOff))).toMatchObject({ reason: "HANDOFF_EXHAUSTED" });
  const states = (await claimsOf(leasehold.database, handedOff)).map((claim) => claim.state);
  expect(states).toEqual([Claim_State.RETURNED, Claim_State.RETURNED, Claim_State.RETURNED, Claim_State.BURNT]);
  expect(await refusedWith(redeemer.redeem("http", { ...handedOff, claimId: last }))).toMatchObject({
    reason: "CLAIM_ENDED",
    metadata: { claim_state: "STATE_BURNT" },
  });
});

test("a delete-on-claim lease whose claims were all burnt and none used does not end", async () => {
  const handedOff = await handOff(tenant, body, { ...burn, deleteOnClaim: true, maxClaims: 2 });
  await breakOff(handedOff);
  await breakOff(handedOff);
  expect(await refusedWith(redeemer.redeem("http", handedOff))).toMatchObject({ reason: "HANDOFF_EXHAUSTED" });
  expect(await handoffRow(leasehold.database, handedOff)).toMatchObject({ burnt_claims: 2, open_claims: 0 });
  expect(await tenant.show(handedOff.leaseId)).toMatchObject({ state: Lease_State.ACTIVE });
});

test("max_incomplete_claims is what the issuer says, and 0 burns at once", async () => {
  const once = await handOff(tenant, body, { maxIncompleteClaims: 1 });
  const never = await handOff(tenant, body, { maxIncompleteClaims: 0 });
  await breakOff(once);
  expect(await handoffRow(leasehold.database, once)).toMatchObject({ open_claims: 1 });
  await breakOff(once);
  await breakOff(never);
  for (const handedOff of [once, never]) {
    expect(await refusedWith(redeemer.redeem("native", handedOff))).toMatchObject({ reason: "HANDOFF_EXHAUSTED" });
  }
});

test("the burning policy burns the first unfinished claim", async () => {
  const handedOff = await handOff(tenant, body, burn);
  await breakOff(handedOff);
  expect(await refusedWith(redeemer.redeem("http", handedOff))).toMatchObject({ reason: "HANDOFF_EXHAUSTED" });
  expect(await claimsOf(leasehold.database, handedOff)).toMatchObject([{ state: Claim_State.BURNT }]);
});

test("the sweeper settles claims whose hold is over, with the hold's end as their end", async () => {
  const handedOff = await handOff(tenant, body, { maxClaims: 2 });
  const broken = await redeemer.redeem("native", handedOff);
  broken.hangUp();
  const { claimId } = await redeemer.take("native", handedOff);
  const returned = await endHold(leasehold.database, broken.claimId, 20);
  const used = await endHold(leasehold.database, claimId, 10);
  await leasehold.sweep();
  expect(await claimsOf(leasehold.database, handedOff)).toMatchObject([
    { state: Claim_State.RETURNED, end_time: returned },
    { state: Claim_State.USED, end_time: used },
  ]);
  expect(await handoffRow(leasehold.database, handedOff)).toMatchObject({
    open_claims: 0,
    delivered_claims: 0,
    used_claims: 1,
    incomplete_claims: 1,
  });
});

test("a lease ends when its claims are used and burnt, at least one of them used, at the time the last was over", async () => {
  const handedOff = await handOff(tenant, body, { ...burn, deleteOnClaim: true, maxClaims: 2 });
  const { claimId } = await redeemer.take("http", handedOff);
  await redeemer.confirm("http", handedOff.token, claimId);
  const broken = await redeemer.redeem("native", handedOff);
  broken.hangUp();
  expect(await tenant.show(handedOff.leaseId)).toMatchObject({ state: Lease_State.ACTIVE });
  const burnt = await endHold(leasehold.database, broken.claimId, 0);
  expect(await refusedWith(redeemer.redeem("http", handedOff))).toMatchObject({ reason: "LEASE_ENDED" });
  expect(await tenant.show(handedOff.leaseId)).toMatchObject({
    state: Lease_State.EXPIRED,
    endReason: Lease_EndReason.LAST_CLAIM,
    endTime: toTimestamp(burnt),
  });
});

test("a token that runs out ends no lease, even if it takes a claim's slot with it", async () => {
  const handedOff = await handOff(tenant, body, { ...burn, deleteOnClaim: true, maxClaims: 2 });
  await halfUsed(handedOff);
  await endToken(leasehold.database, handedOff);
  await leasehold.sweep();
  expect((await claimsOf(leasehold.database, handedOff)).map((claim) => claim.state)).toEqual([
    Claim_State.USED,
    Claim_State.RETURNED,
  ]);
  expect(await refusedWith(redeemer.redeem("http", handedOff))).toMatchObject({ reason: "HANDOFF_EXPIRED" });
  expect(await tenant.show(handedOff.leaseId)).toMatchObject({ state: Lease_State.ACTIVE });
});

test("a token that is revoked ends no lease, even if it takes a claim's slot with it", async () => {
  const handedOff = await handOff(tenant, body, { ...burn, deleteOnClaim: true, maxClaims: 2 });
  await halfUsed(handedOff);
  await tenant.handoffs.revokeHandoff({ handoffId: handedOff.handoffId });
  await leasehold.client(HandoffService).inspectHandoff({ claimToken: handedOff.token });
  expect((await claimsOf(leasehold.database, handedOff)).map((claim) => claim.state)).toEqual([
    Claim_State.USED,
    Claim_State.RETURNED,
  ]);
  expect(await refusedWith(redeemer.redeem("http", handedOff))).toMatchObject({ reason: "HANDOFF_REVOKED" });
  expect(await tenant.show(handedOff.leaseId)).toMatchObject({ state: Lease_State.ACTIVE });
});

test("a claim that was delivered before its token was revoked is used, and ends the lease", async () => {
  const handedOff = await handOff(tenant, body, { deleteOnClaim: true });
  const { claimId } = await redeemer.take("http", handedOff);
  await tenant.handoffs.revokeHandoff({ handoffId: handedOff.handoffId });
  expect(await redeemer.confirm("http", handedOff.token, claimId)).toMatchObject({
    state: "STATE_USED",
    leaseEnded: true,
  });
  expect(await tenant.show(handedOff.leaseId)).toMatchObject({ endReason: Lease_EndReason.LAST_CLAIM });
});

/** Makes a claim, breaks it, and lets its hold be over. The next call for the token settles it. */
async function breakOff(handedOff: HandedOff): Promise<string> {
  const broken = await redeemer.redeem("native", handedOff);
  broken.hangUp();
  await endHold(leasehold.database, broken.claimId);
  return broken.claimId;
}

/** Uses one of two claims, and leaves the other half way. */
async function halfUsed(handedOff: HandedOff): Promise<void> {
  const { claimId } = await redeemer.take("http", handedOff);
  await redeemer.confirm("http", handedOff.token, claimId);
  (await redeemer.redeem("native", handedOff)).hangUp();
}
