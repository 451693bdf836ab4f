import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { Claim_State } from "#gen/leasehold/v1/handoff_pb.js";
import { Lease_EndReason, Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { lockWaiters } from "../support/lock-wait.ts";
import { ServerProcess } from "../support/server-process.ts";
import { leaseUuid, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { claimsOf, endHold, type HandedOff, handOff, type StoredClaim } from "./handed-off.ts";
import { Redeemer, refusedWith } from "./redeemer.ts";

/** The server that goes on. Those that are killed are processes of their own beside it. */
const leasehold = await TestLeasehold.start();
const { database, databaseUrl } = leasehold;
const { dataDir } = leasehold.core.config;
const tenant = await Tenant.open(leasehold);
const redeemer = new Redeemer(leasehold);
const mebibyte = 1_048_576;
const tailBytes = 1_234;
const body = randomBytes(20 * mebibyte + tailBytes);
/** Sent without asking the database before the last piece. */
const short = body.subarray(0, mebibyte + tailBytes);

test("a server that is killed after it reserved a claim leaves one that another server resumes", async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const handedOff = await handOff(tenant, body, { deleteOnClaim: true });
  const { claimId } = await new Redeemer(doomed).redeem("native", handedOff);
  await doomed.kill();
  expect(await claimOf(handedOff)).toMatchObject({ state: Claim_State.HELD });
  await expectGoesOn(handedOff, claimId, body, 0);
});

test("a server that is killed half way has counted at least what it sent, and another resumes from what is recorded", async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const handedOff = await handOff(tenant, body, { deleteOnClaim: true });
  const broken = await new Redeemer(doomed).redeem("native", handedOff);
  const received = await broken.read(12 * mebibyte);
  await doomed.kill();
  const claim = await claimOf(handedOff);
  expect(Number(claim.served_bytes)).toBeGreaterThanOrEqual(received.length);
  expect(claim.delivered_bytes).toBeGreaterThan(0n);
  expect(received.equals(body.subarray(0, received.length))).toBe(true);
  await expectGoesOn(handedOff, broken.claimId, body, Number(claim.delivered_bytes));
});

test("a server that is killed between spending the slot and sending the last piece has not lost the claim", {
  timeout: 20_000,
}, async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const handedOff = await handOff(tenant, short, { deleteOnClaim: true });
  const broken = await new Redeemer(doomed).redeem("native", handedOff);
  const received = await whileLeaseIsLocked(handedOff, async () => {
    const allButLast = await broken.read(mebibyte);
    await lockWaiters(database, 1);
    await doomed.kill();
    return allButLast;
  });
  // The statement that waited is done although nobody is left to hear of it.
  await claimIs(handedOff, Claim_State.DELIVERED);
  await expectGoesOn(handedOff, broken.claimId, short, received.length);
});

test("a server and its statement that are killed before the slot was spent leave a claim that is still to be delivered", async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const handedOff = await handOff(tenant, short, { deleteOnClaim: true });
  const broken = await new Redeemer(doomed).redeem("native", handedOff);
  await whileLeaseIsLocked(handedOff, async () => {
    await broken.read(mebibyte);
    await lockWaiters(database, 1);
    await doomed.kill();
    await query(
      database,
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
  });
  const claim = await claimOf(handedOff);
  expect(claim).toMatchObject({ state: Claim_State.HELD });
  await expectGoesOn(handedOff, broken.claimId, short, Number(claim.delivered_bytes));
});

test("a claim whose server is killed before it is confirmed is confirmed by another", async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const handedOff = await handOff(tenant, body, { deleteOnClaim: true });
  const taken = await new Redeemer(doomed).take("http", handedOff);
  await doomed.kill();
  expect(taken.body.equals(body)).toBe(true);
  expect(await redeemer.confirm("http", handedOff.token, taken.claimId)).toMatchObject({
    state: "STATE_USED",
    leaseEnded: true,
  });
});

test("a confirmation whose answer died with its server is done once, and the next sweep destroys the content", async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const handedOff = await handOff(tenant, body, { deleteOnClaim: true });
  const { claimId } = await redeemer.take("http", handedOff);
  await whileLeaseIsLocked(handedOff, async () => {
    const lost = new Redeemer(doomed).confirm("http", handedOff.token, claimId).catch((error: unknown) => error);
    await lockWaiters(database, 1);
    await doomed.kill();
    expect(await lost).toBeInstanceOf(Error);
  });
  await claimIs(handedOff, Claim_State.USED);
  expect(await tenant.show(handedOff.leaseId)).toMatchObject({
    state: Lease_State.EXPIRED,
    endReason: Lease_EndReason.LAST_CLAIM,
  });
  expect((await tenant.show(handedOff.leaseId)).destroyTime).toBeUndefined();
  expect(await redeemer.confirm("http", handedOff.token, claimId)).toMatchObject({
    state: "STATE_USED",
    leaseEnded: true,
  });
  await leasehold.sweep();
  expect((await tenant.show(handedOff.leaseId)).destroyTime).toBeDefined();
});

test("a slot that a killed server held comes free at its hold's end, and only one claim is ever delivered", async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const handedOff = await handOff(tenant, body);
  const { claimId } = await new Redeemer(doomed).redeem("native", handedOff);
  await doomed.kill();
  expect(await refusedWith(redeemer.redeem("http", handedOff))).toMatchObject({ reason: "HANDOFF_BUSY" });
  await endHold(database, claimId);
  expect((await redeemer.take("http", handedOff)).body.equals(body)).toBe(true);
  expect(await refusedWith(redeemer.redeem("http", { ...handedOff, claimId }))).toMatchObject({
    reason: "CLAIM_ENDED",
  });
  expect(await refusedWith(redeemer.redeem("http", handedOff))).toMatchObject({ reason: "HANDOFF_BUSY" });
  expect((await claimsOf(database, handedOff)).map((claim) => claim.state)).toEqual([
    Claim_State.RETURNED,
    Claim_State.DELIVERED,
  ]);
});

/** The other server delivers the rest from an offset on, once, and the confirmation ends the lease. */
async function expectGoesOn(handedOff: HandedOff, claimId: string, content: Buffer, offset: number): Promise<void> {
  expect(await refusedWith(redeemer.redeem("http", handedOff))).toMatchObject({ reason: "HANDOFF_BUSY" });
  const { body: rest } = await redeemer.take("http", { ...handedOff, claimId, offset });
  expect(rest.equals(content.subarray(offset))).toBe(true);
  expect(await redeemer.confirm("http", handedOff.token, claimId)).toMatchObject({
    state: "STATE_USED",
    leaseEnded: true,
  });
  expect(await claimsOf(database, handedOff)).toMatchObject([{ state: Claim_State.USED }]);
}

/** Runs work while every statement about the lease's claims waits. */
async function whileLeaseIsLocked<Value>({ leaseId }: HandedOff, work: () => Promise<Value>): Promise<Value> {
  return await database.transaction(async (transaction) => {
    await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(leaseId)]);
    return await work();
  });
}

/** Returns once the handoff's one claim is in a state. */
async function claimIs(handedOff: HandedOff, state: Claim_State): Promise<void> {
  while ((await claimOf(handedOff)).state !== state) {
    // The next look is a round trip to the database.
  }
}

async function claimOf(handedOff: HandedOff): Promise<StoredClaim> {
  return required((await claimsOf(database, handedOff))[0]);
}
