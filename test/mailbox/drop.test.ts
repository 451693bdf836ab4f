import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { Lease_State, Lease_Variant, Lease_WriteAccess } from "#gen/leasehold/v1/lease_pb.js";
import { refusedWith } from "../handoff/redeemer.ts";
import { callsGathered } from "../support/calls-in-flight.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { adminToken, TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { Dropper, dropDoors, mailboxOf, openedMessages, openMailbox, storedMessages } from "./mail.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);
const dropper = new Dropper(leasehold);
const elsewhere = new Dropper(other);
const states = { ready: 1, waiting: 2, blocked: 3 };

describe("a new mailbox", () => {
  test("is active at once, has the limits it was asked for, and shows its drop token", async () => {
    const spec = { maxMessageBytes: 1_000, maxMessages: 20, maxDeliveries: 3, webhookUrl: "https://example.com/hook" };
    const { leaseId, dropToken, webhookSecret } = await openMailbox(tenant, spec);
    expect(dropToken).toMatch(/^lh_drop_[0-9A-Za-z]{49}$/);
    expect(webhookSecret).toMatch(/^whsec_[0-9A-Za-z+/]{43}=$/);
    const lease = await tenant.show(leaseId);
    expect(lease).toMatchObject({
      variant: Lease_Variant.MAILBOX,
      state: Lease_State.ACTIVE,
      writeAccess: Lease_WriteAccess.OWNER_AND_DROPPERS,
    });
    expect(lease.details.value).toMatchObject({ ...spec, messageCount: 0n, usedBytes: 0n });
  });

  test("has the defaults that the schema tells, and no webhook", async () => {
    const { leaseId, webhookSecret } = await openMailbox(tenant);
    const defaults = { maxMessageBytes: 262_144, maxMessages: 1_000_000, maxDeliveries: 10, webhookUrl: "" };
    expect(await mailboxOf(tenant, leaseId)).toMatchObject(defaults);
    expect(webhookSecret).toBe("");
    const small = await openMailbox(tenant, {}, { sizeBytes: 2_048n });
    expect(await mailboxOf(tenant, small.leaseId)).toMatchObject({ maxMessageBytes: 2_048 });
  });

  test("is refused a webhook address that is none", async () => {
    await expect(openMailbox(tenant, { webhookUrl: "https://" })).rejects.toThrow(/webhook_url/);
  });

  test("is shown without what it was made with once it has ended", async () => {
    const { leaseId } = await openMailbox(tenant, { webhookUrl: "https://example.com/hook" });
    await tenant.leases.deleteLease({ leaseId });
    expect(await mailboxOf(tenant, leaseId)).toMatchObject({ webhookUrl: "", usedBytes: 0n });
  });
});

