import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { refusedWith } from "../handoff/redeemer.ts";
import { callsGathered } from "../support/calls-in-flight.ts";
import { askFor, type LeaseInit, leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { Dropper, dropDoors, mailboxOf, openMailbox, storedMessages, takeOut } from "./mail.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);
const dropper = new Dropper(leasehold);
const elsewhere = new Dropper(other);

describe("a drop with a request_id", () => {
  test.each(dropDoors)("that is repeated over %s finds the message it kept, also when that is gone", async (door) => {
    const { leaseId, dropToken } = await openMailbox(tenant);
    const drop = { requestId: randomUUID(), body: "once", group: "g", attributes: { b: "2", a: "1" } };
    const first = await dropper.drop(dropToken, drop, door);
    expect(await elsewhere.drop(dropToken, { ...drop, attributes: { a: "1", b: "2" } }, door)).toEqual(first);
    expect(await storedMessages(database, leaseId)).toHaveLength(1);
    await takeOut(database, leaseId, first.messageId);
    expect(await dropper.drop(dropToken, { ...drop, requestId: drop.requestId.toUpperCase() }, door)).toEqual(first);
    expect(await storedMessages(database, leaseId)).toHaveLength(0);
  });

  test.each([
    { body: "other" },
    { contentType: "text/plain" },
    { attributes: { a: "1" } },
    { group: "g" },
    { delay: { seconds: 1n } },
  ])("that comes again with other content is refused, and is not told what differs: %o", async (change) => {
    const { leaseId, dropToken } = await openMailbox(tenant);
    const requestId = randomUUID();
    await dropper.drop(dropToken, { requestId, body: "one" });
    for (const door of dropDoors) {
      const refusal = await refusedWith(dropper.drop(dropToken, { requestId, body: "one", ...change }, door));
      // HTTP always names a media type, if it sends text.
      expect(refusal).toMatchObject({ reason: "REQUEST_ID_REUSED", metadata: {} });
      expect(refusal.metadata).not.toHaveProperty("field");
    }
    expect(await storedMessages(database, leaseId)).toHaveLength(1);
  });

  test("belongs to its mailbox: another may use the same", async () => {
    const first = await openMailbox(tenant);
    const second = await openMailbox(tenant);
    const requestId = randomUUID();
    const one = await dropper.drop(first.dropToken, { requestId, body: "one" });
    const two = await dropper.drop(second.dropToken, { requestId, body: "two" });
    expect(one.messageId).not.toBe(two.messageId);
  });

  test("and its twins, in one batch and at two servers, keep one message and have one answer", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant);
    await dropper.drop(dropToken);
    await elsewhere.drop(dropToken);
    const requestIds = Array.from({ length: 20 }, () => randomUUID());
    const gathered = await database.transaction(async (transaction) => {
      await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(leaseId)]);
      const drops = [1, 2, 3].flatMap(() =>
        requestIds.flatMap((requestId) => [
          dropper.drop(dropToken, { requestId, body: requestId }),
          elsewhere.drop(dropToken, { requestId, body: requestId }),
        ]),
      );
      await callsGathered(leasehold, 60);
      await callsGathered(other, 60);
      return { drops };
    });
    const answers = await Promise.all(gathered.drops);
    expect(new Set(answers.map(({ messageId }) => messageId)).size).toBe(20);
    expect(new Set(answers.map(({ messageId, sequence }) => `${messageId} ${sequence}`)).size).toBe(20);
    const stored = await storedMessages(database, leaseId);
    expect(stored).toHaveLength(22);
    const sequences = new Set(stored.map(({ sequence }) => sequence));
    expect(answers.every(({ sequence }) => sequences.has(sequence))).toBe(true);
    expect(await mailboxOf(tenant, leaseId)).toMatchObject({ messageCount: 22n });
  });

  test("whose twin took the last room has the twin's answer, and not that the mailbox is full", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant, { maxMessages: 1 });
    const requestId = randomUUID();
    const drops = Array.from({ length: 20 }, (_, index) =>
      (index % 2 === 0 ? dropper : elsewhere).drop(dropToken, { requestId, body: "last" }),
    );
    const answers = await Promise.all(drops);
    expect(new Set(answers.map(({ messageId }) => messageId)).size).toBe(1);
    expect(await storedMessages(database, leaseId)).toHaveLength(1);
    expect(await dropper.drop(dropToken, { requestId, body: "last" })).toEqual(answers[0]);
  });

  test("whose answer was lost finds it after the lease's end too", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant);
    const requestId = randomUUID();
    const first = await dropper.drop(dropToken, { requestId, body: "kept" });
    await tenant.age(leaseId, 3_601);
    expect(await dropper.drop(dropToken, { requestId, body: "kept" })).toEqual(first);
    const fresh = await TestLeasehold.start({ beside: leasehold });
    expect(await new Dropper(fresh).drop(dropToken, { requestId, body: "kept" })).toEqual(first);
    expect(await refusedWith(dropper.drop(dropToken, { requestId: randomUUID() }))).toMatchObject({
      reason: "LEASE_ENDED",
    });
  });

  test("is remembered for the published window, and forgotten by a sweep after it", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant);
    const drop = { requestId: randomUUID(), body: "again" };
    const first = await dropper.drop(dropToken, drop);
    await backdateRequests(leaseId, 590);
    await leasehold.sweep();
    expect(await dropper.drop(dropToken, drop)).toEqual(first);
    await backdateRequests(leaseId, 20);
    await leasehold.sweep();
    expect((await dropper.drop(dropToken, drop)).messageId).not.toBe(first.messageId);
    const { pricing } = await tenant.leases.getPricing({});
    expect(pricing?.limits.find(({ name }) => name === "drop_window_seconds")?.value).toBe(600n);
  });

  test("that was refused is not remembered", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant, { maxMessages: 1 });
    const filler = await dropper.drop(dropToken);
    const drop = { requestId: randomUUID(), body: "later" };
    expect(await refusedWith(dropper.drop(dropToken, drop))).toMatchObject({ reason: "MAILBOX_FULL" });
    await takeOut(database, leaseId, filler.messageId);
    await dropper.drop(dropToken, { ...drop, body: "other" });
    expect(await storedMessages(database, leaseId)).toHaveLength(1);
  });
});

