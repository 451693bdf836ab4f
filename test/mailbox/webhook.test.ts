/** Design, issue 3: a drop is announced to the mailbox's webhook, signed, at least once, and never after the lease's end. */
import { Webhook } from "standardwebhooks";
import { describe, expect, test } from "vitest";
import { WebhookDelivery_State } from "#gen/leasehold/v1/mailbox_pb.js";
import { buildWebhookSender } from "../../src/app.ts";
import { WebhookSender } from "../../src/mailbox/webhook-sender.ts";
import { Spawned } from "../processes/spawned.ts";
import { LogLines } from "../support/log-lines.ts";
import { leaseUuid, required } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { AnnouncedMailbox, outcomeOf, WebhookReceiver } from "./webhook-receiver.ts";

const settings = { LEASEHOLD_WEBHOOK_ALLOW_PRIVATE: "1" };
const log = new LogLines();
const leasehold = await TestLeasehold.start({ settings, logger: log.logger });
const { PENDING, DELIVERED, FAILED } = WebhookDelivery_State;
const signatureHeaders = ["webhook-id", "webhook-timestamp", "webhook-signature"];

/** Resolves once a lease's time is over, by the database's clock. */
async function leaseOver(leaseId: string): Promise<void> {
  const due = "select from lease where lease_id = $1 and due_time <= clock_timestamp()";
  while ((await query(leasehold.database, due, [leaseUuid(leaseId)])).length === 0) {
    // Asked again: the row is the signal.
  }
}

/** Sends all that is due. */
async function sendDue(): Promise<void> {
  await buildWebhookSender(leasehold.core).sendDue();
}

