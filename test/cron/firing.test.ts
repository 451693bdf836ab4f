/** Each slot of a schedule fires at most once, into a lease or to an address, and what became of it is told. */
import { Webhook } from "standardwebhooks";
import { describe, expect, test, vi } from "vitest";
import { CronDetails_State, CronSpec_Misfire, CronSpec_Overlap } from "#gen/leasehold/v1/cron_pb.js";
import { MailboxService } from "#gen/leasehold/v1/mailbox_pb.js";
import { buildCronFirer } from "../../src/app.ts";
import { recordFirings } from "../../src/cron/firing-statements.ts";
import { openMailbox } from "../mailbox/mail.ts";
import { WebhookReceiver } from "../mailbox/webhook-receiver.ts";
import { openPad, Worker } from "../scratchpad/pad.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { leaseUuid, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { type CronInit, cronOf, cronsOf, letPass, letRetryCome, openCron, outcomesOf, runsOf } from "./schedules.ts";

const leasehold = await TestLeasehold.start({ settings: { LEASEHOLD_WEBHOOK_ALLOW_PRIVATE: "1" } });
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);
const mail = leasehold.client(MailboxService, tenant.account.apiKey);
const { RUNNING, FINISHED, TARGET_ENDED } = CronDetails_State;

async function fireDue(): Promise<number> {
  return await buildCronFirer(leasehold.core).fireDue();
}

/** A Cron lease into a mailbox of its own. */
async function cronIntoMailbox(
  spec: CronInit = {},
  mailbox: Parameters<typeof openMailbox>[1] = {},
  roomBytes = 1_048_576n,
) {
  const { leaseId: mailboxId } = await openMailbox(tenant, mailbox, { sizeBytes: roomBytes });
  const { leaseId } = await openCron(tenant, { ...spec, target: { case: "mailboxLeaseId", value: mailboxId } });
  return { leaseId, mailboxId };
}

/** The messages of a mailbox, looked at. */
async function messagesOf(mailboxId: string) {
  const { messages } = await mail.listMessages({ leaseId: mailboxId });
  return messages.map(({ message }) => required(message));
}

