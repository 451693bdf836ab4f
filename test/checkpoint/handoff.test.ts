/** A handoff over a checkpoint delivers the version that was pinned, or the latest there is when a claim is made. */
import { randomBytes, randomUUID } from "node:crypto";
import { describe, expect, test, vi } from "vitest";
import { Claim_State, HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { Redeemer, redeemDoors, refusedWith } from "../handoff/redeemer.ts";
import { seenError, seenReason } from "../server/seen-error.ts";
import { generatedBytes } from "../support/generated-bytes.ts";
import { Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { uploadOf, Workflows } from "./workflow.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold, 1_000_000_000n);
const workflows = new Workflows(tenant);
const redeemer = new Redeemer(leasehold);
const room = { sizeBytes: 100_000_000n };

async function issue(leaseId: string, terms: { checkpointVersion?: bigint; maxClaims?: number } = {}) {
  const { claimToken } = await tenant.handoffs.issueHandoff({ leaseId, maxClaims: 10, ...terms });
  return { token: claimToken };
}

describe.each(redeemDoors)("by %s", (door) => {
  test("a pinned version is delivered whatever is put later, and the latest one follows", async () => {
    const { leaseId } = await workflows.begin();
    const large = randomBytes(300_000);
    await workflows.put(leaseId, "one");
    await workflows.put(leaseId, large);
    const pinned = await issue(leaseId, { checkpointVersion: 1n });
    const pinnedLarge = await issue(leaseId, { checkpointVersion: 2n });
    const latest = await issue(leaseId);
    expect((await redeemer.take(door, latest)).body.equals(large)).toBe(true);
    await workflows.put(leaseId, "three");
    expect((await redeemer.take(door, pinned)).body.toString()).toBe("one");
    expect((await redeemer.take(door, pinnedLarge)).body.equals(large)).toBe(true);
    const { claimId, body } = await redeemer.take(door, latest);
    expect(body.toString()).toBe("three");
    expect(await redeemer.confirm(door, latest.token, claimId)).toMatchObject({ state: "STATE_USED" });
  });

  test("a claim keeps to the version it was made at, also when it is resumed behind later puts", async () => {
    const { leaseId } = await workflows.begin({}, room);
    const body = generatedBytes(3, 0, 20_000_000);
    await workflows.upload("native", uploadOf({ leaseId }, body, 1_048_576));
    const latest = await issue(leaseId);
    const broken = await redeemer.redeem(door, latest);
    const received = await broken.read(100_000);
    broken.hangUp();
    await workflows.put(leaseId, "later");
    const { claimId } = broken;
    const rest = await redeemer.take(door, { ...latest, claimId, offset: 0 });
    expect(received.equals(body.subarray(0, received.length))).toBe(true);
    expect(rest.body.equals(body)).toBe(true);
  });

  test("a lease of which nothing was put yet delivers one empty item", async () => {
    const { leaseId } = await workflows.begin();
    const { body } = await redeemer.take(door, await issue(leaseId));
    expect(body).toHaveLength(0);
  });

  test("a pinned version that was pushed out is VERSION_GONE to its claims", async () => {
    const { leaseId } = await workflows.begin({ retainedVersions: 1 });
    await workflows.put(leaseId, "one");
    const pinned = await issue(leaseId, { checkpointVersion: 1n });
    await workflows.put(leaseId, "two");
    expect(await refusedWith(redeemer.redeem(door, pinned))).toMatchObject({
      reason: "VERSION_GONE",
      metadata: { version: "1", oldest_version: "2", latest_version: "2" },
    });
  });

  test("a claim whose version is pushed out before it is resumed is VERSION_GONE", async () => {
    const { leaseId } = await workflows.begin({ retainedVersions: 1 }, room);
    await workflows.upload("native", uploadOf({ leaseId }, generatedBytes(4, 0, 20_000_000), 1_048_576));
    const latest = await issue(leaseId);
    const broken = await redeemer.redeem(door, latest);
    await broken.read(100_000);
    broken.hangUp();
    await workflows.put(leaseId, "later");
    const resumed = redeemer.redeem(door, { ...latest, claimId: broken.claimId, offset: 0 });
    expect(await refusedWith(resumed)).toMatchObject({ reason: "VERSION_GONE" });
  });

  test("a claim whose version is pushed out while it runs is cut", async () => {
    const { leaseId } = await workflows.begin({ retainedVersions: 1 }, room);
    const body = generatedBytes(5, 0, 60_000_000);
    await workflows.upload("native", uploadOf({ leaseId }, body, 1_048_576));
    const running = await redeemer.redeem(door, await issue(leaseId));
    await running.read(100_000);
    await workflows.put(leaseId, "later");
    await expect(running.readRest()).rejects.toThrow(door === "http" ? /./ : /VERSION_GONE/);
  });
});

test("a claim whose version is pushed out before it is read has spent no slot, although its request_id could find it", async () => {
  const { leaseId } = await workflows.begin({ retainedVersions: 1 });
  await workflows.put(leaseId, "one");
  const { token } = await issue(leaseId);
  const variant = leasehold.core.variants.of({ variant: Lease_Variant.CHECKPOINT });
  const { openContent } = variant;
  vi.spyOn(variant, "openContent").mockImplementationOnce(async (...asked) => {
    await workflows.put(leaseId, "two");
    return await openContent.apply(variant, asked);
  });
  const redeemed = redeemer.redeem("native", { token, requestId: randomUUID() });
  expect(await refusedWith(redeemed)).toMatchObject({ reason: "VERSION_GONE" });
  const { handoffs } = await tenant.handoffs.listHandoffs({ leaseId });
  expect(handoffs.flatMap(({ claims }) => claims.map(({ state }) => state))).toEqual([Claim_State.HELD]);
  expect((await redeemer.take("native", { token })).body.toString()).toBe("two");
});

test("the item tells the media type, the metadata, the time and the SHA-256 of its version", async () => {
  const { leaseId } = await workflows.begin();
  const put = await workflows.put(leaseId, "one", { contentType: "text/plain", metadata: { step: "7" } });
  const { token } = await issue(leaseId);
  const handoffs = leasehold.nativeClient(HandoffService);
  for await (const { part } of handoffs.claimHandoff({ claimToken: token })) {
    if (part.case === "itemStart") {
      expect(part.value).toMatchObject({
        contentType: "text/plain",
        sizeBytes: 3n,
        attributes: { step: "7" },
        createTime: put.createTime,
        sha256: put.sha256,
      });
    }
  }
  expect.hasAssertions();
});

test("a version that is not there cannot be pinned, and one of Storage cannot be named", async () => {
  const { leaseId } = await workflows.begin({ retainedVersions: 1 });
  await workflows.put(leaseId, "one");
  await workflows.put(leaseId, "two");
  const pin = (checkpointVersion: bigint) => tenant.handoffs.issueHandoff({ leaseId, checkpointVersion });
  expect((await seenError(pin(1n))).details.ErrorInfo).toMatchObject({ reason: "VERSION_GONE" });
  expect(await seenReason(pin(3n))).toBe("NOT_FOUND");
  const stored = await tenant.store(Buffer.from("x"));
  const ofStorage = tenant.handoffs.issueHandoff({ leaseId: stored.leaseId, checkpointVersion: 1n });
  expect(await seenReason(ofStorage)).toBe("INVALID_FIELD");
});
