import { describe, expect, test } from "vitest";
import { ApiKey_Scope } from "#gen/leasehold/v1/account_pb.js";
import { refusedWith } from "../handoff/redeemer.ts";
import { callsGathered, noCallInFlight } from "../support/calls-in-flight.ts";
import { doors, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { storedMessages } from "./mail.ts";
import { bodyOf, MailReceiver } from "./mail-receiver.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);

describe("a pull", () => {
  test.each(doors)("over %s takes messages in the order of dropping, with all that was said of them", async (door) => {
    const mailbox = (await MailReceiver.open(tenant)).at(leasehold, door);
    const [messageId] = await mailbox.drop(["one"], { contentType: "text/plain", attributes: { from: "a" } });
    await mailbox.drop(["two", "three"]);
    const deliveries = await mailbox.pull({ maxMessages: 2 });
    expect(deliveries.map(bodyOf)).toEqual(["one", "two"]);
    expect(deliveries[0]).toMatchObject({
      message: { messageId, sequence: 1n, contentType: "text/plain", attributes: { from: "a" } },
      deliveryCount: 1,
    });
    expect(deliveries[0]?.receipt).toMatch(/^rcp_[0-9a-hjkmnp-tv-z]{25}$/);
    const { message, holdExpireTime } = deliveries[0] ?? {};
    expect(Number(holdExpireTime?.seconds) - Number(message?.dropTime?.seconds)).toBeGreaterThanOrEqual(29);
    expect(await mailbox.pullBodies()).toEqual(["three"]);
    expect(await mailbox.pull()).toEqual([]);
  });

  test("takes one message unless more are asked for", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one", "two"]);
    expect((await mailbox.mail.pullMessages({ leaseId: mailbox.leaseId })).deliveries.map(bodyOf)).toEqual(["one"]);
  });

  test("waits for the first message, and is answered when it is dropped at another server", async () => {
    const mailbox = await MailReceiver.open(tenant);
    const pulled = mailbox.pull({ waitSeconds: 20 });
    await callsGathered(leasehold, 1);
    await mailbox.at(other).drop(["late"]);
    expect((await pulled).map(bodyOf)).toEqual(["late"]);
  });

  test("answers empty when its time is over", async () => {
    const mailbox = await MailReceiver.open(tenant);
    expect(await mailbox.pull({ waitSeconds: 1 })).toEqual([]);
  });

  test("that hangs up while it waits takes nothing", async () => {
    const mailbox = await MailReceiver.open(tenant);
    const controller = new AbortController();
    const pulled = mailbox.pull({ waitSeconds: 20, signal: controller.signal });
    await callsGathered(leasehold, 1);
    controller.abort();
    await expect(pulled).rejects.toThrow();
    await noCallInFlight(leasehold);
    await mailbox.drop(["kept"]);
    expect(await mailbox.pull()).toMatchObject([{ deliveryCount: 1 }]);
  });

  test("that hangs up while its statement is under way has its messages given back, uncounted", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one", "two"]);
    const controller = new AbortController();
    await whileNothingIsTaken(async () => {
      const pulled = mailbox.pull({ signal: controller.signal });
      await callsGathered(leasehold, 1);
      await tableWaiters(1);
      controller.abort();
      await expect(pulled).rejects.toThrow();
      // The server knows by then, and the statement goes on without the call.
      await noCallInFlight(leasehold);
    });
    const deliveries = await mailbox.at(other).pull({ waitSeconds: 20, maxMessages: 2 });
    expect(deliveries.map((delivery) => [bodyOf(delivery), delivery.deliveryCount])).toEqual([
      ["one", 1],
      ["two", 1],
    ]);
  });

  test("takes no more than fits a message of an RPC, and at least one message", async () => {
    const small = await TestLeasehold.start({
      beside: leasehold,
      settings: { LEASEHOLD_MAX_MESSAGE_BYTES: "131072" },
    });
    const mailbox = await MailReceiver.open(tenant, {}, { sizeBytes: 10_000_000n });
    const body = "x".repeat(50_000);
    await mailbox.drop([body, body, body, "small", "y".repeat(200_000)]);
    const few = mailbox.at(small);
    expect((await few.pull()).length).toBe(2);
    expect((await few.pull()).length).toBe(2);
    expect((await few.pull()).map((delivery) => bodyOf(delivery).length)).toEqual([200_000]);
  });

  test("is not answered empty while there are messages for it, however many ask at once", async () => {
    const mailbox = await MailReceiver.open(tenant, {}, { sizeBytes: 10_000_000n });
    await Promise.all(Array.from({ length: 1_700 }, (_, index) => mailbox.drop([`${index}`])));
    const all = await whileNothingIsTaken(async () => {
      const first = mailbox.pull({ maxMessages: 100 });
      await tableWaiters(1);
      const others = Array.from({ length: 16 }, () => mailbox.pull({ maxMessages: 100 }));
      await callsGathered(leasehold, 17);
      return [first, ...others];
    });
    const bodies = (await Promise.all(all)).map((deliveries) => deliveries.map(bodyOf));
    expect(bodies.map(({ length }) => length)).toEqual(Array(17).fill(100));
    expect(new Set(bodies.flat()).size).toBe(1_700);
    expect(await mailbox.pull()).toEqual([]);
  });

  test("is not answered empty because those before it filled a message of an RPC", async () => {
    const small = await TestLeasehold.start({
      beside: leasehold,
      settings: { LEASEHOLD_MAX_MESSAGE_BYTES: "131072" },
    });
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(Array.from({ length: 8 }, (_, index) => `${index}`.repeat(50_000)));
    const few = mailbox.at(small);
    const all = await whileNothingIsTaken(async () => {
      const first = few.pull({ maxMessages: 2 });
      await tableWaiters(1);
      const others = Array.from({ length: 3 }, () => few.pull({ maxMessages: 2 }));
      await callsGathered(small, 4);
      return [first, ...others];
    });
    expect((await Promise.all(all)).map(({ length }) => length)).toEqual([2, 2, 2, 2]);
  });

  test("takes the next of a group at once when the one before has just died", async () => {
    const mailbox = await MailReceiver.open(tenant, { maxDeliveries: 1 });
    await mailbox.drop(["first", "second"], { group: "a" });
    await mailbox.pull();
    await mailbox.passTime();
    expect(await mailbox.pullBodies()).toEqual(["second"]);
  });

  test("holds each message for as long as its own caller asked, when many are served together", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["a", "b", "c", "d", "e", "f"]);
    const asked = [10, 1_000, 40_000, 20_000];
    const all = await Promise.all(asked.map((holdSeconds) => mailbox.pull({ maxMessages: 2, holdSeconds })));
    for (const [index, deliveries] of all.entries()) {
      for (const { holdExpireTime, message } of deliveries) {
        const seconds = Number(holdExpireTime?.seconds) - Number(message?.dropTime?.seconds);
        const lease = 3_600;
        expect(Math.abs(seconds - Math.min(asked[index] ?? 0, lease))).toBeLessThanOrEqual(5);
      }
    }
    expect(all.flat().map(bodyOf).sort()).toEqual(["a", "b", "c", "d", "e", "f"]);
  });
});