describe("a slot that has come", () => {
  test("is dropped into a mailbox, where a receiver who waits gets it, and not before its time", async () => {
    const { leaseId, mailboxId } = await cronIntoMailbox({ contentType: "text/plain" });
    await fireDue();
    expect(await runsOf(tenant, leaseId)).toEqual([]);
    const waiting = mail.pullMessages({ leaseId: mailboxId, waitTimeout: { seconds: 20n } });
    await letPass(database, leaseId, 601);
    await fireDue();
    const [delivery] = (await waiting).deliveries;
    expect(delivery?.message).toMatchObject({ contentType: "text/plain", attributes: { "cron-lease-id": leaseId } });
    expect(Buffer.from(delivery?.message?.body ?? []).toString()).toBe("wake up");
    const [run] = await runsOf(tenant, leaseId);
    expect(delivery?.message?.attributes["cron-slot-time"]?.slice(0, 19)).toBe(
      new Date(Number(run?.slotTime?.seconds) * 1000).toISOString().slice(0, 19),
    );
    expect(run).toMatchObject({ attemptCount: 1, lastError: "" });
    expect(run?.deliverTime).toEqual(run?.fireTime);
    expect(await cronOf(tenant, leaseId)).toMatchObject({ state: RUNNING });
  });

  test("is set as an entry of a scratchpad", async () => {
    const padId = await openPad(tenant);
    const { leaseId } = await openCron(tenant, {
      target: { case: "scratchpadLeaseId", value: padId },
      scratchpadKey: "alarm",
    });
    await letPass(database, leaseId, 1_201);
    await fireDue();
    expect(await outcomesOf(tenant, leaseId)).toEqual(["DELIVERED", "DELIVERED"]);
    const entry = await new Worker(leasehold, tenant.account.apiKey, padId).get("alarm");
    expect(entry).toMatchObject({ version: 2n });
    expect(Buffer.from(entry.value).toString()).toBe("wake up");
  });

  test("is posted to a webhook, signed, with the same id at every attempt, until it is taken", async () => {
    let status = 500;
    const receiver = await WebhookReceiver.start(() => status);
    const payload = Buffer.from([0, 255, 128, 10]);
    const { leaseId, webhookSecret } = await openCron(tenant, {
      payload,
      contentType: "application/x-alarm",
      target: { case: "webhookUrl", value: receiver.url },
    });
    await letPass(database, leaseId, 601);
    await fireDue();
    expect(await runsOf(tenant, leaseId)).toMatchObject([
      { outcome: 1, attemptCount: 1, lastError: "the receiver failed" },
    ]);
    status = 200;
    await letRetryCome(database, leaseId);
    await fireDue();
    expect(await runsOf(tenant, leaseId)).toMatchObject([{ outcome: 2, attemptCount: 2 }]);
    const [first, second] = receiver.requests;
    expect(first?.headers).toMatchObject({ "content-type": "application/x-alarm", "leasehold-lease-id": leaseId });
    expect(first?.headers["webhook-id"]).toBe(second?.headers["webhook-id"]);
    expect(receiver.requests).toHaveLength(2);
    expect(webhookSecret).toMatch(/^whsec_/);
  });

  test("verifies with the secret of CreateLease by the library that receivers use", async () => {
    const receiver = await WebhookReceiver.start(() => 204);
    const { leaseId, webhookSecret } = await openCron(tenant, {
      payload: Buffer.from('{"wake":"ü"}'),
      target: { case: "webhookUrl", value: receiver.url },
    });
    await letPass(database, leaseId, 601);
    await fireDue();
    const { body, headers } = required(receiver.requests[0]);
    expect(new Webhook(webhookSecret).verify(body, headers)).toEqual({ wake: "ü" });
  });

  test("is recorded once, however many fire beside each other, and delivered once", async () => {
    const { leaseId, mailboxId } = await cronIntoMailbox();
    await letPass(database, leaseId, 3_001);
    await Promise.all(Array.from({ length: 6 }, () => fireDue()));
    expect(await outcomesOf(tenant, leaseId)).toEqual(Array(5).fill("DELIVERED"));
    expect(await messagesOf(mailboxId)).toHaveLength(5);
    expect(await cronOf(tenant, leaseId)).toMatchObject({ state: FINISHED });
  });

  test("is neither lost nor doubled by a crash before its commit", async () => {
    const { leaseId, mailboxId } = await cronIntoMailbox();
    await letPass(database, leaseId, 601);
    const { transaction } = leasehold.core.database;
    const crash = vi.spyOn(leasehold.core.database, "transaction").mockImplementation(async (work, options) => {
      return await transaction.call(
        leasehold.core.database,
        async (inner) => {
          await work(inner);
          throw new Error("the process died here");
        },
        options,
      );
    });
    await fireDue();
    crash.mockRestore();
    expect(await messagesOf(mailboxId)).toEqual([]);
    expect(await outcomesOf(tenant, leaseId)).toEqual([]);
    await fireDue();
    expect(await messagesOf(mailboxId)).toHaveLength(1);
  });

  test("cannot be recorded twice, even by a firer that has lost its way", async () => {
    const { leaseId } = await cronIntoMailbox();
    await letPass(database, leaseId, 601);
    await fireDue();
    const [row] = await query<{ slot: bigint }>(
      database,
      "select (extract(epoch from slot_time) * 1000000)::bigint as slot from cron_run where lease_id = $1",
      [leaseUuid(leaseId)],
    );
    const one = [
      [leaseUuid(leaseId)],
      [row?.slot],
      [row?.slot],
      ["00000000-0000-4000-8000-000000000000"],
      [2],
      [1],
      [null],
      [null],
    ];
    const again = database.run(recordFirings, [tenant.ownerId, ...one, [], [], [], [], [], [false]]);
    await expect(again).rejects.toThrow();
  });
});

describe("a delivery that is refused", () => {
  test("is tried again until it fits", async () => {
    const { leaseId, mailboxId } = await cronIntoMailbox({}, { maxMessages: 1 });
    await letPass(database, leaseId, 1_201);
    await fireDue();
    expect(await outcomesOf(tenant, leaseId)).toEqual(["DELIVERED", "PENDING"]);
    expect((await runsOf(tenant, leaseId))[1]).toMatchObject({ attemptCount: 1, lastError: "MAILBOX_FULL" });
    const { deliveries } = await mail.pullMessages({ leaseId: mailboxId, maxMessages: 1 });
    await mail.ackMessages({ leaseId: mailboxId, receipts: deliveries.map(({ receipt }) => receipt) });
    await letRetryCome(database, leaseId);
    await fireDue();
    expect((await runsOf(tenant, leaseId))[1]).toMatchObject({ outcome: 2, attemptCount: 2 });
  });

  test("is missed once it is later than max_lateness", async () => {
    const { leaseId } = await cronIntoMailbox({ maxLateness: { seconds: 120n } }, { maxMessages: 1 });
    await letPass(database, leaseId, 601);
    await fireDue();
    await letPass(database, leaseId, 601);
    await fireDue();
    expect(await outcomesOf(tenant, leaseId)).toEqual(["DELIVERED", "PENDING"]);
    await letRetryCome(database, leaseId, 121);
    await fireDue();
    expect((await runsOf(tenant, leaseId))[1]).toMatchObject({
      outcome: 3,
      attemptCount: 1,
      lastError: "MAILBOX_FULL",
    });
  });

  test("because its target has ended is reported, not retried, and the schedule stops", async () => {
    const { leaseId, mailboxId } = await cronIntoMailbox();
    await tenant.leases.deleteLease({ leaseId: mailboxId });
    await letPass(database, leaseId, 601);
    await fireDue();
    expect(await outcomesOf(tenant, leaseId)).toEqual(["TARGET_ENDED"]);
    expect(await cronOf(tenant, leaseId)).toMatchObject({ state: TARGET_ENDED });
    await letPass(database, leaseId, 601);
    await fireDue();
    expect(await outcomesOf(tenant, leaseId)).toEqual(["TARGET_ENDED"]);
  });

  test("by a webhook that answers 410 is the end of its target", async () => {
    const receiver = await WebhookReceiver.start(() => 410);
    const { leaseId } = await openCron(tenant, { target: { case: "webhookUrl", value: receiver.url } });
    await letPass(database, leaseId, 601);
    await fireDue();
    expect(await outcomesOf(tenant, leaseId)).toEqual(["TARGET_ENDED"]);
    expect(await cronOf(tenant, leaseId)).toMatchObject({ state: TARGET_ENDED });
  });
});

