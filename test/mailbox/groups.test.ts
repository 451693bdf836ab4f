import { describe, expect, test } from "vitest";
import { lockWaiters } from "../support/lock-wait.ts";
import { leaseUuid, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { bodyOf, MailReceiver } from "./mail-receiver.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);

describe("a group", () => {
  test("is delivered one after the other, in order, while other messages pass by", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["a1", "a2", "a3"], { group: "a" });
    await mailbox.drop(["b1", "b2"], { group: "b" });
    await mailbox.drop(["free"]);
    const first = await mailbox.pull();
    expect(first.map(bodyOf)).toEqual(["a1", "b1", "free"]);
    expect(await mailbox.pull()).toEqual([]);
    await mailbox.ack(first.slice(0, 1));
    const second = await mailbox.pull();
    expect(second.map(bodyOf)).toEqual(["a2"]);
    await mailbox.ack([...second, ...first.slice(1)]);
    expect((await mailbox.pullBodies()).sort()).toEqual(["a3", "b2"]);
  });

  test("waits for its first message when that is given back with a delay", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["a1", "a2"], { group: "a" });
    await mailbox.nack(await mailbox.pull(), 600);
    expect(await mailbox.pull()).toEqual([]);
    await mailbox.passTime();
    expect(await mailbox.pullBodies()).toEqual(["a1"]);
  });

  test("waits for its first message when that was dropped with a delay, and then for the delay of the next", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["a1"], { group: "a", delay: { seconds: 600n } });
    await mailbox.drop(["a2"], { group: "a", delay: { seconds: 1_200n } });
    await mailbox.drop(["a3"], { group: "a" });
    expect(await mailbox.pull()).toEqual([]);
    const [a1, a2] = (await mailbox.mail.listMessages({ leaseId: mailbox.leaseId })).messages;
    await mailbox.passTime(a1?.message?.messageId);
    const first = await mailbox.pull();
    expect(first.map(bodyOf)).toEqual(["a1"]);
    await mailbox.ack(first);
    expect(await mailbox.pull()).toEqual([]);
    await mailbox.passTime(a2?.message?.messageId);
    expect(await mailbox.pullBodies()).toEqual(["a2"]);
  });

  test("goes on when its first message dies", async () => {
    const mailbox = await MailReceiver.open(tenant, { maxDeliveries: 1 });
    await mailbox.drop(["a1", "a2", "a3"], { group: "a" });
    expect(await mailbox.nack(await mailbox.pull())).toEqual(["DEAD"]);
    expect(await mailbox.pullBodies()).toEqual(["a2"]);
    await mailbox.passTime();
    // Its hold was the last one that it had.
    expect(await mailbox.pullBodies({ waitSeconds: 20 })).toEqual(["a3"]);
  });

  test("takes a message that is dropped while the one before it is acknowledged, whoever comes first", async () => {
    for (const isAckFirst of [true, false]) {
      const mailbox = await MailReceiver.open(tenant);
      await mailbox.drop(["a1"], { group: "a" });
      const deliveries = await mailbox.pull();
      const calls = [() => mailbox.ack(deliveries), () => mailbox.at(other).drop(["a2"], { group: "a" })];
      const [first, second] = isAckFirst ? calls : calls.toReversed();
      const underWay = await database.transaction(async (transaction) => {
        await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(mailbox.leaseId)]);
        const one = required(first)();
        await lockWaiters(database, 1);
        const two = required(second)();
        await lockWaiters(database, 2);
        return [one, two];
      });
      await Promise.all(underWay);
      expect(await mailbox.pullBodies()).toEqual(["a2"]);
    }
  });

  test("never has two messages out at once, and keeps its order, however many receive at two servers", async () => {
    const mailbox = await MailReceiver.open(tenant);
    const groups = ["a", "b", "c"];
    const perGroup = 12;
    const out = new Map<string, number>();
    const handled = new Map<string, number[]>(groups.map((group) => [group, []]));
    const receive = async (at: MailReceiver): Promise<void> => {
      for (let idle = 0; idle < 3; ) {
        const deliveries = await at.pull({ maxMessages: 4 });
        idle = deliveries.length === 0 ? idle + 1 : 0;
        for (const delivery of deliveries) {
          const [group = "", number = ""] = bodyOf(delivery).split(" ");
          out.set(group, (out.get(group) ?? 0) + 1);
          expect(out.get(group)).toBe(1);
          handled.get(group)?.push(Number(number));
        }
        for (const delivery of deliveries) {
          const [group = ""] = bodyOf(delivery).split(" ");
          out.set(group, (out.get(group) ?? 0) - 1);
          expect(await at.ack([delivery])).toEqual(["ACKED"]);
        }
      }
    };
    const drops = groups.map(async (group) => {
      for (let number = 0; number < perGroup; number++) {
        await mailbox.drop([`${group} ${number}`], { group });
      }
    });
    const receivers = Array.from({ length: 8 }, (_, index) => receive(mailbox.at(index % 2 === 0 ? leasehold : other)));
    await Promise.all([...drops, ...receivers]);
    await receive(mailbox);
    for (const numbers of handled.values()) {
      expect(numbers).toEqual(Array.from({ length: perGroup }, (_, index) => index));
    }
  });
});

