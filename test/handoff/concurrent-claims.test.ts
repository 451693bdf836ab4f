import { randomBytes, randomUUID } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { Claim_State } from "#gen/leasehold/v1/handoff_pb.js";
import { lockWaiters } from "../support/lock-wait.ts";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { claimsOf, endHold, type HandedOff, handOff, handoffRow, handoffUuid } from "./handed-off.ts";
import { type Redeem, Redeemer, Refusal, redeemDoors } from "./redeemer.ts";

const leasehold = await TestLeasehold.start();
const beside = await TestLeasehold.start({ beside: leasehold });
const tenant = await Tenant.open(leasehold);
const redeemers = [new Redeemer(leasehold), new Redeemer(beside)] as const;
const body = randomBytes(1_000);
const spentStates: readonly number[] = [Claim_State.DELIVERED, Claim_State.USED, Claim_State.BURNT];

for (const maxClaims of [1, 3, 100]) {
  test(`1,000 concurrent claims on max_claims ${maxClaims} deliver exactly ${maxClaims}, and the rest are refused`, async () => {
    const handedOff = await handOff(tenant, body, { maxClaims });
    const outcomes = await Promise.all(
      Array.from({ length: 1_000 }, (_, index) => claimOnce(index, { token: handedOff.token })),
    );
    const refusals = outcomes.filter((outcome) => outcome instanceof Refusal);
    expect(refusals.filter(({ reason }) => !["HANDOFF_BUSY", "HANDOFF_EXHAUSTED"].includes(reason))).toEqual([]);
    const delivered = outcomes.filter((outcome) => Buffer.isBuffer(outcome));
    expect(delivered).toHaveLength(maxClaims);
    expect(delivered.every((received) => body.equals(received))).toBe(true);
    const claims = await claimsOf(leasehold.database, handedOff);
    expect(claims.map((claim) => claim.state)).toEqual(new Array(maxClaims).fill(Claim_State.DELIVERED));
    expect(await handoffRow(leasehold.database, handedOff)).toMatchObject({ open_claims: maxClaims, used_claims: 0 });
  });
}

test("a claim is delivered although others were made and delivered while it waited for their handoff", async () => {
  // More than the sockets take on their own, so that the last piece waits to be asked for, and no more than is allowed
  // ahead, so that it is the delivery that waits for the lock.
  const content = randomBytes(8 * 1_048_576);
  const handedOff = await handOff(tenant, content, { maxClaims: 3 });
  const slow = await redeemers[0].redeem("http", { token: handedOff.token });
  const rest = await leasehold.database.transaction(async (transaction) => {
    await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(handedOff.leaseId)]);
    const received = slow.readRest();
    await lockWaiters(leasehold.database, 1);
    // What two claims of other servers leave behind that held the lock in the meantime.
    await query(
      transaction,
      `insert into claim (owner_id, claim_id, handoff_id, lease_id, state, stream_generation, create_time, hold_expire_time,
        hold_cap_time, deliver_time, content_bytes, content_version, delivered_bytes)
      select owner_id, uuidv7(), handoff_id, lease_id, $2, 1, create_time, hold_expire_time,
        hold_cap_time, create_time, content_bytes, content_version, content_bytes
      from claim, generate_series(1, 2) where handoff_id = $1`,
      [handoffUuid(handedOff.handoffId), Claim_State.DELIVERED],
    );
    await query(transaction, "update handoff set open_claims = 3, delivered_claims = 2 where handoff_id = $1", [
      handoffUuid(handedOff.handoffId),
    ]);
    return { received };
  });
  expect(content.equals(await rest.received)).toBe(true);
  expect(await handoffRow(leasehold.database, handedOff)).toMatchObject({ open_claims: 3, delivered_claims: 3 });
});

test("claims that break, resume, give up and are confirmed at random deliver no more than max_claims between them", async () => {
  const receiver = fc.record({
    door: fc.constantFrom(...redeemDoors),
    server: fc.constantFrom(0, 1),
    hasRequestId: fc.boolean(),
    breaksAt: fc.option(fc.integer({ min: 0, max: 250_000 })),
    afterwards: fc.constantFrom("resume", "abandon", "let the hold end"),
    confirms: fc.boolean(),
  });
  type Receiver = typeof receiver extends fc.Arbitrary<infer Value> ? Value : never;
  const content = randomBytes(300_000);

  async function receive(handedOff: HandedOff, by: Receiver): Promise<string | undefined> {
    const redeemer = redeemers[by.server];
    const request = { token: handedOff.token, ...(by.hasRequestId ? { requestId: randomUUID() } : {}) };
    if (by.breaksAt === null) {
      const { claimId } = await redeemer.take(by.door, request);
      await (by.confirms ? redeemer.confirm(by.door, handedOff.token, claimId) : undefined);
      return claimId;
    }
    const broken = await redeemer.redeem(by.door, request);
    const received = await broken.read(by.breaksAt);
    broken.hangUp();
    if (by.afterwards === "let the hold end") {
      await endHold(leasehold.database, broken.claimId);
    }
    if (by.afterwards !== "resume") {
      return undefined;
    }
    const { claimId, body: rest } = await redeemer.take(by.door, {
      ...request,
      claimId: broken.claimId,
      offset: received.length,
    });
    expect(Buffer.concat([received, rest]).equals(content)).toBe(true);
    return claimId;
  }

  await fc.assert(
    fc.asyncProperty(
      fc.array(receiver, { minLength: 30, maxLength: 60 }),
      fc.integer({ min: 1, max: 5 }),
      async (receivers, maxClaims) => {
        const handedOff = await handOff(tenant, content, { maxClaims, maxIncompleteClaims: 10 });
        const outcomes = await Promise.allSettled(receivers.map((by) => receive(handedOff, by)));
        await leasehold.sweep();
        const delivered = outcomes.flatMap((outcome) =>
          outcome.status === "fulfilled" && outcome.value !== undefined ? [outcome.value] : [],
        );
        expect(new Set(delivered).size).toBeLessThanOrEqual(maxClaims);
        const spent = (await claimsOf(leasehold.database, handedOff)).filter((claim) =>
          spentStates.includes(claim.state),
        );
        expect(spent.length).toBeLessThanOrEqual(maxClaims);
        expect(spent.length).toBeGreaterThanOrEqual(new Set(delivered).size);
        const unexpected = outcomes.filter(
          (outcome) => outcome.status === "rejected" && !(outcome.reason instanceof Refusal),
        );
        expect(unexpected).toEqual([]);
      },
    ),
    { numRuns: 10 },
  );
});

/** Every other claim has a request_id; servers and doors take turns. */
async function claimOnce(index: number, request: Redeem): Promise<Buffer | Refusal> {
  const door = redeemDoors[index % redeemDoors.length] ?? "http";
  const redeemer = redeemers[Math.floor(index / redeemDoors.length) % redeemers.length];
  const requested = index % 2 === 0 ? request : { ...request, requestId: randomUUID() };
  try {
    return (await redeemer?.take(door, requested))?.body ?? Buffer.alloc(0);
  } catch (error) {
    if (error instanceof Refusal) {
      return error;
    }
    throw error;
  }
}
