import { describe, expect, test } from "vitest";
import { Handoff_State } from "#gen/leasehold/v1/handoff_pb.js";
import { refusedWith } from "../handoff/redeemer.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { doors, leaseUuid, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { mailboxOf, storedMessages } from "./mail.ts";
import { bodyOf, MailReceiver } from "./mail-receiver.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);

describe("an acknowledgement", () => {
  test.each(doors)(
    "over %s destroys the message and frees its room, and the message never comes again",
    async (door) => {
      const mailbox = (await MailReceiver.open(tenant)).at(leasehold, door);
      await mailbox.drop(["one", "two"]);
      const deliveries = await mailbox.pull();
      expect(await mailbox.ack(deliveries.slice(0, 1))).toEqual(["ACKED"]);
      expect(await mailboxOf(tenant, mailbox.leaseId)).toMatchObject({ messageCount: 1n, usedBytes: 259n });
      await mailbox.passTime();
      expect(await mailbox.pullBodies()).toEqual(["two"]);
      expect(await mailbox.ack(deliveries.slice(0, 1))).toEqual(["ALREADY_GONE"]);
    },
  );

  test("works at any server, whoever the message was delivered by", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one"]);
    expect(await mailbox.at(other).ack(await mailbox.pull())).toEqual(["ACKED"]);
    expect(await storedMessages(database, mailbox.leaseId)).toEqual([]);
  });

  test("gives each receipt of a batch its own outcome, in order", async () => {
    const mailbox = await MailReceiver.open(tenant);
    const second = await MailReceiver.open(tenant);
    await mailbox.drop(["one", "two", "three"]);
    await second.drop(["other"]);
    const [one, two, three] = (await mailbox.pull()).map(required);
    const [foreign] = await second.pull();
    const [, , stale] = [one, two, required(three)];
    await mailbox.passTime(stale.message?.messageId);
    await mailbox.pull();
    const receipts = [required(one), required(foreign), required(two), required(one), stale, { receipt: "rcp_none" }];
    const never = { receipt: `${required(one).receipt.slice(0, -4)}zzzz` };
    expect(await mailbox.ack([...receipts, never])).toEqual([
      "ACKED",
      "UNKNOWN",
      "ACKED",
      "ALREADY_GONE",
      "STALE",
      "UNKNOWN",
      "UNKNOWN",
    ]);
  });

  test("after the hold's end counts as long as nobody has taken the message since", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one"]);
    const deliveries = await mailbox.pull();
    await mailbox.passTime();
    expect(await mailbox.ack(deliveries)).toEqual(["ACKED"]);
    expect(await mailbox.pull()).toEqual([]);
  });

  test("of an earlier delivery does not destroy a message that another holds", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one"]);
    const early = await mailbox.pull();
    await mailbox.passTime();
    const late = await mailbox.pull();
    expect(late).toMatchObject([{ deliveryCount: 2 }]);
    expect(await mailbox.ack(early)).toEqual(["STALE"]);
    expect(await mailbox.ack([...early, ...late])).toEqual(["STALE", "ACKED"]);
  });

  test("that waits for another that extends the same delivery still destroys the message", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one", "two"]);
    const deliveries = await mailbox.pull();
    const outcomes = await whileLeaseIsLocked(mailbox, async () => {
      const extended = mailbox.extend(deliveries, 600);
      await lockWaiters(database, 1);
      const acked = mailbox.at(other).ack(deliveries);
      await lockWaiters(database, 2);
      return [extended, acked];
    });
    expect(await Promise.all(outcomes)).toEqual([
      ["EXTENDED", "EXTENDED"],
      ["ACKED", "ACKED"],
    ]);
    expect(await storedMessages(database, mailbox.leaseId)).toEqual([]);
    expect(await mailboxOf(tenant, mailbox.leaseId)).toMatchObject({ messageCount: 0n, usedBytes: 0n });
  });

  test("of the same deliveries by many at once is done once", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(Array.from({ length: 20 }, (_, index) => `${index}`));
    const deliveries = await mailbox.pull();
    const all = await Promise.all(
      [leasehold, other, leasehold, other, leasehold, other].map((server) => mailbox.at(server).ack(deliveries)),
    );
    for (let index = 0; index < 20; index++) {
      expect(all.map((outcomes) => outcomes[index]).sort()).toEqual([
        "ACKED",
        ...Array.from({ length: 5 }, () => "ALREADY_GONE"),
      ]);
    }
    expect(await mailboxOf(tenant, mailbox.leaseId)).toMatchObject({ messageCount: 0n, usedBytes: 0n });
  });

  test("keeps the message for claims that began before, frees its room, and is not undone by it", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one", "two"]);
    const { handoff } = await tenant.handoffs.issueHandoff({ leaseId: mailbox.leaseId, maxClaims: 5 });
    expect(handoff?.state).toBe(Handoff_State.OPEN);
    await query(database, "update handoff set open_claims = 1 where lease_id = $1", [leaseUuid(mailbox.leaseId)]);
    const [before] = await storedMessages(database, mailbox.leaseId);
    const deliveries = await mailbox.pull();
    expect(await mailbox.ack(deliveries.slice(0, 1))).toEqual(["ACKED"]);
    const rows = await storedMessages(database, mailbox.leaseId);
    expect(rows[0]).toMatchObject({ state: 5, kept_version: 3n, sealed: before?.sealed });
    expect(await mailboxOf(tenant, mailbox.leaseId)).toMatchObject({ messageCount: 1n, usedBytes: 259n });
    expect(await mailbox.ack(deliveries)).toEqual(["ALREADY_GONE", "ACKED"]);
    const { messages } = await mailbox.mail.listMessages({ leaseId: mailbox.leaseId });
    expect(messages).toEqual([]);
    await mailbox.drop(["three"]);
    expect((await storedMessages(database, mailbox.leaseId)).map((row) => row.sequence)).toEqual([1n, 2n, 5n]);
  });

  test("by a key that is revoked while it waits is refused, and nothing is destroyed", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one"]);
    const deliveries = await mailbox.pull();
    const { key, apiKey } = await tenant.accounts.createApiKey({ name: "short" });
    const refused = await whileLeaseIsLocked(mailbox, async () => {
      const acked = refusedWith(mailbox.by(tenant.by(apiKey)).ack(deliveries));
      await lockWaiters(database, 1);
      await tenant.accounts.revokeApiKey({ keyId: key?.keyId ?? "" });
      return [acked];
    });
    expect(await refused[0]).toMatchObject({ reason: "CREDENTIAL_INVALID" });
    expect((await storedMessages(database, mailbox.leaseId)).length).toBe(1);
  });

  test("that waits past the lease's end is refused, and destroys nothing", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one"]);
    const deliveries = await mailbox.pull();
    const lease = [leaseUuid(mailbox.leaseId)];
    const refused = await database.transaction(async (transaction) => {
      await query(transaction, "select from lease where lease_id = $1 for update", lease);
      const acked = refusedWith(mailbox.ack(deliveries));
      await lockWaiters(database, 1);
      await query(transaction, "update lease set due_time = clock_timestamp() where lease_id = $1", lease);
      return [acked];
    });
    expect(await refused[0]).toMatchObject({ reason: "LEASE_ENDED" });
    expect(await query(database, "select from message where lease_id = $1", lease)).toHaveLength(1);
  });
});