describe("a notification", () => {
  test("says of a drop who, where and how large, never what, and verifies with the secret of CreateLease", async () => {
    const receiver = await WebhookReceiver.start();
    const mailbox = await AnnouncedMailbox.open(leasehold, `${receiver.url}?key=value`);
    const [messageId] = await mailbox.drop("the body is nobody's business");
    await sendDue();
    const [request] = receiver.requests;
    expect(request).toMatchObject({ method: "POST", path: "/hook?key=value" });
    expect(request?.headers).toMatchObject({ "content-type": "application/json", "webhook-id": messageId });
    const { body, headers } = required(request);
    const verified = new Webhook(mailbox.webhookSecret).verify(body, headers);
    const { createTime, sequence } = await mailbox.entry();
    const dropTime = new Date(Number(createTime?.seconds) * 1000 + Math.floor((createTime?.nanos ?? 0) / 1e6));
    expect(verified).toEqual({
      type: "mailbox.message_dropped",
      timestamp: dropTime.toISOString(),
      data: { lease_id: mailbox.leaseId, message_id: messageId, sequence: Number(sequence), body_bytes: 29 },
    });
    expect(JSON.stringify(receiver.requests)).not.toContain("nobody");
    const other = await AnnouncedMailbox.open(leasehold, receiver.url);
    expect(() => new Webhook(other.webhookSecret).verify(body, headers)).toThrow();
  });

  test("is sent once if the receiver takes it, and is DELIVERED", async () => {
    const receiver = await WebhookReceiver.start(() => 204);
    const mailbox = await AnnouncedMailbox.open(leasehold, receiver.url);
    await mailbox.drop("a");
    const pending = { state: PENDING, attemptCount: 0, lastStatus: 0, lastError: "", isToBeSent: true };
    expect(outcomeOf(await mailbox.entry())).toEqual(pending);
    await sendDue();
    await sendDue();
    expect(receiver.requests).toHaveLength(1);
    const delivered = { state: DELIVERED, attemptCount: 1, lastStatus: 204, lastError: "", isToBeSent: false };
    expect(outcomeOf(await mailbox.entry())).toEqual(delivered);
  });

  test("is sent again after an error, with the same id and body and a signature that verifies", async () => {
    const receiver = await WebhookReceiver.start((_received, _response, count) => (count === 1 ? 500 : 200));
    const mailbox = await AnnouncedMailbox.open(leasehold, receiver.url);
    await mailbox.drop("a");
    await sendDue();
    const failed = await mailbox.entry();
    expect(failed).toMatchObject({
      state: PENDING,
      attemptCount: 1,
      lastStatus: 500,
      lastError: "the receiver failed",
    });
    expect(Number(failed.nextAttemptTime?.seconds)).toBeGreaterThan(Number(failed.lastAttemptTime?.seconds));
    await sendDue();
    expect(receiver.requests).toHaveLength(1);
    await mailbox.makeDue();
    await sendDue();
    expect(await mailbox.entry()).toMatchObject({ state: DELIVERED, attemptCount: 2, lastStatus: 200, lastError: "" });
    const [first, second] = receiver.requests;
    expect(second?.body).toBe(first?.body);
    expect(second?.headers["webhook-id"]).toBe(first?.headers["webhook-id"]);
    new Webhook(mailbox.webhookSecret).verify(required(second).body, required(second).headers);
  });

  test("is the same when its message has been acknowledged meanwhile", async () => {
    const receiver = await WebhookReceiver.start((_received, _response, count) => (count === 1 ? 503 : 200));
    const mailbox = await AnnouncedMailbox.open(leasehold, receiver.url);
    await mailbox.drop("gone soon");
    await sendDue();
    const { leaseId } = mailbox;
    const { deliveries } = await mailbox.mailboxes.pullMessages({ leaseId });
    await mailbox.mailboxes.ackMessages({ leaseId, receipts: deliveries.map(({ receipt }) => receipt) });
    await mailbox.makeDue();
    await sendDue();
    expect(receiver.requests.map(({ body }) => body)).toEqual([receiver.requests[0]?.body, receiver.requests[0]?.body]);
  });

  test("that failed as often as it is tried is FAILED, and not sent again", async () => {
    const receiver = await WebhookReceiver.start(() => 404);
    const mailbox = await AnnouncedMailbox.open(leasehold, receiver.url, 100n);
    await mailbox.drop("a");
    for (let attempt = 1; attempt <= 11; attempt++) {
      await mailbox.makeDue();
      await sendDue();
    }
    expect(receiver.requests).toHaveLength(10);
    const failed = { state: FAILED, attemptCount: 10, lastStatus: 404, lastError: "the receiver refused it" };
    expect(outcomeOf(await mailbox.entry())).toEqual({ ...failed, isToBeSent: false });
  });

  test("is not sent after a redirect, which is an answer that failed", async () => {
    const elsewhere = await WebhookReceiver.start();
    const receiver = await WebhookReceiver.start((_received, response) => {
      response.writeHead(307, { location: elsewhere.url }).end();
      return undefined;
    });
    const mailbox = await AnnouncedMailbox.open(leasehold, receiver.url);
    await mailbox.drop("a");
    await sendDue();
    expect(elsewhere.requests).toEqual([]);
    const failed = { state: PENDING, lastStatus: 307, lastError: "redirects are not followed" };
    expect(await mailbox.entry()).toMatchObject(failed);
  });

  test("is DELIVERED by the status, however much the receiver goes on to say", async () => {
    const receiver = await WebhookReceiver.start((_received, response) => {
      response.writeHead(200);
      const talk = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536))) {
          // Until the connection's buffers are full.
        }
      };
      response.on("drain", talk);
      talk();
      return undefined;
    });
    const mailbox = await AnnouncedMailbox.open(leasehold, receiver.url);
    await mailbox.drop("a");
    await sendDue();
    expect(await mailbox.entry()).toMatchObject({ state: DELIVERED, lastStatus: 200 });
  }, 10_000);

  test("to nobody is recorded as such, and tried again", async () => {
    const receiver = await WebhookReceiver.start((_received, response) => void response.destroy());
    const mailbox = await AnnouncedMailbox.open(leasehold, receiver.url);
    const absent = await AnnouncedMailbox.open(leasehold, "http://127.0.0.1:9/");
    const wrong = await AnnouncedMailbox.open(leasehold, receiver.url.replace("http:", "https:"));
    await Promise.all([mailbox.drop("a"), absent.drop("a"), wrong.drop("a")]);
    await sendDue();
    expect(await mailbox.entry()).toMatchObject({ state: PENDING, lastError: "the connection was cut", lastStatus: 0 });
    expect(await absent.entry()).toMatchObject({ state: PENDING, lastError: "the connection was refused" });
    expect(await wrong.entry()).toMatchObject({ state: PENDING, lastError: "TLS failed" });
  });
});

