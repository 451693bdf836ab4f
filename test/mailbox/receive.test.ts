import { describe, expect, test } from "vitest";
import { ApiKey_Scope } from "#gen/leasehold/v1/account_pb.js";
import { refusedWith } from "../handoff/redeemer.ts";
import { callsGathered, noCallInFlight } from "../support/calls-in-flight.ts";
import { doors, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { bodyOf, MailReceiver } from "./mail-receiver.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
/** Whose calls have a second, and whose peers may stall for one. */
const hasty = await TestLeasehold.start({
  beside: leasehold,
  settings: { LEASEHOLD_CALL_DEADLINE_SECONDS: "1", LEASEHOLD_STALL_SECONDS: "1" },
});
const tenant = await Tenant.open(leasehold);

describe("a stream", () => {
  test.each(doors)("over %s delivers what is there and then what comes, in the order of dropping", async (door) => {
    const mailbox = (await MailReceiver.open(tenant)).at(leasehold, door);
    await mailbox.drop(["one", "two"]);
    await using stream = mailbox.stream();
    expect((await stream.take(2)).map(bodyOf)).toEqual(["one", "two"]);
    await mailbox.drop(["three"]);
    await mailbox.at(other).drop(["four"]);
    const later = await stream.take(2);
    expect(later.map(bodyOf)).toEqual(["three", "four"]);
    expect(await mailbox.ack(later)).toEqual(["ACKED", "ACKED"]);
  });

  test.each(doors)(
    "over %s that waits for messages outlives the deadline of calls and the stall time",
    async (door) => {
      const mailbox = (await MailReceiver.open(tenant)).at(hasty, door);
      await using stream = mailbox.stream();
      const first = stream.next();
      // Longer than both by far: the pull is a call to a server without haste.
      await mailbox.at(leasehold).pull({ waitSeconds: 3 });
      await mailbox.drop(["late"]);
      expect(bodyOf(await first)).toBe("late");
    },
  );

  test("sends no more than its window while nothing is acknowledged, and goes on with each that is", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one", "two", "three", "four", "five"]);
    await using stream = mailbox.stream({ window: 2 });
    const [one, two] = await stream.take(2);
    expect(await stream.isQuiet(() => mailbox.pull({ maxMessages: 1, waitSeconds: 0 }))).toBe(true);
    expect(await mailbox.ack([required(one)])).toEqual(["ACKED"]);
    expect(bodyOf(await stream.next())).toBe("four");
    expect(await mailbox.nack([required(two)])).toEqual(["NACKED"]);
    expect(bodyOf(await stream.next())).toBe("two");
  });

  test("whose deliveries are acknowledged at another server goes on", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one", "two", "three", "four"]);
    await using stream = mailbox.stream({ window: 2 });
    const first = await stream.take(2);
    expect(await mailbox.at(other).ack(first)).toEqual(["ACKED", "ACKED"]);
    expect((await stream.take(2)).map(bodyOf)).toEqual(["three", "four"]);
  });

  test("whose deliveries run out unanswered gets them again", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one"]);
    await using stream = mailbox.stream({ window: 1, visibilityTimeout: { seconds: 1n } });
    const [first, second] = await stream.take(2);
    expect([first, second].map((delivery) => [bodyOf(required(delivery)), delivery?.deliveryCount])).toEqual([
      ["one", 1],
      ["one", 2],
    ]);
    expect(await mailbox.ack([required(first), required(second)])).toEqual(["STALE", "ACKED"]);
  });

  test.each(doors)(
    "over %s that hangs up leaves what it was sent to its hold, and takes nothing more",
    async (door) => {
      const mailbox = (await MailReceiver.open(tenant)).at(leasehold, door);
      await mailbox.drop(["one"]);
      const stream = mailbox.stream();
      const delivery = await stream.next();
      await stream[Symbol.asyncDispose]();
      await noCallInFlight(leasehold);
      await mailbox.drop(["two"]);
      expect(await mailbox.pullBodies()).toEqual(["two"]);
      expect(await mailbox.ack([delivery])).toEqual(["ACKED"]);
    },
  );

  test("shares a mailbox with others: each message is held by one of them", async () => {
    const mailbox = await MailReceiver.open(tenant);
    const streams = [leasehold, other, leasehold, other].map((server) => mailbox.at(server).stream({ window: 5 }));
    const taken = streams.map((stream) => stream.take(5));
    await mailbox.drop(Array.from({ length: 20 }, (_, index) => `${index}`));
    const bodies = (await Promise.all(taken)).flat().map(bodyOf);
    expect(bodies.map(Number).sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, index) => index));
    for (const stream of streams) {
      await stream[Symbol.asyncDispose]();
    }
  });
});

describe("a stream is cut", () => {
  test("when its mailbox is deleted", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await using stream = mailbox.stream();
    const refused = refusedWith(stream.next());
    await callsGathered(leasehold, 1);
    await tenant.leases.deleteLease({ leaseId: mailbox.leaseId });
    expect(await refused).toMatchObject({ reason: "LEASE_ENDED" });
  });

  test("when its lease is over, although no sweeper has been by", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one"]);
    await using stream = mailbox.stream({ window: 1 });
    await stream.next();
    const refused = refusedWith(stream.next());
    await tenant.age(mailbox.leaseId, 3_600);
    expect(await refused).toMatchObject({ reason: "LEASE_ENDED" });
    await using late = mailbox.stream();
    expect(await refusedWith(late.next())).toMatchObject({ reason: "LEASE_ENDED" });
  });

  test("when its key is revoked", async () => {
    const mailbox = await MailReceiver.open(tenant);
    const { key, apiKey } = await tenant.accounts.createApiKey({ name: "short", scopes: [ApiKey_Scope.WRITE] });
    await using stream = mailbox.by(tenant.by(apiKey)).stream();
    const refused = refusedWith(stream.next());
    await callsGathered(leasehold, 1);
    await tenant.accounts.revokeApiKey({ keyId: key?.keyId ?? "" });
    expect(await refused).toMatchObject({ reason: "CREDENTIAL_INVALID" });
  });

  test("when its server drains, which does not wait for it", async () => {
    const drained = await TestLeasehold.start({ beside: leasehold });
    const mailbox = await MailReceiver.open(tenant);
    await using stream = mailbox.at(drained).stream();
    const refused = refusedWith(stream.next());
    await callsGathered(drained, 1);
    await drained.server.drain(600_000);
    expect(await refused).toMatchObject({ reason: "DRAINING" });
  });

  test("never begins for a key without the scope", async () => {
    const mailbox = await MailReceiver.open(tenant);
    const { apiKey } = await tenant.accounts.createApiKey({ name: "r", scopes: [ApiKey_Scope.READ] });
    await using stream = mailbox.by(tenant.by(apiKey)).stream();
    expect(await refusedWith(stream.next())).toMatchObject({ reason: "SCOPE_MISSING" });
  });
});
