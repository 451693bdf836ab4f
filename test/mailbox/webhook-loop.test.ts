/** Issue 3: webhooks are sent by a loop of its own, in which a slow receiver slows nobody else, and of which there may be many. */
import { expect, test } from "vitest";
import { WebhookDelivery_State } from "#gen/leasehold/v1/mailbox_pb.js";
import { buildWebhookSender } from "../../src/app.ts";
import { leasehold as runLeasehold } from "../processes/spawned.ts";
import { leaseUuid } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { AnnouncedMailbox, WebhookReceiver } from "./webhook-receiver.ts";

const settings = { LEASEHOLD_WEBHOOK_ALLOW_PRIVATE: "1" };
const leasehold = await TestLeasehold.start({ settings });
const { PENDING, DELIVERED } = WebhookDelivery_State;
const letters = [..."abcdefghijklmnopqrst"];

/** Adds many notifications of messages that were there before, more overdue than any that is made now. */
async function pileUp(mailbox: AnnouncedMailbox, count: number): Promise<void> {
  await query(
    leasehold.database,
    `insert into webhook_delivery
      (owner_id, lease_id, sequence, message_id, body_bytes, state, next_attempt_time, create_time)
    select $1, $2, 1000000 + n, uuidv7(), 1, 1, clock_timestamp() - interval '1 hour', clock_timestamp() - interval '1 hour'
    from generate_series(1, $3::int) as n`,
    [mailbox.tenant.ownerId, leaseUuid(mailbox.leaseId), count],
  );
}

test("a receiver that never answers, with thousands of notifications waiting, holds up nobody else's", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const slow = await WebhookReceiver.start(() => promise.then(() => 410));
  const fast = await WebhookReceiver.start();
  const slowMailboxes = await Promise.all([1, 2, 3].map(() => AnnouncedMailbox.open(leasehold, slow.url)));
  for (const mailbox of slowMailboxes) {
    await pileUp(mailbox, 3_000);
  }
  const mailbox = await AnnouncedMailbox.open(leasehold, fast.url);
  const sender = buildWebhookSender(leasehold.core);
  const running = sender.run();
  await slow.received(12);
  const ids = await mailbox.drop(...letters);
  await fast.received(letters.length);
  expect(slow.requests).toHaveLength(12);
  expect(fast.requests.map(({ headers }) => headers["webhook-id"]).sort()).toEqual(ids.sort());
  resolve();
  sender.stop();
  await running;
  expect(new Set((await mailbox.log()).deliveries.map(({ state }) => state))).toEqual(new Set([DELIVERED]));
});

test("a receiver that fails is asked for one notification at a time, until it takes one", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const failing = await WebhookReceiver.start((_received, _response, count) =>
    count === 1 ? 500 : promise.then(() => 200),
  );
  const healthy = await WebhookReceiver.start();
  const mailbox = await AnnouncedMailbox.open(leasehold, failing.url);
  const other = await AnnouncedMailbox.open(leasehold, healthy.url);
  const sender = buildWebhookSender(leasehold.core);
  await mailbox.drop("a");
  await sender.sendDue();
  await mailbox.drop(...letters);
  await other.drop(...letters);
  const sending = sender.sendDue();
  // The other mailbox's need several rounds, and what the failing one gets comes with each.
  await healthy.received(letters.length);
  expect(failing.requests).toHaveLength(2);
  resolve();
  await sending;
  expect(failing.requests).toHaveLength(1 + letters.length);
});

test("many senders at once send each notification once", async () => {
  const receiver = await WebhookReceiver.start();
  const mailboxes = await Promise.all(letters.map(() => AnnouncedMailbox.open(leasehold, receiver.url)));
  for (const mailbox of mailboxes) {
    await pileUp(mailbox, 30);
  }
  await Promise.all([1, 2, 3, 4].map(() => buildWebhookSender(leasehold.core).sendDue()));
  const ids = receiver.requests.map(({ headers }) => headers["webhook-id"]);
  expect(ids).toHaveLength(letters.length * 30);
  expect(new Set(ids).size).toBe(letters.length * 30);
});