describe("410", () => {
  test("switches the webhook off: what waits is FAILED, and later drops are not announced", async () => {
    const receiver = await WebhookReceiver.start((_received, _response, count) => (count <= 2 ? 500 : 410));
    const mailbox = await AnnouncedMailbox.open(leasehold, receiver.url);
    await mailbox.drop("a", "b");
    await sendDue();
    expect((await mailbox.log()).webhookDisableTime).toBeUndefined();
    await mailbox.drop("c");
    await sendDue();
    const { deliveries, webhookDisableTime } = await mailbox.log();
    expect(webhookDisableTime).toBeDefined();
    const lastError = "the receiver switched the webhook off";
    expect(deliveries.map(outcomeOf)).toEqual([
      { state: FAILED, attemptCount: 1, lastStatus: 410, lastError, isToBeSent: false },
      { state: FAILED, attemptCount: 1, lastStatus: 500, lastError, isToBeSent: false },
      { state: FAILED, attemptCount: 1, lastStatus: 500, lastError, isToBeSent: false },
    ]);
    await mailbox.drop("d");
    await mailbox.makeDue();
    await sendDue();
    expect(receiver.requests).toHaveLength(3);
    expect((await mailbox.log()).deliveries).toHaveLength(3);
  });

  test("is heeded by notifications that were made while it came", async () => {
    const receiver = await WebhookReceiver.start();
    const mailbox = await AnnouncedMailbox.open(leasehold, receiver.url);
    await mailbox.drop("a", "b", "c");
    const switchOff = "update mailbox set webhook_disable_time = clock_timestamp() where lease_id = $1";
    await query(leasehold.database, switchOff, [leaseUuid(mailbox.leaseId)]);
    await sendDue();
    expect(receiver.requests).toEqual([]);
    const { deliveries } = await mailbox.log();
    expect(deliveries.map(({ state, attemptCount }) => [state, attemptCount])).toEqual(Array(3).fill([FAILED, 0]));
  });
});

describe("the lease's end", () => {
  test("is the end of its notifications, with the sweeper away and after a delete", async () => {
    const receiver = await WebhookReceiver.start();
    const [expired, deleted] = [
      await AnnouncedMailbox.open(leasehold, receiver.url),
      await AnnouncedMailbox.open(leasehold, receiver.url),
    ];
    await Promise.all([expired.drop("a"), deleted.drop("a")]);
    await expired.tenant.age(expired.leaseId, 3_601);
    await deleted.tenant.leases.deleteLease({ leaseId: deleted.leaseId });
    await sendDue();
    expect(receiver.requests).toEqual([]);
    const attempts = "select attempt_count from webhook_delivery where lease_id = $1";
    const rows = await query(leasehold.database, attempts, [leaseUuid(expired.leaseId)]);
    expect(rows).toEqual([{ attempt_count: 0 }]);
  });

  test("is not passed by a retry: a failure that leaves no time for one is final", async () => {
    const receiver = await WebhookReceiver.start(() => 500);
    const mailbox = await AnnouncedMailbox.open(leasehold, receiver.url);
    await mailbox.drop("a");
    await query(leasehold.database, "update webhook_delivery set attempt_count = 3 where lease_id = $1", [
      leaseUuid(mailbox.leaseId),
    ]);
    await sendDue();
    const failed = { state: FAILED, attemptCount: 4, lastStatus: 500, isToBeSent: false };
    expect(outcomeOf(await mailbox.entry())).toMatchObject(failed);
  });

  test("is heeded although it came while the database answered what is due", async () => {
    const receiver = await WebhookReceiver.start();
    const mailbox = await AnnouncedMailbox.open(leasehold, receiver.url);
    await mailbox.drop("a");
    const { core, database } = leasehold;
    await query(database, "update lease set due_time = clock_timestamp() + interval '2 seconds' where lease_id = $1", [
      leaseUuid(mailbox.leaseId),
    ]);
    const sender = new WebhookSender({
      ...core,
      serverKeys: core.keyFolder.serverKeys,
      allowPrivate: true,
      database: {
        run: async (...asked) => {
          const rows = await database.run(...asked);
          await leaseOver(mailbox.leaseId);
          return rows;
        },
      },
    });
    await sender.sendDue();
    expect(receiver.requests).toEqual([]);
    const rows = await query(database, "select attempt_count from webhook_delivery where lease_id = $1", [
      leaseUuid(mailbox.leaseId),
    ]);
    expect(rows).toEqual([{ attempt_count: 1 }]);
  });

  test("cuts an attempt that is under way", async () => {
    const closed = Promise.withResolvers<void>();
    const receiver = await WebhookReceiver.start((_received, response) => {
      response.on("close", () => closed.resolve());
      return undefined;
    });
    const mailbox = await AnnouncedMailbox.open(leasehold, receiver.url);
    await mailbox.drop("a");
    await mailbox.tenant.age(mailbox.leaseId, 3_599);
    const sending = sendDue();
    await receiver.received(1);
    await closed.promise;
    await sending;
    const states = "select state, last_error from webhook_delivery where lease_id = $1";
    const rows = await query(leasehold.database, states, [leaseUuid(mailbox.leaseId)]);
    expect(rows).toEqual([{ state: FAILED, last_error: "no answer in time" }]);
  }, 10_000);
});

