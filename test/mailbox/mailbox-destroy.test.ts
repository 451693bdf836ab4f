import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { Lease_EndReason, Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { type Refusal, refusedWith } from "../handoff/redeemer.ts";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { Dropper, openMailbox } from "./mail.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);
const dropper = new Dropper(leasehold);
const elsewhere = new Dropper(other);
const webhookUrl = "https://example.com/hook";

describe("when a mailbox has ended", () => {
  test("by its owner nothing of it is left, at once", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant, { webhookUrl });
    await fill(dropToken, 50);
    await tenant.leases.deleteLease({ leaseId });
    expect(await leftOf(leaseId)).toEqual({ mailboxes: 0n, messages: 0n, notifications: 0n });
    expect(await tenant.show(leaseId)).toMatchObject({ destroyTime: expect.anything() });
  });

  test("by its duration the next sweep leaves nothing, and the content of no request", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant, { webhookUrl });
    await dropper.drop(dropToken, { requestId: randomUUID(), body: "secret" });
    await fill(dropToken, 20);
    await tenant.age(leaseId, 3_601);
    await leasehold.sweep();
    expect(await leftOf(leaseId)).toEqual({ mailboxes: 0n, messages: 0n, notifications: 0n });
    expect(await tenant.show(leaseId)).toMatchObject({
      state: Lease_State.EXPIRED,
      endReason: Lease_EndReason.DURATION_ELAPSED,
    });
    const digests = await query<{ digests: Buffer }>(database, "select digests from idempotency where lease_id = $1", [
      leaseUuid(leaseId),
    ]);
    expect(digests.every((row) => row.digests.length === 0)).toBe(true);
  });

  test("under droppers at two servers, those that were answered were kept, and nothing is left of any", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant, { webhookUrl });
    await fill(dropToken, 2);
    let isOver = false;
    const dropUntilOver = async (by: Dropper) => {
      for (;;) {
        const outcome = await by.drop(dropToken, { body: "in flight" }).catch((error: Refusal) => error);
        if ("reason" in outcome) {
          return outcome.reason;
        }
        expect(isOver).toBe(false);
      }
    };
    const droppers = Array.from({ length: 20 }, (_, index) => dropUntilOver(index % 2 === 0 ? dropper : elsewhere));
    await fill(dropToken, 100);
    await tenant.leases.deleteLease({ leaseId });
    // Whoever is answered from here on asked before the end.
    const reasons = await Promise.all(droppers);
    isOver = true;
    expect(new Set(reasons)).toEqual(new Set(["LEASE_ENDED"]));
    expect(await leftOf(leaseId)).toEqual({ mailboxes: 0n, messages: 0n, notifications: 0n });
  });

  test("and the sweep broke off half way, the next one finishes", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant, { webhookUrl });
    await fill(dropToken, 30);
    await tenant.age(leaseId, 3_601);
    await query(
      database,
      "update lease set end_time = due_time, end_reason = due_reason, wrapped_key = null, sealed_details = null where lease_id = $1",
      [leaseUuid(leaseId)],
    );
    await query(database, "delete from message where lease_id = $1 and sequence <= 10", [leaseUuid(leaseId)]);
    await query(database, "delete from mailbox where lease_id = $1", [leaseUuid(leaseId)]);
    expect(await refusedWith(dropper.drop(dropToken))).toMatchObject({ reason: "LEASE_ENDED" });
    await leasehold.sweep();
    expect(await leftOf(leaseId)).toEqual({ mailboxes: 0n, messages: 0n, notifications: 0n });
  });

  test("another mailbox of the same owner is whole", async () => {
    const ended = await openMailbox(tenant);
    const whole = await openMailbox(tenant, { webhookUrl });
    await fill(ended.dropToken, 10);
    await fill(whole.dropToken, 10);
    await tenant.leases.deleteLease({ leaseId: ended.leaseId });
    expect(await leftOf(whole.leaseId)).toEqual({ mailboxes: 1n, messages: 10n, notifications: 10n });
    await dropper.drop(whole.dropToken);
  });

  test("of many thousand messages, none is left", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant, { webhookUrl }, { sizeBytes: 67_108_864n });
    await fill(dropToken, 1);
    const values = [leaseUuid(leaseId)];
    await query(
      database,
      `insert into message (owner_id, lease_id, sequence, message_id, state, body_bytes, drop_time, sealed)
      select owner_id, lease_id, sequence + number, gen_random_uuid(), 1, 0, drop_time, sealed
      from message, generate_series(1, 12000) as number where lease_id = $1`,
      values,
    );
    await query(
      database,
      `insert into webhook_delivery (owner_id, lease_id, sequence, message_id, body_bytes, state, create_time)
      select owner_id, lease_id, sequence + number, gen_random_uuid(), 0, 3, create_time
      from webhook_delivery, generate_series(1, 12000) as number where lease_id = $1`,
      values,
    );
    await tenant.leases.deleteLease({ leaseId });
    expect(await leftOf(leaseId)).toEqual({ mailboxes: 0n, messages: 0n, notifications: 0n });
  });
});

test("a mailbox that nobody dropped into is not refunded: it was there", async () => {
  const before = await tenant.balanceMicros();
  const { leaseId } = await openMailbox(tenant);
  await tenant.leases.deleteLease({ leaseId });
  expect(await tenant.balanceMicros()).toBeLessThan(before);
});

async function fill(dropToken: string, count: number): Promise<void> {
  await Promise.all(Array.from({ length: count }, (_, index) => dropper.drop(dropToken, { body: `message ${index}` })));
}

async function leftOf(leaseId: string) {
  const [row] = await query(
    database,
    `select (select count(*) from mailbox where lease_id = $1) as mailboxes,
      (select count(*) from message where lease_id = $1) as messages,
      (select count(*) from webhook_delivery where lease_id = $1) as notifications`,
    [leaseUuid(leaseId)],
  );
  return row;
}