describe("giving back", () => {
  test("makes a message ready at once, and counts its delivery", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one", "two"]);
    const deliveries = await mailbox.pull({ maxMessages: 1 });
    expect(await mailbox.nack([...deliveries, ...deliveries])).toEqual(["NACKED", "STALE"]);
    expect((await mailbox.pull()).map((delivery) => [bodyOf(delivery), delivery.deliveryCount])).toEqual([
      ["one", 2],
      ["two", 1],
    ]);
    expect(await mailbox.ack(deliveries)).toEqual(["STALE"]);
  });

  test("with a delay makes it wait for so long", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one"]);
    expect(await mailbox.nack(await mailbox.pull(), 600)).toEqual(["NACKED"]);
    expect(await mailbox.pull()).toEqual([]);
    await mailbox.passTime();
    expect(await mailbox.pullBodies()).toEqual(["one"]);
  });
});

describe("extending", () => {
  test("holds a message for longer than it was taken for", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one"]);
    const deliveries = await mailbox.pull({ holdSeconds: 1 });
    expect(await mailbox.extend(deliveries, 600)).toEqual(["EXTENDED"]);
    const { messages } = await mailbox.mail.listMessages({ leaseId: mailbox.leaseId });
    const { visibleTime, message } = required(messages[0]);
    expect(Number(visibleTime?.seconds) - Number(message?.dropTime?.seconds)).toBeGreaterThan(590);
    expect(await mailbox.ack(deliveries)).toEqual(["ACKED"]);
    expect(await mailbox.extend(deliveries, 600)).toEqual(["ALREADY_GONE"]);
  });

  test("is never past the lease's end", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one"]);
    const { receipt } = required((await mailbox.pull())[0]);
    const { leaseId } = mailbox;
    const extended = await mailbox.mail.extendMessages({
      leaseId,
      receipts: [receipt, receipt],
      visibilityTimeout: { seconds: 43_200n },
    });
    expect(extended.results.map(({ outcome }) => outcome)).toEqual([3, 3]);
    expect(extended.holdExpireTime).toEqual((await tenant.show(leaseId)).expireTime);
  });

  test("of a delivery that was taken by another is stale", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one"]);
    const early = await mailbox.pull();
    await mailbox.passTime();
    await mailbox.pull();
    expect(await mailbox.extend(early, 600)).toEqual(["STALE"]);
  });
});

test("an acknowledgement frees room for a drop that was refused before", async () => {
  const mailbox = await MailReceiver.open(tenant, { maxMessages: 1 });
  await mailbox.drop(["one"]);
  expect(await refusedWith(mailbox.drop(["two"]))).toMatchObject({ reason: "MAILBOX_FULL" });
  await mailbox.ack(await mailbox.pull());
  await mailbox.drop(["two"]);
  expect(await mailbox.pullBodies()).toEqual(["two"]);
});

/** Runs work while every statement that locks the mailbox's lease waits, and gives what it left under way. */
async function whileLeaseIsLocked<Value>(mailbox: MailReceiver, work: () => Promise<Value>): Promise<Value> {
  return await database.transaction(async (transaction) => {
    await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(mailbox.leaseId)]);
    return await work();
  });
}
