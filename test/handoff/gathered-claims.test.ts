/** Claims of one owner's handoffs that wait together are one statement, and each is judged by its own handoff. */
import { randomBytes, randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { Claim_State } from "#gen/leasehold/v1/handoff_pb.js";
import { lockWaiters } from "../support/lock-wait.ts";
import { leaseUuid, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { ageHandoff, claimsOf, type HandedOff, handOff, handoffRow, handoffUuid } from "./handed-off.ts";
import { Redeemer, Refusal, refusedWith } from "./redeemer.ts";

const leasehold = await TestLeasehold.start();
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);
const redeemer = new Redeemer(leasehold);
const body = randomBytes(1_000);

/** Makes claims while one more waits for its lease, so that they go together behind that, in order. */
async function claimTogether(claims: readonly { token: string; requestId: string }[]): Promise<(Buffer | string)[]> {
  const stuck = await handOff(tenant, body);
  // What a token stands for is remembered then, so that none is overtaken while that is looked up.
  for (const { token } of claims) {
    await redeemer.inspect("native", token).catch(() => undefined);
  }
  const started = await database.transaction(async (transaction) => {
    await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(stuck.leaseId)]);
    const first = take({ ...stuck, requestId: randomUUID() });
    await lockWaiters(database, 1);
    const together = claims.map((claim) => take(claim));
    // By the same door: this comes behind them.
    await redeemer.inspect("native", stuck.token);
    return { all: [first, ...together] };
  });
  const [, ...outcomes] = await Promise.all(started.all);
  return outcomes;
}

async function take(claim: { token: string; requestId: string }): Promise<Buffer | string> {
  try {
    return (await redeemer.take("native", claim)).body;
  } catch (error) {
    if (error instanceof Refusal) {
      return error.reason;
    }
    throw error;
  }
}

const claimOf = ({ token }: Pick<HandedOff, "token">) => ({ token, requestId: randomUUID() });

test("each of a batch is judged by its own handoff: open, taken, revoked, ended, gone, and others of the same lease", async () => {
  const bodies = Array.from({ length: 6 }, (_, index) => randomBytes(1_000 + index));
  const handedOff = await Promise.all(bodies.map((content) => handOff(tenant, content)));
  const [open, single, revoked, ended, gone, wide] = handedOff.map((one) => required(one));
  const { handoff, claimToken } = await tenant.handoffs.issueHandoff({ leaseId: required(wide).leaseId, maxClaims: 2 });
  const second = { ...required(wide), handoffId: required(handoff).handoffId, token: claimToken };
  await tenant.handoffs.revokeHandoff({ handoffId: required(revoked).handoffId });
  await query(database, "delete from handoff where handoff_id = $1", [handoffUuid(required(gone).handoffId)]);
  await tenant.age(required(ended).leaseId, 365 * 86_400);
  const order = [gone, wide, single, second, revoked, single, second, ended, open, second, wide].map((one) =>
    claimOf(required(one)),
  );
  const outcomes = await claimTogether(order);
  const told = outcomes.map((outcome) =>
    typeof outcome === "string" ? outcome : bodies.findIndex((content) => content.equals(outcome)),
  );
  const [busy, taken] = ["HANDOFF_BUSY", 5];
  expect(told).toEqual(["NOT_FOUND", taken, 1, taken, "HANDOFF_REVOKED", busy, taken, "LEASE_ENDED", 0, busy, busy]);
  expect(await handoffRow(database, second)).toMatchObject({ open_claims: 2, delivered_claims: 2 });
  expect(await handoffRow(database, required(wide))).toMatchObject({ open_claims: 1, delivered_claims: 1 });
});

test("one request_id for two handoffs of a batch makes a claim of each", async () => {
  const [one, two] = [await handOff(tenant, body), await handOff(tenant, body)];
  const requestId = randomUUID();
  const outcomes = await claimTogether([one, two].map(({ token }) => ({ token, requestId })));
  expect(outcomes.map((outcome) => Buffer.isBuffer(outcome) && outcome.equals(body))).toEqual([true, true]);
  expect(await claimsOf(database, one)).toHaveLength(1);
  expect(await claimsOf(database, two)).toHaveLength(1);
});

test("of two delete-on-claim handoffs of one lease in a batch the one that is taken whole ends it at its hold's end", async () => {
  const single = await handOff(tenant, body, { deleteOnClaim: true });
  const { handoff, claimToken } = await tenant.handoffs.issueHandoff({
    leaseId: single.leaseId,
    maxClaims: 5,
    deleteOnClaim: true,
  });
  const many = { ...single, handoffId: required(handoff).handoffId, token: claimToken };
  const unspent = await handOff(tenant, body, { deleteOnClaim: true, maxClaims: 2 });
  const outcomes = await claimTogether([many, unspent, single].map(claimOf));
  expect(outcomes.every((outcome) => Buffer.isBuffer(outcome))).toBe(true);
  const [claim] = await claimsOf(database, single);
  expect(claim?.state).toBe(Claim_State.DELIVERED);
  const ends = await endsOf(single);
  expect(ends.due_time).toBe(claim?.hold_expire_time);
  expect(ends.due_time < ends.expire_time).toBe(true);
  const later = await endsOf(unspent);
  expect(later.due_time).toBe(later.expire_time);
  await ageHandoff(database, single, 3_600);
  expect(await refusedWith(redeemer.redeem("native", many))).toMatchObject({ reason: "LEASE_ENDED" });
});

/** When a lease is due to end, and when its time is over. */
async function endsOf({ leaseId }: HandedOff): Promise<{ due_time: bigint; expire_time: bigint }> {
  const text = "select due_time, expire_time from lease where lease_id = $1";
  const [row] = await query<{ due_time: bigint; expire_time: bigint }>(database, text, [leaseUuid(leaseId)]);
  return required(row);
}