test("what a sender took when it was killed is sent by another, again", async () => {
  const receiver = await WebhookReceiver.start((_received, _response, count) => (count === 1 ? undefined : 200));
  const mailbox = await AnnouncedMailbox.open(leasehold, receiver.url);
  await mailbox.drop("a");
  const { dataDir } = leasehold.core.config;
  const env = { ...settings, DATABASE_URL: leasehold.databaseUrl, LEASEHOLD_DATA_DIR: dataDir };
  const sweep = new Spawned(["sweep"], { env });
  await receiver.received(1);
  sweep.process.kill("SIGKILL");
  await sweep.ended();
  expect(await mailbox.entry()).toMatchObject({ state: PENDING, attemptCount: 1 });
  await sendDue();
  expect(receiver.requests).toHaveLength(1);
  await mailbox.makeDue();
  await sendDue();
  const ids = receiver.requests.map(({ headers }) => headers["webhook-id"]);
  expect(ids).toEqual([ids[0], ids[0]]);
  expect(await mailbox.entry()).toMatchObject({ state: DELIVERED, attemptCount: 2 });
});

test("an outcome that comes after another attempt has begun is not recorded over that one's, unless it delivered", async () => {
  for (const [late, state] of [
    [500, PENDING],
    [200, DELIVERED],
  ] as const) {
    const { promise, resolve } = Promise.withResolvers<void>();
    const receiver = await WebhookReceiver.start(() => promise.then(() => late));
    const mailbox = await AnnouncedMailbox.open(leasehold, receiver.url);
    await mailbox.drop("a");
    const sending = sendDue();
    await receiver.received(1);
    const takeAgain = "update webhook_delivery set attempt_count = attempt_count + 1 where lease_id = $1";
    await query(leasehold.database, takeAgain, [leaseUuid(mailbox.leaseId)]);
    resolve();
    await sending;
    expect(await mailbox.entry()).toMatchObject({ state, attemptCount: 2, lastStatus: late === 200 ? 200 : 0 });
  }
});

test("the log tells of each attempt, and holds no address, secret, signature or answer", async () => {
  const receiver = await WebhookReceiver.start((_received, response, count) => {
    response.writeHead(count === 1 ? 500 : 200).end("what the receiver says");
    return undefined;
  });
  const mailbox = await AnnouncedMailbox.open(leasehold, `${receiver.url}/hidden-path`);
  await mailbox.drop("a");
  await sendDue();
  await mailbox.makeDue();
  await sendDue();
  const attempts = log.lines.filter(({ lease }) => lease === mailbox.leaseId);
  expect(attempts).toMatchObject([
    { level: 20, attempt: 1, status: 500, failure: "the receiver failed" },
    { level: 20, attempt: 2, status: 200 },
  ]);
  const text = JSON.stringify(log.lines);
  const secrets = [mailbox.webhookSecret, `${receiver.port}`, "hidden-path", "what the receiver says", "whsec_"];
  const signatures = receiver.requests.flatMap(({ headers }) => headers["webhook-signature"] ?? []);
  expect(receiver.requests.every(({ headers }) => signatureHeaders.every((name) => name in headers))).toBe(true);
  for (const secret of [...secrets, ...signatures]) {
    expect(text).not.toContain(secret);
  }
});