describe("a drop", () => {
  test.each(dropDoors)(
    "over %s keeps body, media type and attributes sealed, and nobody's account is needed",
    async (door) => {
      const { leaseId, dropToken } = await openMailbox(tenant);
      const body = randomBytes(700);
      const attributes = { "reply.to": "agent-7", note: "grüße" };
      const dropped = await dropper.drop(dropToken, { body, contentType: "text/plain", attributes }, door);
      const [stored] = await storedMessages(database, leaseId);
      expect(stored?.sealed.includes(body.subarray(0, 16))).toBe(false);
      const [opened] = await openedMessages(tenant, leaseId);
      expect(opened).toEqual({ ...dropped, body, contentType: "text/plain", attributes });
    },
  );

  test("without any of it is a message too", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant);
    await dropper.drop(dropToken);
    expect(await openedMessages(tenant, leaseId)).toMatchObject([
      { body: Buffer.of(), contentType: "application/octet-stream", attributes: {} },
    ]);
    expect(await mailboxOf(tenant, leaseId)).toMatchObject({ messageCount: 1n, usedBytes: 256n });
  });

  test("gets the next place, whichever server it comes by, and the owner sees count and room", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant);
    const all = await Promise.all(
      Array.from({ length: 400 }, (_, index) =>
        (index % 2 === 0 ? dropper : elsewhere).drop(dropToken, { body: `${index}` }),
      ),
    );
    const bodies = new Map(all.map((dropped, index) => [dropped.messageId, `${index}`]));
    const opened = await openedMessages(tenant, leaseId);
    expect(opened.map(({ sequence }) => sequence)).toEqual(opened.map((_, index) => BigInt(index + 1)));
    expect(opened.map(({ messageId }) => bodies.get(messageId))).toEqual(opened.map(({ body }) => `${body}`));
    expect(new Set(all.map(({ sequence }) => sequence)).size).toBe(400);
    const bodyBytes = all.reduce((sum, _, index) => sum + `${index}`.length, 0);
    const usedBytes = BigInt(bodyBytes + 400 * 256);
    expect(await mailboxOf(tenant, leaseId)).toMatchObject({ messageCount: 400n, usedBytes });
  });

  test("with a delay waits, and never past the lease's end", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant, {}, { duration: { seconds: 3_600n } });
    await dropper.drop(dropToken, { delay: { seconds: 60n } });
    await dropper.drop(dropToken, { delay: { seconds: 86_400n } }, "http");
    await dropper.drop(dropToken);
    const [row] = await query<{ due_time: bigint }>(database, "select due_time from lease where lease_id = $1", [
      leaseUuid(leaseId),
    ]);
    const [delayed, cut, ready] = await storedMessages(database, leaseId);
    expect(delayed).toMatchObject({ state: states.waiting });
    expect((delayed?.visible_time ?? 0n) - (delayed?.drop_time ?? 0n)).toBe(60_000_000n);
    expect(cut).toMatchObject({ state: states.waiting, visible_time: row?.due_time });
    expect(ready).toMatchObject({ state: states.ready, visible_time: null });
  });

  test("waits behind the earlier messages of its group, also of one that another server drops meanwhile", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant);
    const waiting = await database.transaction(async (transaction) => {
      await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(leaseId)]);
      const drops = [dropper, elsewhere].map((from) => from.drop(dropToken, { group: "orders" }));
      await lockWaiters(database, 2);
      return drops;
    });
    await Promise.all(waiting);
    await dropper.drop(dropToken, { group: "orders" });
    const stored = await storedMessages(database, leaseId);
    expect(stored.map(({ state }) => state)).toEqual([states.ready, states.blocked, states.blocked]);
  });

  test("keeps a group's name to itself, and tells it apart in each mailbox", async () => {
    const first = await openMailbox(tenant);
    const second = await openMailbox(tenant);
    await dropper.drop(first.dropToken, { group: "orders" });
    await dropper.drop(second.dropToken, { group: "orders" }, "http");
    await elsewhere.drop(first.dropToken, { group: "orders" });
    const [one, again] = await storedMessages(database, first.leaseId);
    const [two] = await storedMessages(database, second.leaseId);
    expect(one?.group_hash).toEqual(again?.group_hash);
    expect(one?.group_hash).not.toEqual(two?.group_hash);
    expect(one?.group_hash?.includes("orders")).toBe(false);
  });

  test("behind a delayed message of its group is not ready before it", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant);
    await dropper.drop(dropToken, { group: "g", delay: { seconds: 60n } });
    await dropper.drop(dropToken, { group: "g", delay: { seconds: 5n } });
    await dropper.drop(dropToken, { group: "g" });
    expect((await storedMessages(database, leaseId)).map(({ state }) => state)).toEqual([
      states.waiting,
      states.blocked,
      states.blocked,
    ]);
  });

  test("is taken for a suspended account, whose lease is paid for", async () => {
    const suspended = await Tenant.open(leasehold);
    const { leaseId, dropToken } = await openMailbox(suspended);
    const admin = leasehold.client(AdminService, adminToken);
    await admin.suspendAccount({ accountId: suspended.account.accountId });
    await dropper.drop(dropToken);
    expect(await storedMessages(database, leaseId)).toHaveLength(1);
  });

  test("announces itself where the mailbox has a webhook, in the same commit", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant, { webhookUrl: "https://example.com/hook" });
    const dropped = await dropper.drop(dropToken, { body: "hello" });
    const rows = await query(database, "select * from webhook_delivery where lease_id = $1", [leaseUuid(leaseId)]);
    expect(rows).toMatchObject([{ sequence: dropped.sequence, state: 1, attempt_count: 0 }]);
    await query(database, "update mailbox set webhook_disable_time = clock_timestamp() where lease_id = $1", [
      leaseUuid(leaseId),
    ]);
    await dropper.drop(dropToken, { body: "unheard" });
    expect(
      await query(database, "select from webhook_delivery where lease_id = $1", [leaseUuid(leaseId)]),
    ).toHaveLength(1);
  });
});

describe("past the lease's end", () => {
  test.each(dropDoors)("a drop over %s is refused although nobody has swept", async (door) => {
    const { leaseId, dropToken } = await openMailbox(tenant);
    await dropper.drop(dropToken);
    await tenant.age(leaseId, 3_601);
    expect(await refusedWith(dropper.drop(dropToken, { body: "late" }, door))).toMatchObject({
      reason: "LEASE_ENDED",
      metadata: { end_reason: "END_REASON_DURATION_ELAPSED" },
    });
    expect(await storedMessages(database, leaseId)).toHaveLength(1);
  });

  test("a drop that waited for the lease's lock while the lease ran out keeps nothing", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant);
    await dropper.drop(dropToken);
    const late = await database.transaction(async (transaction) => {
      await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(leaseId)]);
      const waiting = refusedWith(dropper.drop(dropToken, { body: "late" }));
      await lockWaiters(database, 1);
      // Later than the statement that waits began, and over by the time it goes on.
      await query(
        transaction,
        "update lease set expire_time = at.time, due_time = at.time from clock_timestamp() as at(time) where lease_id = $1",
        [leaseUuid(leaseId)],
      );
      return { waiting };
    });
    expect(await late.waiting).toMatchObject({ reason: "LEASE_ENDED" });
    expect(await storedMessages(database, leaseId)).toHaveLength(1);
  });

  test("a token is unknown once its lease's tombstone is gone, also where it was known before", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant);
    await dropper.drop(dropToken);
    await tenant.leases.deleteLease({ leaseId });
    await tenant.age(leaseId, 40 * 86_400);
    await leasehold.sweep();
    expect(await refusedWith(dropper.drop(dropToken))).toMatchObject({ reason: "NOT_FOUND" });
    expect(await refusedWith(elsewhere.drop(dropToken))).toMatchObject({ reason: "NOT_FOUND" });
  });
});

test("drops that meet on one mailbox are kept by few statements", async () => {
  const { leaseId, dropToken } = await openMailbox(tenant);
  await dropper.drop(dropToken);
  const gathered = await database.transaction(async (transaction) => {
    await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(leaseId)]);
    const drops = Array.from({ length: 100 }, (_, index) => dropper.drop(dropToken, { body: `${index}` }));
    await callsGathered(leasehold, 100);
    return { drops };
  });
  await Promise.all(gathered.drops);
  const [row] = await query<{ commits: bigint }>(
    database,
    "select count(distinct drop_time) as commits from message where lease_id = $1",
    [leaseUuid(leaseId)],
  );
  expect(row?.commits).toBeLessThanOrEqual(4n);
});
