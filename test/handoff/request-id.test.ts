import { randomBytes, randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { Claim_State } from "#gen/leasehold/v1/handoff_pb.js";
import { idempotencyScope } from "../../src/idempotency/idempotency.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { claimsOf, type HandedOff, handOff, handoffRow, handoffUuid } from "./handed-off.ts";
import { Redeemer, Refusal, redeemDoors, refusedWith } from "./redeemer.ts";

const leasehold = await TestLeasehold.start();
const beside = await TestLeasehold.start({ beside: leasehold });
const tenant = await Tenant.open(leasehold);
const redeemers = [new Redeemer(leasehold), new Redeemer(beside)] as const;
const [redeemer] = redeemers;
const small = randomBytes(1_000);
const large = randomBytes(1_000_000);

for (const door of redeemDoors) {
  test(`a request_id finds the claim whose answer was lost, and no second slot is taken (${door})`, async () => {
    const handedOff = await handOff(tenant, large);
    const requestId = randomUUID();
    const lost = await redeemer.redeem(door, { ...handedOff, requestId });
    lost.hangUp();
    const found = await redeemer.take(door, { ...handedOff, requestId: requestId.toUpperCase() });
    expect(found.claimId).toBe(lost.claimId);
    expect(found.body.equals(large)).toBe(true);
    expect(await claimsOf(leasehold.database, handedOff)).toHaveLength(1);
    const rest = await redeemer.take(door, { ...handedOff, requestId, offset: 999_000 });
    expect(rest.body.equals(large.subarray(999_000))).toBe(true);
  });
}

test("the same request_id on another token makes a claim of its own", async () => {
  const [one, two] = [await handOff(tenant, small), await handOff(tenant, small)];
  const requestId = randomUUID();
  const first = await redeemer.take("native", { ...one, requestId });
  const second = await redeemer.take("native", { ...two, requestId });
  expect(second.claimId).not.toBe(first.claimId);
});

for (const [size, content] of [
  ["small", small],
  ["large", large],
] as const) {
  test(`32 concurrent twins of one request_id at two servers make one claim (${size} content)`, async () => {
    const handedOff = await handOff(tenant, content, { maxClaims: 10 });
    const requestId = randomUUID();
    const outcomes = await Promise.all(
      Array.from({ length: 32 }, (_, index) => {
        const door = redeemDoors[index % redeemDoors.length] ?? "http";
        return redeemers[index % 2 === 0 ? 0 : 1]
          .take(door, { ...handedOff, requestId })
          .catch((error: unknown) => error);
      }),
    );
    const claims = await claimsOf(leasehold.database, handedOff);
    expect(claims).toHaveLength(1);
    const taken = outcomes.filter(
      (outcome): outcome is { claimId: string; body: Buffer } => !(outcome instanceof Error),
    );
    expect(taken.length).toBeGreaterThan(0);
    expect(new Set(taken.map(({ claimId }) => claimId)).size).toBe(1);
    expect(taken.every((twin) => twin.body.equals(content))).toBe(true);
    const refused = outcomes.filter((outcome) => outcome instanceof Refusal).map(({ reason }) => reason);
    expect(refused.filter((reason) => !["STREAM_SUPERSEDED", "CLAIM_BYTES_EXCEEDED"].includes(reason))).toEqual([]);
    expect(await handoffRow(leasehold.database, handedOff)).toMatchObject({ open_claims: 1, delivered_claims: 1 });
  });
}

test("twins that wait in one batch take one slot between them, and leave the rest to others", async () => {
  const handedOff = await handOff(tenant, small, { maxClaims: 3 });
  const requestId = randomUUID();
  const outcomes = await whileLeaseIsLocked(handedOff.leaseId, async () => {
    // The first is in flight and waits for the lock; what follows is one batch.
    const first = redeemer.take("native", { ...handedOff, requestId: randomUUID() });
    await lockWaiters(leasehold.database, 1);
    const twins = [1, 2, 3, 4].map(() => redeemer.redeem("native", { ...handedOff, requestId }));
    const other = redeemer.take("native", { ...handedOff, requestId: randomUUID() });
    await gathered(handedOff);
    return [first, ...twins, other];
  });
  await Promise.allSettled(outcomes);
  await expect(outcomes.at(-1)).resolves.toMatchObject({ body: small });
  expect(await claimsOf(leasehold.database, handedOff)).toHaveLength(3);
});

test("a twin that commits at another server during the wait costs those behind it in the batch nothing", async () => {
  const handedOff = await handOff(tenant, small, { maxClaims: 3 });
  const requestId = randomUUID();
  const outcomes = await leasehold.database.transaction(async (claimant) => {
    // Whoever is to remember this request_id waits for the end of this transaction.
    const key = [tenant.ownerId, idempotencyScope.claimHandoff, handoffUuid(handedOff.handoffId), requestId];
    await query(claimant, insertRequest, key);
    const started = await whileLeaseIsLocked(handedOff.leaseId, async () => {
      const first = redeemer.take("native", { ...handedOff, requestId: randomUUID() });
      await lockWaiters(leasehold.database, 1);
      const elsewhere = redeemers[1].take("native", { ...handedOff, requestId });
      await lockWaiters(leasehold.database, 2);
      const twin = redeemer.redeem("native", { ...handedOff, requestId });
      const behind = { ...handedOff, requestId: randomUUID() };
      const both = [redeemer.take("native", behind), redeemer.redeem("native", behind)];
      await gathered(handedOff);
      return [first, elsewhere, twin, ...both];
    });
    // The other server has the lease and waits for the request_id; the batch waits for the lease.
    await lockWaiters(leasehold.database, 2);
    await query(claimant, "delete from idempotency where request_id = $1", [requestId]);
    return started;
  });
  const refused = (await Promise.allSettled(outcomes)).flatMap((outcome) =>
    outcome.status === "rejected" && outcome.reason instanceof Refusal ? [outcome.reason.reason] : [],
  );
  // Of twins that both get the claim the later stream cuts the earlier.
  expect(refused.filter((reason) => reason !== "STREAM_SUPERSEDED")).toEqual([]);
  expect(await claimsOf(leasehold.database, handedOff)).toHaveLength(3);
});

test("small content with a request_id is reserved and delivered in one commit", async () => {
  const handedOff = await handOff(tenant, small);
  const { claimId } = await redeemer.redeem("native", { ...handedOff, requestId: randomUUID() });
  const [row] = await query<{ at_once: boolean; state: number; delivered_bytes: bigint }>(
    leasehold.database,
    "select deliver_time = create_time as at_once, state, delivered_bytes from claim where handoff_id = (select handoff_id from claim where claim_id = $1)",
    [(await claimsOf(leasehold.database, handedOff))[0]?.claim_id],
  );
  expect(row).toEqual({ at_once: true, state: Claim_State.DELIVERED, delivered_bytes: 1_000n });
  expect(await redeemer.confirm("native", handedOff.token, claimId)).toMatchObject({ state: "STATE_USED" });
});

for (const door of redeemDoors) {
  test(`small content without a request_id spends no slot for a caller that hangs up before the start (${door})`, async () => {
    const handedOff = await handOff(tenant, small);
    const hungUp = new AbortController();
    await whileLeaseIsLocked(handedOff.leaseId, async () => {
      const call = redeemer.redeem(door, handedOff, hungUp);
      await lockWaiters(leasehold.database, 1);
      hungUp.abort();
      await expect(call).rejects.toThrow();
      return [];
    });
    await claimMade(handedOff);
    const { reason } = await refusedWith(redeemer.redeem(door, handedOff));
    expect(reason).toBe("HANDOFF_BUSY");
    expect(await claimsOf(leasehold.database, handedOff)).toMatchObject([
      { state: Claim_State.HELD, delivered_bytes: 0n },
    ]);
  });
}

test("a request_id that is no UUID is refused, and reserves nothing", async () => {
  const handedOff = await handOff(tenant, small);
  for (const door of redeemDoors) {
    expect(await refusedWith(redeemer.redeem(door, { ...handedOff, requestId: "mine" }))).toMatchObject({
      reason: "INVALID_FIELD",
    });
  }
  expect(await claimsOf(leasehold.database, handedOff)).toEqual([]);
});

/** Runs work while every statement about a lease's claims waits, and lets go when it has started what it returns. */
async function whileLeaseIsLocked<Value>(leaseId: string, work: () => Promise<Value[]>): Promise<Value[]> {
  return await leasehold.database.transaction(async (transaction) => {
    await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(leaseId)]);
    return await work();
  });
}

const insertRequest = `
  insert into idempotency (owner_id, scope, scope_id, request_id, digests, thing_id, create_time)
  values ($1, $2, $3, $4, '', uuidv7(), clock_timestamp())`;

/** Returns once the calls that were made by the native door before have come to wait: this one comes behind them. */
async function gathered({ token }: HandedOff): Promise<void> {
  await redeemer.inspect("native", token);
}

/** Returns once the handoff has a claim. */
async function claimMade(handedOff: HandedOff): Promise<void> {
  while ((await claimsOf(leasehold.database, handedOff)).length === 0) {
    // The next look is a round trip to the database.
  }
}
