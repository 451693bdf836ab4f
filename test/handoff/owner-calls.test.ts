import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { Claim_State, Handoff_State, HandoffService, type HandoffWithClaims } from "#gen/leasehold/v1/handoff_pb.js";
import { seenReason } from "../server/seen-error.ts";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { adminToken, TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { endHold, handOff } from "./handed-off.ts";
import { Redeemer, refusedWith } from "./redeemer.ts";

const leasehold = await TestLeasehold.start();
const beside = await TestLeasehold.start({ beside: leasehold });
const tenant = await Tenant.open(leasehold);
const redeemer = new Redeemer(leasehold);
const body = randomBytes(1_000);

test("pages of any size hold every handoff and every claim once, in order", async () => {
  const { leaseId } = await tenant.store(body);
  for (const claims of [0, 5, 1, 0, 0, 3, 0]) {
    const { claimToken } = await tenant.handoffs.issueHandoff({ leaseId, maxClaims: 10 });
    for (let claim = 0; claim < claims; claim++) {
      await redeemer.take("native", { token: claimToken });
    }
  }
  const whole = flatten((await tenant.handoffs.listHandoffs({ leaseId })).handoffs);
  expect(whole).toHaveLength(13);
  expect(whole).toEqual(whole.toSorted());
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 14 }), async (pageSize) => {
      const listed: string[] = [];
      let pageToken = "";
      do {
        const page = await tenant.handoffs.listHandoffs({ leaseId, pageSize, pageToken });
        const entries = flatten(page.handoffs);
        expect(entries.length).toBeLessThanOrEqual(pageSize);
        listed.push(...entries);
        pageToken = page.nextPageToken;
      } while (pageToken !== "");
      expect(listed).toEqual(whole);
    }),
    { numRuns: 14 },
  );
});

test("a page token behind the last handoff gives an empty page, and one that no list gave is refused", async () => {
  const { leaseId, handoffId } = await handOff(tenant, body);
  expect(await tenant.handoffs.listHandoffs({ leaseId, pageToken: `${handoffId}.` })).toMatchObject({
    handoffs: [],
    nextPageToken: "",
  });
  for (const pageToken of ["x", `${handoffId}.x`, "."]) {
    expect(await seenReason(tenant.handoffs.listHandoffs({ leaseId, pageToken }))).toBe("INVALID_FIELD");
  }
  const empty = await tenant.store(body);
  expect(await tenant.handoffs.listHandoffs({ leaseId: empty.leaseId })).toMatchObject({ handoffs: [] });
});

test("claims whose hold is over are listed as what they have become, with no sweeper about", async () => {
  const { leaseId, token } = await handOff(tenant, randomBytes(1_048_576), { maxClaims: 3 });
  const broken = await redeemer.redeem("native", { token });
  broken.hangUp();
  const delivered = await redeemer.take("http", { token });
  const open = await redeemer.take("http", { token });
  await endHold(leasehold.database, broken.claimId);
  await endHold(leasehold.database, delivered.claimId);
  const { handoffs } = await tenant.handoffs.listHandoffs({ leaseId });
  expect(handoffs).toMatchObject([
    {
      handoff: { usedClaims: 1, openClaims: 1, incompleteClaims: 1 },
      claims: [
        { claimId: broken.claimId, state: Claim_State.RETURNED },
        { claimId: delivered.claimId, state: Claim_State.USED, deliveredBytes: 1_048_576n, servedBytes: 1_048_576n },
        { claimId: open.claimId, state: Claim_State.DELIVERED },
      ],
    },
  ]);
});

test("the owner lists handoffs after the lease's end, until its tombstone is reaped", async () => {
  const { leaseId, token } = await handOff(tenant, body, { deleteOnClaim: true });
  const { claimId } = await redeemer.take("http", { token });
  await redeemer.confirm("http", token, claimId);
  expect((await tenant.handoffs.listHandoffs({ leaseId })).handoffs).toMatchObject([
    { handoff: { state: Handoff_State.LEASE_ENDED, usedClaims: 1 }, claims: [{ claimId, state: Claim_State.USED }] },
  ]);
  const reapable =
    "update lease set end_time = end_time - interval '31 days', create_time = create_time - interval '31 days', unrecoverable_time = clock_timestamp() where lease_id = $1";
  await query(leasehold.database, reapable, [leaseUuid(leaseId)]);
  await leasehold.sweep();
  expect(await seenReason(tenant.handoffs.listHandoffs({ leaseId }))).toBe("NOT_FOUND");
  for (const server of [redeemer, new Redeemer(beside)]) {
    expect(await refusedWith(server.redeem("http", { token }))).toMatchObject({
      reason: "NOT_FOUND",
      message: "NOT_FOUND: There is no such token.",
    });
    expect(await refusedWith(server.confirm("http", token, claimId))).toMatchObject({ reason: "NOT_FOUND" });
  }
});

test("revoking again changes nothing and succeeds, also after the lease's end", async () => {
  const { leaseId, handoffId } = await handOff(tenant, body);
  const first = await tenant.handoffs.revokeHandoff({ handoffId });
  expect(first.handoff).toMatchObject({ state: Handoff_State.REVOKED, handoffId });
  expect(await tenant.handoffs.revokeHandoff({ handoffId })).toEqual(first);
  await tenant.leases.deleteLease({ leaseId });
  expect((await tenant.handoffs.revokeHandoff({ handoffId })).handoff).toMatchObject({
    state: Handoff_State.LEASE_ENDED,
    revokeTime: first.handoff?.revokeTime,
  });
});

test("claims of a suspended account's tokens go on, and its own calls are refused", async () => {
  const suspended = await Tenant.open(leasehold);
  const { leaseId, handoffId, token } = await handOff(suspended, body, { maxClaims: 2, deleteOnClaim: true });
  const before = await redeemer.take("http", { token });
  const { accountId } = suspended.account;
  await leasehold.client(AdminService, adminToken).suspendAccount({ accountId });
  for (const call of [
    () => suspended.handoffs.issueHandoff({ leaseId }),
    () => suspended.handoffs.listHandoffs({ leaseId }),
    () => suspended.handoffs.revokeHandoff({ handoffId }),
  ]) {
    expect(await seenReason(call())).toBe("ACCOUNT_SUSPENDED");
  }
  const after = await redeemer.take("native", { token });
  expect(after.body.equals(body)).toBe(true);
  expect(await leasehold.client(HandoffService).inspectHandoff({ claimToken: token })).toMatchObject({
    handoff: { openClaims: 2 },
  });
  await redeemer.confirm("http", token, before.claimId);
  expect(await redeemer.confirm("native", token, after.claimId)).toMatchObject({ leaseEnded: true });
});

/** A handoff without claims is an entry, and so is every claim. */
function flatten(handoffs: readonly HandoffWithClaims[]): string[] {
  return handoffs.flatMap(({ handoff, claims }) =>
    claims.length === 0 ? [`${handoff?.handoffId}`] : claims.map((claim) => `${handoff?.handoffId} ${claim.claimId}`),
  );
}
