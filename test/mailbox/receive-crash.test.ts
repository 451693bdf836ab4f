import { expect, test } from "vitest";
import { lockWaiters } from "../support/lock-wait.ts";
import { ServerProcess } from "../support/server-process.ts";
import { leaseUuid, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { storedMessages } from "./mail.ts";
import { bodyOf, MailReceiver } from "./mail-receiver.ts";

/** The server that goes on. Those that are killed are processes of their own beside it. */
const leasehold = await TestLeasehold.start();
const { database, databaseUrl } = leasehold;
const { dataDir } = leasehold.core.config;
const tenant = await Tenant.open(leasehold);

test("a message whose server is killed before it was acknowledged stays held, and comes again after its hold", async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const mailbox = await MailReceiver.open(tenant);
  await mailbox.drop(["one", "two"]);
  const stream = mailbox.at(doomed).stream({ window: 1 });
  const delivery = await stream.next();
  await doomed.kill();
  expect(await mailbox.pullBodies()).toEqual(["two"]);
  await mailbox.passTime(delivery.message?.messageId);
  expect((await mailbox.pull()).map((again) => [bodyOf(again), again.deliveryCount])).toEqual([["one", 2]]);
});

test("a delivery by a server that was killed is acknowledged at another", async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const mailbox = await MailReceiver.open(tenant);
  await mailbox.drop(["one"]);
  const deliveries = await mailbox.at(doomed).pull();
  await doomed.kill();
  expect(await mailbox.ack(deliveries)).toEqual(["ACKED"]);
});

test("an acknowledgement whose answer died with its server is done once, and a repeat says so", async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const mailbox = await MailReceiver.open(tenant);
  await mailbox.drop(["one"]);
  const deliveries = await mailbox.pull();
  await database.transaction(async (transaction) => {
    await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(mailbox.leaseId)]);
    const lost = mailbox
      .at(doomed)
      .ack(deliveries)
      .catch((error: unknown) => error);
    await lockWaiters(database, 1);
    await doomed.kill();
    expect(await lost).toBeInstanceOf(Error);
  });
  while ((await storedMessages(database, mailbox.leaseId)).length > 0) {
    // The statement that waited is done although nobody is left to hear of it. The next look is a round trip.
  }
  expect(await mailbox.ack(deliveries)).toEqual(["ALREADY_GONE"]);
});

test("what a killed server had taken and not sent comes again, and its place in the group is kept", async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const mailbox = await MailReceiver.open(tenant);
  await mailbox.drop(["a1", "a2"], { group: "a" });
  await database.transaction(async (transaction) => {
    await query(transaction, "lock table message in share row exclusive mode");
    const lost = mailbox
      .at(doomed)
      .pull()
      .catch((error: unknown) => error);
    while ((await tableWaiters()) === 0) {
      // The next look is a round trip.
    }
    await doomed.kill();
    expect(await lost).toBeInstanceOf(Error);
  });
  while ((await storedMessages(database, mailbox.leaseId))[0]?.state === 1) {
    // Taken, although nobody is left to send it to.
  }
  expect(await mailbox.pull()).toEqual([]);
  await mailbox.passTime();
  const deliveries = await mailbox.pull();
  expect(deliveries.map(bodyOf)).toEqual(["a1"]);
  await mailbox.ack(deliveries);
  expect(await mailbox.pullBodies()).toEqual(["a2"]);
});

test("every message is handled in the end, and none after it was acknowledged, while servers are killed", {
  timeout: 60_000,
}, async () => {
  const mailbox = await MailReceiver.open(tenant);
  const total = 300;
  const dropped = await mailbox.drop(Array.from({ length: total }, (_, index) => `${index}`));
  const acked = new Set<string>();
  const holders = new Map<string, string>();
  for (let round = 0; round < 2; round++) {
    await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
    const receivers = Array.from({ length: 6 }, (_, index) =>
      receiveUntilKilled(index < 4 ? mailbox.at(doomed) : mailbox, 40),
    );
    await Promise.race(receivers);
    await doomed.kill();
    await Promise.all(receivers);
    holders.clear();
    await mailbox.passTime();
  }
  await receiveUntilKilled(mailbox, total);
  expect(acked).toEqual(new Set(dropped));
  expect(await storedMessages(database, mailbox.leaseId)).toEqual([]);

  async function receiveUntilKilled(at: MailReceiver, most: number): Promise<void> {
    for (let handled = 0; handled < most; handled++) {
      const deliveries = await at.pull({ maxMessages: 1 }).catch(() => []);
      const [delivery] = deliveries;
      if (delivery === undefined) {
        return;
      }
      const { messageId } = required(delivery.message);
      expect(acked.has(messageId)).toBe(false);
      expect(holders.get(messageId)).toBeUndefined();
      holders.set(messageId, delivery.receipt);
      const outcomes = await at.ack(deliveries).catch(async () => await mailbox.ack(deliveries));
      // The first call may have done it before its server was killed.
      expect(["ACKED", "ALREADY_GONE"]).toContain(outcomes[0]);
      acked.add(messageId);
    }
  }
});

/** How many statements wait for the table of messages. */
async function tableWaiters(): Promise<number> {
  const [row] = await query<{ waiting: bigint }>(
    database,
    "select count(*) as waiting from pg_locks where relation = 'message'::regclass and not granted",
  );
  return Number(row?.waiting);
}
