/** What is put is what is got: versions, their order, their end, and how a call names its lease. */
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { Lease_State, Lease_Variant, Lease_WriteAccess } from "#gen/leasehold/v1/lease_pb.js";
import { seenError, seenReason } from "../server/seen-error.ts";
import { expectSoundMoney } from "../support/sound-money.ts";
import { doors, refusalOf, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { checkpointOf, pushedOutWhileRead, rowsOf, segmentFiles, Workflows } from "./workflow.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold, 1_000_000_000n);
const workflows = new Workflows(tenant);

describe("a new lease", () => {
  test("is active, has the workflow, and no version", async () => {
    const lease = await workflows.begin({ workflowId: "first.workflow_1" });
    expect(lease).toMatchObject({
      variant: Lease_Variant.CHECKPOINT,
      state: Lease_State.ACTIVE,
      writeAccess: Lease_WriteAccess.OWNER,
    });
    expect(checkpointOf(lease)).toMatchObject({
      workflowId: "first.workflow_1",
      retainedVersions: 10,
      latestVersion: 0n,
      latestBytes: 0n,
    });
    const refused = await seenError(workflows.get(lease.leaseId));
    expect(refused.details.ErrorInfo).toMatchObject({ reason: "NOT_FOUND" });
  });

  test.each([
    ["0 bytes", 0],
    ["a tail", 1_000],
    ["64 KiB", 65_536],
    ["files", 300_000],
  ])("begins with version 1 of %s if it comes with it", async (_, length) => {
    const body = randomBytes(length);
    const initial = { body, contentType: "text/plain", metadata: { step: "one" } };
    const { leaseId } = await workflows.begin({ initial });
    expect(await workflows.get(leaseId)).toMatchObject({
      version: 1n,
      contentType: "text/plain",
      metadata: { step: "one" },
      bodyBytes: BigInt(length),
    });
    expect(Buffer.from((await workflows.get(leaseId)).body).equals(body)).toBe(true);
    expect(await rowsOf(leasehold.database, leaseId)).toMatchObject({ versions: 1n, files: 0n });
    expect((await workflows.put(leaseId, "next", { expectedVersion: 1n })).version).toBe(2n);
    expect(Buffer.from((await workflows.get(leaseId, 1n)).body).equals(body)).toBe(true);
  });

  test("with a first version over its size is refused, and nothing is charged", async () => {
    const before = await tenant.balanceMicros();
    const refused = await seenError(workflows.begin({ initial: { body: Buffer.alloc(11) } }, { sizeBytes: 10n }));
    expect(refused.details.ErrorInfo).toMatchObject({
      reason: "BODY_TOO_LARGE",
      metadata: { limit: "size_bytes", limit_bytes: "10", value_bytes: "11" },
    });
    expect(await tenant.balanceMicros()).toBe(before);
  });

  test("that is not made leaves no file of its first version", async () => {
    const poor = new Workflows(await Tenant.open(leasehold, 0n));
    const before = await segmentFiles(leasehold);
    const refused = poor.begin({ initial: { body: Buffer.alloc(300_000) } });
    expect(await seenReason(refused)).toBe("PAYMENT_REQUIRED");
    expect(await segmentFiles(leasehold)).toEqual(before);
    const rows = await query(leasehold.database, "select from checkpoint_file where state = 1");
    expect(rows).toEqual([]);
  });
});

describe.each(doors)("through the %s door", (door) => {
  test("each put is the next version, and each is got as it was put", async () => {
    const { leaseId } = await workflows.begin();
    const client = workflows.door(door);
    const bodies = [Buffer.from("one"), randomBytes(70_000), Buffer.alloc(0)];
    for (const [index, body] of bodies.entries()) {
      const { checkpoint } = await client.putCheckpoint({ leaseId, body, metadata: { index: `${index}` } });
      expect(checkpoint).toMatchObject({ leaseId, version: BigInt(index + 1), bodyBytes: BigInt(body.length) });
      expect(checkpoint?.body).toHaveLength(0);
    }
    for (const [index, body] of bodies.entries()) {
      const { checkpoint } = await client.getCheckpoint({ leaseId, version: BigInt(index + 1) });
      expect(checkpoint).toMatchObject({
        leaseId,
        version: BigInt(index + 1),
        contentType: "application/octet-stream",
        metadata: { index: `${index}` },
      });
      expect(Buffer.from(checkpoint?.body ?? []).equals(body)).toBe(true);
      expect(Buffer.from(checkpoint?.sha256 ?? []).equals(createHash("sha256").update(body).digest())).toBe(true);
    }
    expect((await client.getCheckpoint({ leaseId })).checkpoint?.version).toBe(3n);
    expect(checkpointOf(await tenant.show(leaseId))).toMatchObject({ latestVersion: 3n, latestBytes: 0n });
  });
});

test("expected_version lets a put through only behind that version, and 0 only where there is none", async () => {
  const { leaseId } = await workflows.begin();
  const put = (expectedVersion: bigint) => workflows.put(leaseId, "x", { expectedVersion });
  expect((await seenError(put(1n))).details.ErrorInfo).toMatchObject({
    reason: "VERSION_MISMATCH",
    metadata: { expected_version: "1", current_version: "0" },
  });
  expect((await put(0n)).version).toBe(1n);
  expect(await seenReason(put(0n))).toBe("VERSION_MISMATCH");
  expect((await put(1n)).version).toBe(2n);
  expect((await seenError(put(1n))).details.ErrorInfo).toMatchObject({
    reason: "VERSION_MISMATCH",
    metadata: { expected_version: "1", current_version: "2" },
  });
});

test("a body over size_bytes is refused, whether or not the lease was used before", async () => {
  const { leaseId } = await workflows.begin({}, { sizeBytes: 100_000n });
  for (const body of [randomBytes(100_001), randomBytes(200_000)]) {
    expect((await seenError(workflows.put(leaseId, body))).details.ErrorInfo).toMatchObject({
      reason: "BODY_TOO_LARGE",
      metadata: { limit: "size_bytes", limit_bytes: "100000", value_bytes: `${body.length}` },
    });
    await workflows.put(leaseId, randomBytes(100_000));
  }
});

test("a body that a message cannot carry is named as such, and the stream for it", async () => {
  const { leaseId } = await workflows.begin({}, { sizeBytes: 10_000_000n });
  const body = randomBytes(5_000_000);
  await workflows.upload("native", [
    { put: { leaseId }, data: body.subarray(0, 2_500_000) },
    { offset: 2_500_000n, data: body.subarray(2_500_000), finish: true },
  ]);
  const refused = await seenError(workflows.get(leaseId));
  expect(refused.details.ErrorInfo).toMatchObject({
    reason: "BODY_TOO_LARGE",
    metadata: { limit: "max_message_bytes", limit_bytes: "4194304", value_bytes: "5000000" },
  });
  expect(refused.message).toContain("DownloadCheckpoint");
  expect((await workflows.download("connect", { leaseId })).equals(body)).toBe(true);
});

describe("versions that are pushed out", () => {
  test("while their file is read are followed by whoever asks for the latest, and gone to who named them", async () => {
    const { leaseId } = await workflows.begin({ retainedVersions: 1 });
    await workflows.put(leaseId, randomBytes(300_000));
    pushedOutWhileRead(leasehold, () => workflows.put(leaseId, randomBytes(200_000)));
    expect(await workflows.get(leaseId)).toMatchObject({ version: 2n, bodyBytes: 200_000n });
    pushedOutWhileRead(leasehold, () => workflows.put(leaseId, "small"));
    expect(await seenReason(workflows.get(leaseId, 2n))).toBe("VERSION_GONE");
  });

  test("are gone with the put, and told from those that never were", async () => {
    const { leaseId } = await workflows.begin({ retainedVersions: 3 });
    for (let version = 1; version <= 5; version++) {
      await workflows.put(leaseId, `body ${version}`);
    }
    expect((await seenError(workflows.get(leaseId, 2n))).details.ErrorInfo).toMatchObject({
      reason: "VERSION_GONE",
      metadata: { version: "2", oldest_version: "3", latest_version: "5" },
    });
    expect(await seenReason(workflows.get(leaseId, 6n))).toBe("NOT_FOUND");
    expect(await workflows.text(leaseId, 3n)).toBe("body 3");
    expect(await rowsOf(leasehold.database, leaseId)).toMatchObject({ versions: 3n });
  });

  test("have left no file when the put has answered", async () => {
    const { leaseId } = await workflows.begin({ retainedVersions: 1 });
    await workflows.put(leaseId, randomBytes(300_000));
    await workflows.put(leaseId, randomBytes(200_000));
    expect(await segmentFiles(leasehold, leaseId)).toEqual(["2.segment"]);
    await workflows.put(leaseId, "small");
    expect(await segmentFiles(leasehold, leaseId)).toEqual([]);
    expect(await rowsOf(leasehold.database, leaseId)).toMatchObject({ versions: 1n, files: 0n });
  });
});

describe("a call names its lease", () => {
  test("by its id, by its workflow, or by both; by neither is refused", async () => {
    const lease = await workflows.begin();
    const { leaseId } = lease;
    const { workflowId } = checkpointOf(lease);
    const { putCheckpoint, getCheckpoint } = workflows.checkpoints;
    expect((await putCheckpoint({ workflowId, body: Buffer.from("a") })).checkpoint).toMatchObject({
      leaseId,
      workflowId,
    });
    expect((await putCheckpoint({ leaseId, workflowId })).checkpoint?.version).toBe(2n);
    expect((await getCheckpoint({ workflowId })).checkpoint).toMatchObject({ leaseId, version: 2n });
    expect((await getCheckpoint({ workflowId, leaseId })).checkpoint).toMatchObject({ leaseId, version: 2n });
    for (const call of [putCheckpoint({}), getCheckpoint({})]) {
      expect((await seenError(call)).details.ErrorInfo).toMatchObject({
        reason: "INVALID_FIELD",
        metadata: { field: "lease_id" },
      });
    }
  });

  test("by both only if they belong together", async () => {
    const { leaseId } = await workflows.begin();
    const other = checkpointOf(await workflows.begin()).workflowId;
    const { putCheckpoint, getCheckpoint } = workflows.checkpoints;
    for (const workflowId of [other, "no.such.workflow"]) {
      expect(await seenReason(putCheckpoint({ leaseId, workflowId }))).toBe("NOT_FOUND");
      expect(await seenReason(getCheckpoint({ leaseId, workflowId }))).toBe("NOT_FOUND");
    }
    await putCheckpoint({ leaseId });
    expect(await seenReason(putCheckpoint({ leaseId, workflowId: other }))).toBe("NOT_FOUND");
  });

  test("and a lease of another variant is refused", async () => {
    const { leaseId } = await tenant.create();
    expect(await seenReason(workflows.put(leaseId, "x"))).toBe("WRONG_VARIANT");
    expect(await seenReason(workflows.get(leaseId))).toBe("WRONG_VARIANT");
  });
});

test("versions are listed newest first, in pages, without bodies", async () => {
  const { leaseId } = await workflows.begin({ retainedVersions: 5 });
  for (let version = 1; version <= 7; version++) {
    await workflows.put(leaseId, `body ${version}`, { metadata: { version: `${version}` } });
  }
  const seen: bigint[] = [];
  let pageToken = "";
  do {
    const page = await workflows.checkpoints.listCheckpointVersions({ leaseId, pageSize: 2, pageToken });
    seen.push(...page.checkpoints.map(({ version }) => version));
    for (const { body, metadata, version, bodyBytes } of page.checkpoints) {
      expect({ body: body.length, metadata, bodyBytes }).toEqual({
        body: 0,
        metadata: { version: `${version}` },
        bodyBytes: 6n,
      });
    }
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  expect(seen).toEqual([7n, 6n, 5n, 4n, 3n]);
  const refused = workflows.checkpoints.listCheckpointVersions({ leaseId, pageToken: randomUUID() });
  expect(await seenReason(refused)).toBe("INVALID_FIELD");
});

test("up to ten versions are free; beyond, the price is multiplied, in quotes and in leases", async () => {
  const gibibyte = 1_073_741_824n;
  const terms = { sizeBytes: gibibyte, duration: { seconds: 864_000n } };
  const quote = async (retainedVersions: number) =>
    (await workflows.leases.quoteLease({ ...terms, variant: Lease_Variant.CHECKPOINT, retainedVersions })).priceMicros;
  const base = await quote(10);
  expect(await Promise.all([0, 1, 10, 15, 100].map(quote))).toEqual([base, base, base, (base * 3n) / 2n, base * 10n]);
  const before = await tenant.balanceMicros();
  const lease = await workflows.begin({ retainedVersions: 25 }, terms);
  expect(lease.priceMicros).toBe((base * 5n) / 2n);
  expect(before - (await tenant.balanceMicros())).toBe(lease.priceMicros);
  const tooHigh = workflows.begin({ retainedVersions: 25 }, { ...terms, maxPriceMicros: lease.priceMicros - 1n });
  expect(await seenReason(tooHigh)).toBe("PRICE_TOO_HIGH");
  expect(before - (await tenant.balanceMicros())).toBe(lease.priceMicros);
  await expectSoundMoney(leasehold.database);
});

test("a quote by HTTP is that of RPC, and bounded as that is", async () => {
  const ask = (variant: string, retained: string) =>
    fetch(
      `${leasehold.httpUrl}/api/quote?variant=${variant}&size_bytes=1073741824&duration_seconds=864000&retained_versions=${retained}`,
    );
  const terms = { variant: Lease_Variant.CHECKPOINT, sizeBytes: 1_073_741_824n, duration: { seconds: 864_000n } };
  for (const retainedVersions of [0, 10, 25, 100]) {
    const { priceMicros } = await workflows.leases.quoteLease({ ...terms, retainedVersions });
    const response = await ask("checkpoint", `${retainedVersions}`);
    expect(await response.json()).toMatchObject({ priceMicros: `${priceMicros}` });
  }
  expect(await refusalOf(await ask("checkpoint", "101"))).toMatchObject({ reason: "OUT_OF_BOUNDS", status: 400 });
  expect(await refusalOf(await ask("checkpoint", "-1"))).toMatchObject({ reason: "INVALID_FIELD", status: 400 });
  expect(await refusalOf(await ask("storage", "10"))).toMatchObject({ reason: "INVALID_FIELD", status: 400 });
});
