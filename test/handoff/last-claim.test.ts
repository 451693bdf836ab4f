import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { Claim_State, Handoff_IncompleteClaimPolicy, HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { Lease_EndReason, Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { toTimestamp } from "../../src/proto-values/proto-time.ts";
import { seenReason } from "../server/seen-error.ts";
import { required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { ageHandoff, claimsOf, endHold, type HandedOff, handOff } from "./handed-off.ts";
import { Redeemer, redeemDoors, refusedWith } from "./redeemer.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold);
const redeemer = new Redeemer(leasehold);
const body = randomBytes(100_000);
/** A second longer than a claim is held. */
const pastHoldSeconds = 601;

test("a lease does not end when its last claim is delivered, and ends when that is confirmed, its bytes with it", async () => {
  const handedOff = await handOff(tenant, body, { deleteOnClaim: true });
  const { claimId } = await redeemer.take("http", handedOff);
  expect((await tenant.get(handedOff.leaseId)).status).toBe(200);
  expect(await redeemer.confirm("http", handedOff.token, claimId)).toMatchObject({ leaseEnded: true });
  const lease = await tenant.show(handedOff.leaseId);
  expect(lease).toMatchObject({ state: Lease_State.EXPIRED, endReason: Lease_EndReason.LAST_CLAIM });
  expect(lease.destroyTime).toBeDefined();
  await expectUnreadable(handedOff);
});

test("without a confirmation the lease ends at the hold's end, and nothing is readable after it, with no sweeper about", async () => {
  const handedOff = await handOff(tenant, body, { deleteOnClaim: true });
  await redeemer.take("http", handedOff);
  await ageHandoff(leasehold.database, handedOff, pastHoldSeconds);
  const [claim] = await claimsOf(leasehold.database, handedOff);
  const end = { endReason: Lease_EndReason.LAST_CLAIM, endTime: toTimestamp(required(claim).hold_expire_time) };
  expect(await tenant.show(handedOff.leaseId)).toMatchObject({ state: Lease_State.EXPIRED, ...end });
  await expectUnreadable(handedOff);
  await leasehold.sweep();
  const lease = await tenant.show(handedOff.leaseId);
  expect(lease).toMatchObject(end);
  expect(lease.destroyTime).toBeDefined();
  expect(await claimsOf(leasehold.database, handedOff)).toMatchObject([{ state: Claim_State.USED }]);
});

test("content that is delivered with its reservation ends its lease at the hold's end too", async () => {
  const handedOff = await handOff(tenant, body.subarray(0, 1_000), { deleteOnClaim: true });
  await redeemer.take("http", { ...handedOff, requestId: crypto.randomUUID() });
  await ageHandoff(leasehold.database, handedOff, pastHoldSeconds);
  await expectUnreadable(handedOff);
});

test("a claim that burns after the others were delivered leaves the lease to end with their holds, with no sweeper about", async () => {
  const burn = Handoff_IncompleteClaimPolicy.BURN;
  const handedOff = await handOff(tenant, body, { deleteOnClaim: true, maxClaims: 2, incompleteClaimPolicy: burn });
  const broken = await redeemer.redeem("native", handedOff);
  broken.hangUp();
  await redeemer.take("http", handedOff);
  await endHold(leasehold.database, broken.claimId);
  await leasehold.client(HandoffService).inspectHandoff({ claimToken: handedOff.token });
  expect(await tenant.show(handedOff.leaseId)).toMatchObject({ state: Lease_State.ACTIVE });
  await ageHandoff(leasehold.database, handedOff, pastHoldSeconds);
  expect(await tenant.show(handedOff.leaseId)).toMatchObject({
    state: Lease_State.EXPIRED,
    endReason: Lease_EndReason.LAST_CLAIM,
  });
  await expectUnreadable(handedOff);
});

test("the lease ends when the last of several claims is used, however that one came about", async () => {
  const handedOff = await handOff(tenant, body, { deleteOnClaim: true, maxClaims: 3 });
  const [first, second, third] = [
    await redeemer.take("http", handedOff),
    await redeemer.take("native", handedOff),
    await redeemer.take("connect", handedOff),
  ];
  expect(await redeemer.confirm("connect", handedOff.token, third.claimId)).toMatchObject({ leaseEnded: false });
  await endHold(leasehold.database, first.claimId, 30);
  expect(await tenant.show(handedOff.leaseId)).toMatchObject({ state: Lease_State.ACTIVE });
  expect(await redeemer.confirm("native", handedOff.token, second.claimId)).toMatchObject({ leaseEnded: true });
  const ends = (await claimsOf(leasehold.database, handedOff)).map((claim) => required(claim.end_time ?? undefined));
  const last = required(ends.toSorted((one, other) => (one < other ? -1 : 1)).at(-1));
  expect((await tenant.show(handedOff.leaseId)).endTime).toEqual(toTimestamp(last));
});

test("a lease that is not deleted on claim outlives all its claims", async () => {
  const handedOff = await handOff(tenant, body, { maxClaims: 1 });
  const { claimId } = await redeemer.take("http", handedOff);
  expect(await redeemer.confirm("http", handedOff.token, claimId)).toMatchObject({ leaseEnded: false });
  await ageHandoff(leasehold.database, handedOff, pastHoldSeconds);
  await leasehold.sweep();
  expect((await tenant.get(handedOff.leaseId)).status).toBe(200);
  expect(await refusedWith(redeemer.redeem("http", handedOff))).toMatchObject({ reason: "HANDOFF_EXHAUSTED" });
});

test("of two delete-on-claim tokens the one that is used up first ends the lease for both", async () => {
  const handedOff = await handOff(tenant, body, { deleteOnClaim: true });
  const { claimToken } = await tenant.handoffs.issueHandoff({ leaseId: handedOff.leaseId, deleteOnClaim: true });
  const { claimId } = await redeemer.take("http", { token: claimToken });
  const other = await redeemer.take("http", handedOff);
  expect(await redeemer.confirm("http", claimToken, claimId)).toMatchObject({ leaseEnded: true });
  expect(await refusedWith(redeemer.redeem("http", handedOff))).toMatchObject({ reason: "LEASE_ENDED" });
  expect(await redeemer.confirm("http", handedOff.token, other.claimId)).toMatchObject({ leaseEnded: true });
});

test("an empty body is delivered, confirmed and gone like any other", async () => {
  const handedOff = await handOff(tenant, Buffer.of(), { deleteOnClaim: true, maxClaims: redeemDoors.length });
  const claimIds: string[] = [];
  for (const door of redeemDoors) {
    const taken = await redeemer.take(door, handedOff);
    expect(taken.body).toHaveLength(0);
    claimIds.push(taken.claimId);
  }
  expect((await claimsOf(leasehold.database, handedOff)).map((claim) => claim.state)).toEqual([2, 2, 2]);
  const confirmed = await Promise.all(claimIds.map((claimId) => redeemer.confirm("http", handedOff.token, claimId)));
  expect(confirmed.filter(({ leaseEnded }) => leaseEnded)).toHaveLength(1);
  expect(await tenant.show(handedOff.leaseId)).toMatchObject({ endReason: Lease_EndReason.LAST_CLAIM });
});

/** Neither the owner nor a holder of the token reads a byte, through any door. */
async function expectUnreadable({ leaseId, token }: HandedOff): Promise<void> {
  expect((await tenant.get(leaseId)).status).toBe(410);
  for (const door of ["connect", "native"] as const) {
    expect(await seenReason(tenant.download(leaseId, door))).toBe("LEASE_ENDED");
  }
  for (const door of redeemDoors) {
    expect(await refusedWith(redeemer.redeem(door, { token }))).toMatchObject({ reason: "LEASE_ENDED" });
  }
  expect((await fetch(redeemer.claimUrl(token))).status).toBe(410);
  expect(await seenReason(leasehold.client(HandoffService).inspectHandoff({ claimToken: token }))).toBe("LEASE_ENDED");
}