describe("slots that are found late", () => {
  test.each([
    [CronSpec_Misfire.FIRE_ALL, ["MISSED", "DELIVERED", "DELIVERED"]],
    [CronSpec_Misfire.FIRE_LAST, ["MISSED", "MISSED", "DELIVERED"]],
    [CronSpec_Misfire.SKIP, ["MISSED", "MISSED", "MISSED"]],
  ])("by misfire %i become what it says, and none fires that is later than max_lateness", async (misfire, outcomes) => {
    const { leaseId, mailboxId } = await cronIntoMailbox({ misfire, maxLateness: { seconds: 1_000n } });
    await letPass(database, leaseId, 1_800 + 100);
    await fireDue();
    expect(await outcomesOf(tenant, leaseId)).toEqual(outcomes);
    expect(await messagesOf(mailboxId)).toHaveLength(outcomes.filter((outcome) => outcome === "DELIVERED").length);
  });

  test.each([
    [CronSpec_Overlap.ALLOW, ["PENDING", "PENDING"]],
    [CronSpec_Overlap.SKIP, ["PENDING", "SKIPPED"]],
    [CronSpec_Overlap.REPLACE, ["REPLACED", "PENDING"]],
  ])("while another is being delivered become by overlap %i what it says", async (overlap, outcomes) => {
    const { leaseId, mailboxId } = await cronIntoMailbox({ overlap }, { maxMessages: 1 });
    await query(database, "update mailbox set max_messages = 0 where lease_id = $1", [leaseUuid(mailboxId)]);
    await letPass(database, leaseId, 601);
    await fireDue();
    await letPass(database, leaseId, 601);
    await fireDue();
    expect(await outcomesOf(tenant, leaseId)).toEqual(outcomes);
  });
});

describe("nothing fires", () => {
  test("after the lease's end, with the sweeper's other work stopped", async () => {
    const { leaseId, mailboxId } = await cronIntoMailbox();
    await tenant.age(leaseId, 3_600);
    await letPass(database, leaseId, 601);
    await fireDue();
    expect(await messagesOf(mailboxId)).toEqual([]);
  });

  test("of a lease that is deleted while its slot waits for the lock", async () => {
    const { leaseId, mailboxId } = await cronIntoMailbox();
    await letPass(database, leaseId, 601);
    const firing = await database.transaction(async (transaction) => {
      await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(leaseId)]);
      const fired = fireDue();
      await lockWaiters(database, 1);
      await query(transaction, "update lease set due_time = clock_timestamp() where lease_id = $1", [
        leaseUuid(leaseId),
      ]);
      return [fired];
    });
    await firing[0];
    expect(await messagesOf(mailboxId)).toEqual([]);
  });

  test("while it is paused, and what passed meanwhile is not made up for", async () => {
    const { leaseId } = await cronIntoMailbox();
    const crons = cronsOf(tenant);
    expect(await crons.pauseCron({ leaseId })).toMatchObject({ state: CronDetails_State.PAUSED });
    await letPass(database, leaseId, 1_201);
    await fireDue();
    const { state, nextSlotTime } = await crons.resumeCron({ leaseId });
    expect(state).toBe(RUNNING);
    expect(Number(nextSlotTime?.seconds)).toBeGreaterThan(Date.now() / 1000 - 1);
    await fireDue();
    expect(await outcomesOf(tenant, leaseId)).toEqual([]);
  });
});
