import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { Claim_State } from "#gen/leasehold/v1/handoff_pb.js";
import { Lease_EndReason, Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { LogLines } from "../support/log-lines.ts";
import { Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { claimsOf, handOff } from "./handed-off.ts";
import { Redeemer, redeemDoors, refusedWith } from "./redeemer.ts";

const log = new LogLines();
const leasehold = await TestLeasehold.start({ logger: log.logger });
const beside = await TestLeasehold.start({ beside: leasehold });
const tenant = await Tenant.open(leasehold);
const redeemer = new Redeemer(leasehold);
const besideRedeemer = new Redeemer(beside);
const mebibyte = 1_048_576;
const body = randomBytes(3 * mebibyte + 1_234);

test("a claim that breaks resumes at any offset up to what was received, and gives the rest of the very same bytes", async () => {
  const { token } = await handOff(tenant, body, { maxClaims: 1_000 });
  const door = fc.constantFrom(...redeemDoors);
  await fc.assert(
    fc.asyncProperty(
      door,
      door,
      fc.nat(body.length - 1),
      fc.double({ min: 0, max: 1, noNaN: true }),
      async (first, second, breakAt, part) => {
        const broken = await redeemer.redeem(first, { token });
        const received = await broken.read(breakAt);
        broken.hangUp();
        const offset = Math.round(part * received.length);
        const resumed = await redeemer.redeem(second, { token, claimId: broken.claimId, offset });
        expect(resumed).toMatchObject({ claimId: broken.claimId, offset, contentBytes: body.length });
        const rest = await resumed.readRest();
        expect(Buffer.concat([received.subarray(0, offset), rest]).equals(body)).toBe(true);
      },
    ),
    { numRuns: 30 },
  );
});

test("a delivered claim resumes at every edge of its pieces and at its end", async () => {
  const short = body.subarray(0, 150_000);
  const { token } = await handOff(tenant, short);
  const { claimId } = await redeemer.take("native", { token });
  for (const offset of [1, 65_535, 65_536, 65_537, short.length - 1, short.length]) {
    const door = redeemDoors[offset % redeemDoors.length] ?? "http";
    const { body: rest } = await redeemer.take(door, { token, claimId, offset });
    expect(rest.equals(short.subarray(offset))).toBe(true);
  }
  for (const door of redeemDoors) {
    expect((await redeemer.take(door, { token, claimId, offset: short.length })).body).toHaveLength(0);
  }
});

for (const door of redeemDoors) {
  test(`a claim does not resume behind what was delivered, and says how far that is (${door})`, async () => {
    const handedOff = await handOff(tenant, body);
    const broken = await redeemer.redeem("native", handedOff);
    const received = await broken.read(mebibyte);
    broken.hangUp();
    const behind = { ...handedOff, claimId: broken.claimId, offset: body.length };
    const refusal = await refusedWith(redeemer.redeem(door, behind));
    const storedOffset = Number(refusal.metadata.stored_offset);
    expect(refusal.reason).toBe("OFFSET_MISMATCH");
    expect(storedOffset).toBeGreaterThanOrEqual(received.length);
    expect(await refusedWith(redeemer.redeem(door, { ...behind, offset: storedOffset + 1 }))).toMatchObject({
      reason: "OFFSET_MISMATCH",
      metadata: { stored_offset: `${storedOffset}` },
    });
    const { body: rest } = await redeemer.take(door, { ...behind, offset: storedOffset });
    expect(rest.equals(body.subarray(storedOffset))).toBe(true);
  });
}

test("an offset without a claim to go on with reserves nothing", async () => {
  const handedOff = await handOff(tenant, body);
  for (const door of redeemDoors) {
    expect(await refusedWith(redeemer.redeem(door, { ...handedOff, offset: 1 }))).toMatchObject({
      reason: "OFFSET_MISMATCH",
      metadata: { stored_offset: "0" },
    });
  }
  expect(await claimsOf(leasehold.database, handedOff)).toEqual([]);
});

for (const door of redeemDoors) {
  test(`resuming cuts the claim's earlier stream (${door})`, async () => {
    const { token } = await handOff(tenant, body);
    const earlier = await redeemer.redeem("native", { token });
    const later = await redeemer.redeem(door, { token, claimId: earlier.claimId });
    expect(await refusedWith(earlier.readRest())).toMatchObject({ reason: "STREAM_SUPERSEDED" });
    expect((await later.readRest()).equals(body)).toBe(true);
  });
}

test("resuming at another server cuts the claim's earlier stream", { timeout: 20_000 }, async () => {
  const { token } = await handOff(tenant, body);
  const earlier = await redeemer.redeem("native", { token });
  const linesBefore = log.lines.length;
  const { body: whole } = await besideRedeemer.take("native", { token, claimId: earlier.claimId });
  expect(whole.equals(body)).toBe(true);
  await log.find((line) => line.reason === "STREAM_SUPERSEDED", linesBefore);
  await expect(earlier.readRest()).rejects.toThrow();
});

test("a claim id of another token does not work, and looks like one that never was", async () => {
  const [mine, other] = [await handOff(tenant, body), await handOff(tenant, body)];
  const { claimId } = await redeemer.take("native", { token: other.token });
  const unknown = `${claimId.slice(0, -4)}${claimId.endsWith("0000") ? "1111" : "0000"}`;
  for (const door of redeemDoors) {
    const foreign = await refusedWith(redeemer.redeem(door, { token: mine.token, claimId }));
    expect(foreign.reason).toBe("NOT_FOUND");
    expect(foreign).toEqual(await refusedWith(redeemer.redeem(door, { token: mine.token, claimId: unknown })));
    const notMine = await refusedWith(redeemer.confirm(door, mine.token, claimId));
    expect(notMine).toEqual(await refusedWith(redeemer.confirm(door, mine.token, unknown)));
  }
  expect(await claimsOf(leasehold.database, mine)).toEqual([]);
});

test("a claim id that cannot have been issued reserves no new claim", async () => {
  const handedOff = await handOff(tenant, body);
  const impossible = `clm_${"z".repeat(26)}`;
  for (const door of redeemDoors) {
    const { reason } = await refusedWith(redeemer.redeem(door, { token: handedOff.token, claimId: impossible }));
    expect(["NOT_FOUND", "INVALID_FIELD"]).toContain(reason);
  }
  expect(await claimsOf(leasehold.database, handedOff)).toEqual([]);
});

test("a delete-on-claim lease outlives a claim that breaks in its last megabyte, and ends once that is resumed and confirmed", async () => {
  const handedOff = await handOff(tenant, body, { deleteOnClaim: true });
  const { token, leaseId } = handedOff;
  const broken = await redeemer.redeem("native", { token });
  const received = await broken.read(body.length - mebibyte / 2);
  broken.hangUp();
  const { claimId } = broken;
  const resumed = await redeemer.take("http", { token, claimId, offset: received.length });
  expect(Buffer.concat([received, resumed.body]).equals(body)).toBe(true);
  expect(await tenant.show(leaseId)).toMatchObject({ state: Lease_State.ACTIVE });
  expect(await claimsOf(leasehold.database, handedOff)).toMatchObject([{ state: Claim_State.DELIVERED }]);
  expect(await redeemer.confirm("http", token, claimId)).toMatchObject({ state: "STATE_USED", leaseEnded: true });
  expect(await tenant.show(leaseId)).toMatchObject({
    state: Lease_State.EXPIRED,
    endReason: Lease_EndReason.LAST_CLAIM,
  });
  expect((await tenant.get(leaseId)).status).toBe(410);
});