test("more mailboxes than one look visits all get their turn", async () => {
  const receiver = await WebhookReceiver.start();
  const failing = await AnnouncedMailbox.open(leasehold, receiver.url);
  await query(
    leasehold.database,
    `with made as (
      select uuidv7() as lease_id from generate_series(1, 500)
    ),
    leases as (
      insert into lease (owner_id, lease_id, key_id, variant, size_bytes, duration_seconds, expiry_behavior, read_access,
        delete_on_access, price_micros, pricing_version, create_time, active_time, expire_time, due_time, due_reason, epoch_seconds)
      select owner_id, m.lease_id, key_id, variant, size_bytes, duration_seconds, expiry_behavior, read_access,
        delete_on_access, price_micros, pricing_version, create_time, active_time, expire_time, due_time, due_reason, epoch_seconds
      from lease cross join made m where lease.lease_id = $1
    )
    insert into webhook_delivery (owner_id, lease_id, sequence, message_id, body_bytes, state, next_attempt_time, create_time)
    select $2, lease_id, 1, uuidv7(), 1, 1, clock_timestamp() + interval '1 hour', clock_timestamp() from made`,
    [leaseUuid(failing.leaseId), failing.tenant.ownerId],
  );
  const last = await AnnouncedMailbox.open(leasehold, receiver.url);
  await last.drop("a");
  await failing.drop("b");
  expect(await buildWebhookSender(leasehold.core).sendDue()).toBe(2);
  expect(receiver.requests).toHaveLength(2);
});

test("a stop cuts the attempts that do not end, and they are made again", async () => {
  const receiver = await WebhookReceiver.start(() => undefined);
  const mailbox = await AnnouncedMailbox.open(leasehold, receiver.url);
  await mailbox.drop("a");
  const sender = buildWebhookSender(leasehold.core);
  const running = sender.run();
  await receiver.received(1);
  sender.stop();
  await running;
  expect(await mailbox.entry()).toMatchObject({ state: PENDING, attemptCount: 1, lastError: "" });
  expect((await mailbox.entry()).nextAttemptTime).toBeDefined();
});

test("sweep --once sends what is due, and says how much it was", async () => {
  const receiver = await WebhookReceiver.start();
  const mailbox = await AnnouncedMailbox.open(leasehold, receiver.url);
  await mailbox.drop(...letters);
  const { dataDir } = leasehold.core.config;
  const env = { ...settings, DATABASE_URL: leasehold.databaseUrl, LEASEHOLD_DATA_DIR: dataDir };
  const outcome = await runLeasehold(["sweep", "--once"], { env: { ...env, LEASEHOLD_LOG_LEVEL: "warn" } });
  expect(outcome).toMatchObject({ exit: 0, stderr: "" });
  expect(outcome.stdout).toMatch(/^send-webhooks +\d+$/m);
  expect(receiver.requests).toHaveLength(letters.length);
});

test("what became of a notification is forgotten a week after the drop; what is still to be sent is not", async () => {
  const receiver = await WebhookReceiver.start(({ path }) => (path === "/hook?fail" ? 500 : 200));
  const [old, young, pending] = [
    await AnnouncedMailbox.open(leasehold, receiver.url),
    await AnnouncedMailbox.open(leasehold, receiver.url),
    await AnnouncedMailbox.open(leasehold, `${receiver.url}?fail`),
  ];
  await Promise.all([old, young, pending].map((mailbox) => mailbox.drop("a")));
  await buildWebhookSender(leasehold.core).sendDue();
  const age =
    "update webhook_delivery set create_time = create_time - make_interval(hours => $2::int) where lease_id = $1";
  for (const [mailbox, hours] of [
    [old, 7 * 24 + 1],
    [young, 7 * 24 - 1],
    [pending, 7 * 24 + 1],
  ] as const) {
    await query(leasehold.database, age, [leaseUuid(mailbox.leaseId), hours]);
  }
  await buildWebhookSender(leasehold.core).sendDue();
  const left = await Promise.all([old, young, pending].map((mailbox) => mailbox.log()));
  expect(left.map(({ deliveries }) => deliveries.length)).toEqual([0, 1, 1]);
});
