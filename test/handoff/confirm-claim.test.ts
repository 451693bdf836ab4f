import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { Claim_State } from "#gen/leasehold/v1/handoff_pb.js";
import { refusalOf, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { claimsOf, endHold, handOff } from "./handed-off.ts";
import { Redeemer, redeemDoors, refusedWith } from "./redeemer.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold);
const redeemer = new Redeemer(leasehold);
const body = randomBytes(1_048_576);

for (const door of redeemDoors) {
  test(`confirming a used claim succeeds again, also after the lease's end (${door})`, async () => {
    const handedOff = await handOff(tenant, body, { deleteOnClaim: true, maxClaims: 2 });
    const [first, second] = [await redeemer.take(door, handedOff), await redeemer.take(door, handedOff)];
    const open = { state: "STATE_USED", leaseEnded: false };
    const ended = { state: "STATE_USED", leaseEnded: true };
    expect(await redeemer.confirm(door, handedOff.token, first.claimId)).toMatchObject(open);
    expect(await redeemer.confirm(door, handedOff.token, first.claimId)).toMatchObject(open);
    expect(await redeemer.confirm(door, handedOff.token, second.claimId)).toMatchObject(ended);
    expect(await redeemer.confirm(door, handedOff.token, first.claimId)).toMatchObject(ended);
    await leasehold.sweep();
    expect(await redeemer.confirm(door, handedOff.token, second.claimId)).toMatchObject(ended);
  });

  test(`a claim that is not delivered cannot be confirmed, and is told how far it came (${door})`, async () => {
    const handedOff = await handOff(tenant, body, { deleteOnClaim: true });
    const { claimId } = await redeemer.redeem("native", handedOff);
    expect(await refusedWith(redeemer.confirm(door, handedOff.token, claimId))).toMatchObject({
      reason: "CLAIM_NOT_DELIVERED",
      metadata: { content_bytes: "1048576", delivered_bytes: expect.any(String) },
    });
    await endHold(leasehold.database, claimId);
    expect(await refusedWith(redeemer.confirm(door, handedOff.token, claimId))).toMatchObject({
      reason: "CLAIM_ENDED",
    });
  });

  test(`a claim that was never made is not found (${door})`, async () => {
    const handedOff = await handOff(tenant, body);
    const claimId = `clm_${"0".repeat(26)}`;
    expect(await refusedWith(redeemer.confirm(door, handedOff.token, claimId))).toMatchObject({ reason: "NOT_FOUND" });
  });

  test(`a claim that was delivered in time is confirmed after its hold's end, and was used then (${door})`, async () => {
    const handedOff = await handOff(tenant, body, { maxClaims: 2 });
    const { claimId } = await redeemer.take(door, handedOff);
    const holdEnd = await endHold(leasehold.database, claimId, 60);
    expect(await redeemer.confirm(door, handedOff.token, claimId)).toMatchObject({ state: "STATE_USED" });
    expect(await claimsOf(leasehold.database, handedOff)).toMatchObject([
      { state: Claim_State.USED, end_time: holdEnd },
    ]);
  });
}

test("a claim that gave its slot back cannot be confirmed, and after the lease's end that is the answer", async () => {
  const handedOff = await handOff(tenant, body);
  const { claimId } = await redeemer.redeem("native", handedOff);
  await endHold(leasehold.database, claimId);
  await leasehold.sweep();
  expect(await refusedWith(redeemer.confirm("http", handedOff.token, claimId))).toMatchObject({
    reason: "CLAIM_ENDED",
    metadata: { claim_state: "STATE_RETURNED" },
  });
  await tenant.leases.deleteLease({ leaseId: handedOff.leaseId });
  expect(await refusedWith(redeemer.confirm("http", handedOff.token, claimId))).toMatchObject({
    reason: "LEASE_ENDED",
  });
});

test("over HTTP the claim id comes in a header or as JSON, and anything else is refused", async () => {
  const handedOff = await handOff(tenant, body, { maxClaims: 2 });
  const { claimId } = await redeemer.take("http", handedOff);
  const confirm = (request: RequestInit) =>
    fetch(`${redeemer.claimUrl(handedOff.token)}/confirm`, { method: "POST", ...request });
  for (const bad of [
    "",
    "{",
    "[]",
    "{}",
    '{"claimId":7}',
    '{"claimId":"clm_"}',
    JSON.stringify({ claimId: `${claimId}0` }),
  ]) {
    const response = await confirm({ body: bad });
    expect(await refusalOf(response)).toMatchObject({
      status: 400,
      reason: "INVALID_FIELD",
      metadata: { field: "claim_id" },
    });
  }
  expect(await refusalOf(await confirm({ headers: { "leasehold-claim-id": "clm_no" } }))).toMatchObject({
    reason: "INVALID_FIELD",
  });
  expect(await refusalOf(await confirm({ body: " ".repeat(2_000) }))).toMatchObject({ reason: "BODY_TOO_LARGE" });
  expect(await (await confirm({ body: JSON.stringify({ claimId }) })).json()).toMatchObject({
    claim: { claimId, state: "STATE_USED" },
  });
  expect(await (await confirm({ body: JSON.stringify({ claim_id: claimId }) })).json()).toMatchObject({
    claim: { claimId },
  });
});
