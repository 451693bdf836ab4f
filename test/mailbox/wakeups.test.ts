import { describe, expect, test } from "vitest";
import { callsGathered } from "../support/calls-in-flight.ts";
import { commitsInSixSeconds } from "../support/commits-in-six-seconds.ts";
import { ServerProcess } from "../support/server-process.ts";
import { required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { bodyOf, MailReceiver, type MailStream } from "./mail-receiver.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const { database, databaseUrl } = leasehold;
const { dataDir } = leasehold.core.config;
const tenant = await Tenant.open(leasehold);

test("1,000 idle receivers cost the database as many queries a second as 10 do", { timeout: 60_000 }, async () => {
  // A database of its own, so that nobody else's queries are counted, and few connections: each tells what it has done
  // when it does the next thing.
  const idle = await TestLeasehold.start({ settings: { LEASEHOLD_DATABASE_POOL_SIZE: "2" } });
  const owner = await Tenant.open(idle, 1_000_000_000n);
  const mailboxes = await Promise.all(Array.from({ length: 50 }, () => MailReceiver.open(owner)));
  const streams: MailStream[] = [];
  const open = async (count: number) => {
    while (streams.length < count) {
      const mailbox = required(mailboxes[streams.length % mailboxes.length]);
      // A connection carries 256 streams.
      const stream = mailbox.at(idle).stream({ window: 5 });
      stream.next().catch(() => undefined);
      streams.push(stream);
    }
    await callsGathered(idle, count);
  };
  await open(10);
  const few = await commitsInSixSeconds(database, idle);
  await open(1_000);
  const many = await commitsInSixSeconds(database, idle);
  expect(few).toBeGreaterThan(0);
  expect(many).toBeLessThanOrEqual(few + 10);
  await required(mailboxes[7]).drop(["wakes one"]);
  await Promise.all(streams.map((stream) => stream[Symbol.asyncDispose]()));
});

describe("a receiver that waits", () => {
  test("is reached by a drop at another server process", async () => {
    await using process = await ServerProcess.start({ databaseUrl, dataDir });
    const mailbox = await MailReceiver.open(tenant);
    await using stream = mailbox.at(process).stream();
    const next = stream.next();
    await callsGathered(process, 1);
    await mailbox.drop(["one"]);
    expect(bodyOf(await next)).toBe("one");
    await stream[Symbol.asyncDispose]();
    const pulled = mailbox.pull({ waitSeconds: 20 });
    await callsGathered(leasehold, 1);
    await mailbox.at(process).drop(["two"]);
    expect((await pulled).map(bodyOf)).toEqual(["two"]);
  });

  test("gets a delayed message when its delay is over, and nobody else does", async () => {
    const mailbox = await MailReceiver.open(tenant);
    const quiet = await MailReceiver.open(tenant);
    await using stream = mailbox.at(other).stream();
    await using unconcerned = quiet.at(other).stream();
    const next = stream.next();
    await mailbox.drop(["later"], { delay: { seconds: 1n } });
    expect(await unconcerned.isQuiet(() => next)).toBe(true);
    const { message } = await next;
    const waitedSeconds = await secondsSince(required(message?.dropTime));
    expect(waitedSeconds).toBeGreaterThanOrEqual(1);
  });

  test("gets a message whose hold by a receiver of another server runs out", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["again"]);
    await using stream = mailbox.at(other).stream();
    const [held] = [await stream.next()];
    const pulled = mailbox.pull({ waitSeconds: 20 });
    await callsGathered(leasehold, 1);
    expect(await mailbox.extend([held], 1)).toEqual(["EXTENDED"]);
    // Whoever asks first: the stream has room, too.
    const again = await Promise.race([pulled.then((deliveries) => required(deliveries[0])), stream.next()]);
    expect([bodyOf(again), again.deliveryCount]).toEqual(["again", 2]);
    await mailbox.ack([again]);
    await mailbox.drop(["last"]);
  });

  test("gets a message that is given back at another server", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["again"]);
    const deliveries = await mailbox.pull();
    await using stream = mailbox.at(other).stream();
    const next = stream.next();
    await callsGathered(other, 1);
    await mailbox.nack(deliveries);
    expect(bodyOf(await next)).toBe("again");
  });

  test("gets a message of which no hint reached it", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["silent"]);
    await mailbox.pull();
    const pulled = mailbox.pull({ waitSeconds: 20 });
    await callsGathered(leasehold, 1);
    await mailbox.passTime();
    expect((await pulled).map(bodyOf)).toEqual(["silent"]);
  });

  test("gets the next of a group when the one before is acknowledged at another server", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["first", "second"], { group: "a" });
    const deliveries = await mailbox.pull();
    await using stream = mailbox.at(other).stream();
    const next = stream.next();
    await callsGathered(other, 1);
    await mailbox.ack(deliveries);
    expect(bodyOf(await next)).toBe("second");
  });
});

async function secondsSince(time: { readonly seconds: bigint; readonly nanos: number }): Promise<number> {
  const [row] = await query<{ micros: bigint }>(
    database,
    "select (extract(epoch from clock_timestamp()) * 1000000)::bigint as micros",
  );
  return Number(required(row).micros - time.seconds * 1_000_000n) / 1_000_000 - time.nanos / 1e9;
}