describe("who may pull", () => {
  test("is only the owner: to others the mailbox does not exist", async () => {
    const mailbox = await MailReceiver.open(tenant);
    const stranger = await Tenant.open(leasehold);
    expect(await refusedWith(mailbox.by(stranger).pull())).toMatchObject({ reason: "NOT_FOUND" });
    expect(await refusedWith(mailbox.by(stranger).ack([{ receipt: "rcp_1" }]))).toMatchObject({ reason: "NOT_FOUND" });
  });

  test("is no key without the scope, and no revoked one, while others of the batch are served", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one", "two"]);
    const reader = await tenant.accounts.createApiKey({ name: "r", scopes: [ApiKey_Scope.READ] });
    const revoked = await tenant.accounts.createApiKey({ name: "w", scopes: [ApiKey_Scope.WRITE] });
    const late = mailbox.by(tenant.by(revoked.apiKey));
    expect((await late.pull({ maxMessages: 1 })).length).toBe(1);
    await tenant.accounts.revokeApiKey({ keyId: revoked.key?.keyId ?? "" });
    const outcomes = await Promise.allSettled([
      mailbox.by(tenant.by(reader.apiKey)).pull({ maxMessages: 1 }),
      late.pull({ maxMessages: 1 }),
      mailbox.pull({ maxMessages: 1 }),
    ]);
    expect(outcomes).toMatchObject([
      { status: "rejected", reason: { reason: "SCOPE_MISSING" } },
      { status: "rejected", reason: { reason: "CREDENTIAL_INVALID" } },
      { status: "fulfilled", value: [{ deliveryCount: 1 }] },
    ]);
  });

  test("is nobody once the lease is over, although no sweeper has been by", async () => {
    const mailbox = await MailReceiver.open(tenant);
    await mailbox.drop(["one"]);
    const [delivery] = await mailbox.pull();
    const waiting = refusedWith(mailbox.pull({ waitSeconds: 20 }));
    await callsGathered(leasehold, 1);
    await tenant.age(mailbox.leaseId, 3_600);
    expect(await refusedWith(mailbox.pull())).toMatchObject({ reason: "LEASE_ENDED" });
    expect(await refusedWith(mailbox.ack(delivery === undefined ? [] : [delivery]))).toMatchObject({
      reason: "LEASE_ENDED",
    });
    expect(await waiting).toMatchObject({ reason: "LEASE_ENDED" });
    expect((await storedMessages(database, mailbox.leaseId)).length).toBe(1);
  });

  test("finds no messages in a lease of another variant", async () => {
    const { leaseId } = await tenant.create();
    const mailbox = new MailReceiver(tenant, { leaseId, dropToken: "" }, leasehold, "native");
    expect(await refusedWith(mailbox.pull())).toMatchObject({ reason: "WRONG_VARIANT" });
    expect(await refusedWith(mailbox.ack([{ receipt: "rcp_1" }]))).toMatchObject({ reason: "WRONG_VARIANT" });
  });
});

/** Runs work while nothing can be taken from any mailbox, and gives what it left under way. */
async function whileNothingIsTaken<Value>(work: () => Promise<Value>): Promise<Value> {
  return await database.transaction(async (transaction) => {
    // Taking waits for no row: only this holds it up.
    await query(transaction, "lock table message in share row exclusive mode");
    return await work();
  });
}

/** Returns once so many statements wait for the table, by the server's own lock table. */
async function tableWaiters(count: number): Promise<void> {
  for (;;) {
    const [row] = await query<{ waiting: bigint }>(
      database,
      "select count(*) as waiting from pg_locks where relation = 'message'::regclass and not granted",
    );
    if (row !== undefined && row.waiting >= BigInt(count)) {
      return;
    }
  }
}