describe("a message of a group that is brought back", () => {
  test("keeps its place before those that have not been delivered", async () => {
    const { mailbox, dead } = await withDead(["a1", "a2", "a3"], 1);
    await mailbox.mail.redriveMessages({ leaseId: mailbox.leaseId, messageIds: dead });
    expect(await order(mailbox, 3)).toEqual(["a1", "a2", "a3"]);
  });

  test("waits for one that is held, and comes before the rest", async () => {
    const { mailbox, dead } = await withDead(["a1", "a2", "a3"], 1);
    const held = await mailbox.pull();
    expect(held.map(bodyOf)).toEqual(["a2"]);
    await mailbox.mail.redriveMessages({ leaseId: mailbox.leaseId, messageIds: dead });
    expect(await mailbox.pull()).toEqual([]);
    await mailbox.ack(held);
    expect(await order(mailbox, 2)).toEqual(["a1", "a3"]);
  });

  test("passes one that was held meanwhile, when that is given back", async () => {
    for (const delaySeconds of [0, 600]) {
      const { mailbox, dead } = await withDead(["a1", "a2", "a3"], 1);
      const held = await mailbox.pull();
      await mailbox.mail.redriveMessages({ leaseId: mailbox.leaseId, messageIds: dead });
      expect(await mailbox.nack(held, delaySeconds)).toEqual(["NACKED"]);
      const first = await mailbox.pull();
      expect(first.map(bodyOf)).toEqual(["a1"]);
      await mailbox.ack(first);
      await mailbox.passTime();
      expect(await order(mailbox, 2)).toEqual(["a2", "a3"]);
    }
  });

  test("passes one that waits for a delay, which keeps it", async () => {
    const { mailbox, dead } = await withDead(["a1", "a2"], 1);
    await mailbox.nack(await mailbox.pull(), 600);
    await mailbox.mail.redriveMessages({ leaseId: mailbox.leaseId, messageIds: dead });
    const first = await mailbox.pull();
    expect(first.map(bodyOf)).toEqual(["a1"]);
    await mailbox.ack(first);
    expect(await mailbox.pull()).toEqual([]);
    await mailbox.passTime();
    expect(await mailbox.pullBodies()).toEqual(["a2"]);
  });

  test("passes one whose hold is over, and makes its delivery stale", async () => {
    const { mailbox, dead } = await withDead(["a1", "a2"], 1);
    const late = await mailbox.pull();
    await mailbox.passTime();
    await mailbox.mail.redriveMessages({ leaseId: mailbox.leaseId, messageIds: dead });
    expect(await mailbox.ack(late)).toEqual(["STALE"]);
    expect(await order(mailbox, 2)).toEqual(["a1", "a2"]);
  });

  test("is its group's only one when the rest are handled, and several keep their order", async () => {
    const { mailbox } = await withDead(["a1", "a2", "a3"], 3);
    const { messageIds } = await mailbox.mail.redriveMessages({ leaseId: mailbox.leaseId });
    expect(messageIds.length).toBe(3);
    expect(await order(mailbox, 3)).toEqual(["a1", "a2", "a3"]);
  });
});

/** A mailbox with a group of which so many are dead. The rest can be delivered four times. */
async function withDead(bodies: readonly string[], count: number) {
  const mailbox = await MailReceiver.open(tenant, { maxDeliveries: 4 });
  await mailbox.drop(bodies, { group: "a" });
  const dead: string[] = [];
  for (let index = 0; index < count; index++) {
    await query(database, "update message set delivery_count = 3 where lease_id = $1 and state = 1", [
      leaseUuid(mailbox.leaseId),
    ]);
    const deliveries = await mailbox.pull();
    expect(await mailbox.nack(deliveries)).toEqual(["DEAD"]);
    dead.push(required(deliveries[0]?.message).messageId);
  }
  return { mailbox, dead };
}

/** The bodies in the order in which they can be handled one after the other. */
async function order(mailbox: MailReceiver, count: number): Promise<string[]> {
  const bodies: string[] = [];
  for (let index = 0; index < count; index++) {
    const deliveries = await mailbox.pull();
    bodies.push(...deliveries.map(bodyOf));
    await mailbox.ack(deliveries);
  }
  return bodies;
}