describe("a mailbox made with a request_id", () => {
  test("shows its secrets again to the same request, and charges once", async () => {
    const request = askFor({
      requestId: randomUUID(),
      variant: { case: "mailbox", value: { webhookUrl: "https://example.com/hook" } },
    } as LeaseInit);
    const before = await tenant.balanceMicros();
    const first = await tenant.leases.createLease(request);
    const second = await tenant.at(other).leases.createLease(request);
    expect(second).toMatchObject({ dropToken: first.dropToken, webhookSecret: first.webhookSecret });
    expect(before - (await tenant.balanceMicros())).toBe(first.lease?.priceMicros);
    await dropper.drop(second.dropToken);
  });

  test("shows none once it has ended", async () => {
    const request = askFor({ requestId: randomUUID(), variant: { case: "mailbox", value: {} } } as LeaseInit);
    const first = await tenant.leases.createLease(request);
    const leaseId = first.lease?.leaseId ?? "";
    await tenant.age(leaseId, 3_601);
    expect(await tenant.leases.createLease(request)).toMatchObject({ dropToken: "", webhookSecret: "" });
    await tenant.leases.deleteLease({ leaseId });
    expect(await tenant.leases.createLease(request)).toMatchObject({ dropToken: "", webhookSecret: "" });
  });
});

async function backdateRequests(leaseId: string, seconds: number): Promise<void> {
  await query(
    database,
    "update idempotency set create_time = create_time - make_interval(secs => $2) where lease_id = $1",
    [leaseUuid(leaseId), seconds],
  );
}
