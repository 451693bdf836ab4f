import { describe, expect, test } from "vitest";
import { ApiKey_Scope } from "#gen/leasehold/v1/account_pb.js";
import { DeadMessage_Reason as Reason, ListedMessage_State as State } from "#gen/leasehold/v1/mailbox_pb.js";
import { refusedWith } from "../handoff/redeemer.ts";
import { doors, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { mailboxOf, storedMessages } from "./mail.ts";
import { bodyOf, MailReceiver, seen } from "./mail-receiver.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);

describe("a message that was delivered as often as it may be", () => {
  test.each(doors)(
    "over %s is dead when it is given back, listed with its reason, and never delivered",
    async (door) => {
      const mailbox = (await MailReceiver.open(tenant, { maxDeliveries: 2 })).at(leasehold, door);
      const [messageId] = await mailbox.drop(["one"]);
      expect(await mailbox.nack(await mailbox.pull())).toEqual(["NACKED"]);
      const last = await mailbox.pull();
      expect(await mailbox.nack(last)).toEqual(["DEAD"]);
      expect(await mailbox.pull()).toEqual([]);
      const { messages } = await mailbox.mail.listDeadMessages({ leaseId: mailbox.leaseId });
      expect(messages).toMatchObject([{ message: { messageId }, reason: Reason.NACKED, deliveryCount: 2 }]);
      expect(messages[0]?.deadTime).toBeDefined();
      expect(await mailbox.ack(last)).toEqual(["STALE"]);
      expect(await mailboxOf(tenant, mailbox.leaseId)).toMatchObject({ messageCount: 1n, usedBytes: 259n });
    },
  );

  test("is dead when its last hold is over, since then, whether or not anybody has buried it", async () => {
    const mailbox = await MailReceiver.open(tenant, { maxDeliveries: 1 });
    await mailbox.drop(["one", "two"]);
    await mailbox.pull();
    await mailbox.passTime();
    const unburied = await mailbox.mail.listDeadMessages({ leaseId: mailbox.leaseId });
    expect(unburied.messages).toMatchObject([
      { reason: Reason.HOLD_ENDED, deliveryCount: 1 },
      { reason: Reason.HOLD_ENDED, deliveryCount: 1 },
    ]);
    expect((await mailbox.mail.listMessages({ leaseId: mailbox.leaseId })).messages.map(({ state }) => state)).toEqual([
      State.DEAD,
      State.DEAD,
    ]);
    expect((await storedMessages(database, mailbox.leaseId)).map((row) => row.state)).toEqual([2, 2]);
    expect(await mailbox.pull({ waitSeconds: 1 })).toEqual([]);
    expect((await storedMessages(database, mailbox.leaseId)).map((row) => row.state)).toEqual([4, 4]);
    expect(await mailbox.mail.listDeadMessages({ leaseId: mailbox.leaseId })).toEqual(unburied);
  });

  test("can still be acknowledged by its last holder until it is buried", async () => {
    const mailbox = await MailReceiver.open(tenant, { maxDeliveries: 1 });
    await mailbox.drop(["one"]);
    const deliveries = await mailbox.pull();
    await mailbox.passTime();
    expect(await mailbox.ack(deliveries)).toEqual(["ACKED"]);
    expect((await mailbox.mail.listDeadMessages({ leaseId: mailbox.leaseId })).messages).toEqual([]);
  });
});

describe("bringing dead messages back", () => {
  test("delivers them again, with no delivery counted, in the places they had", async () => {
    const mailbox = await MailReceiver.open(tenant, { maxDeliveries: 1 });
    const ids = await mailbox.drop(["one", "two", "three"]);
    const deliveries = await mailbox.pull({ maxMessages: 2 });
    await mailbox.nack(deliveries.slice(0, 1));
    await mailbox.passTime();
    const { leaseId } = mailbox;
    const { messageIds } = await mailbox.mail.redriveMessages({ leaseId });
    expect(messageIds).toEqual(ids.slice(0, 2));
    const again = await mailbox.pull();
    expect(again.map((delivery) => [bodyOf(delivery), delivery.deliveryCount])).toEqual([
      ["one", 1],
      ["two", 1],
      ["three", 1],
    ]);
    expect(await mailbox.ack(deliveries)).toEqual(["STALE", "STALE"]);
    expect(await mailbox.ack(again)).toEqual(["ACKED", "ACKED", "ACKED"]);
  });

  test("takes only those that were named and are dead", async () => {
    const mailbox = await MailReceiver.open(tenant, { maxDeliveries: 1 });
    const [one, two, three] = await mailbox.drop(["one", "two", "three"]);
    await mailbox.nack(await mailbox.pull({ maxMessages: 2 }));
    const { messageIds } = await mailbox.mail.redriveMessages({
      leaseId: mailbox.leaseId,
      messageIds: [required(two), required(three)],
    });
    expect(messageIds).toEqual([two]);
    expect((await mailbox.mail.listDeadMessages({ leaseId: mailbox.leaseId })).messages).toMatchObject([
      { message: { messageId: one } },
    ]);
  });

  test("wakes a receiver that waits at another server", async () => {
    const mailbox = await MailReceiver.open(tenant, { maxDeliveries: 1 });
    await mailbox.drop(["one"]);
    await mailbox.nack(await mailbox.pull());
    await using stream = mailbox.at(other).stream();
    const next = stream.next();
    await mailbox.mail.redriveMessages({ leaseId: mailbox.leaseId });
    expect(bodyOf(await next)).toBe("one");
  });

  test("needs the scope write, and listing them only read", async () => {
    const mailbox = await MailReceiver.open(tenant);
    const { apiKey } = await tenant.accounts.createApiKey({ name: "r", scopes: [ApiKey_Scope.READ] });
    const reader = mailbox.by(tenant.by(apiKey));
    const { leaseId } = mailbox;
    expect(await refusedWith(seen(reader.mail.redriveMessages({ leaseId })))).toMatchObject({
      reason: "SCOPE_MISSING",
    });
    expect((await reader.mail.listDeadMessages({ leaseId })).messages).toEqual([]);
    expect((await reader.mail.listMessages({ leaseId })).messages).toEqual([]);
  });
});
