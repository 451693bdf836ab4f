import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { MailboxService } from "#gen/leasehold/v1/mailbox_pb.js";
import { claimsOf, endHold, type HandedOff } from "../handoff/handed-off.ts";
import { Redeemer, refusedWith } from "../handoff/redeemer.ts";
import { required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { Dropper, mailboxOf, type OpenMailbox, openMailbox, storedMessages } from "./mail.ts";

const leasehold = await TestLeasehold.start();
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);
const owner = leasehold.client(MailboxService, tenant.account.apiKey);
const anyone = leasehold.client(HandoffService);
const native = leasehold.nativeClient(HandoffService);
const redeemer = new Redeemer(leasehold);
const dropper = new Dropper(leasehold);
const states = { dead: 4, kept: 5 };

describe("a claim of a mailbox", () => {
  test("delivers every message there is as an item, in order, with all that was said of it", async () => {
    const mailbox = await openMailbox(tenant);
    const dropped = [];
    for (const body of ["one", "", "three"]) {
      const drop = { body, contentType: "text/plain", attributes: { of: body } };
      dropped.push({ ...drop, ...(await dropper.drop(mailbox.dropToken, drop)) });
    }
    const { token } = await issue(mailbox);
    const items = await takeItems(token);
    expect(items).toMatchObject(
      dropped.map(({ messageId, body, attributes }) => ({
        name: messageId,
        contentType: "text/plain",
        attributes,
        sizeBytes: BigInt(body.length),
        data: body,
      })),
    );
    expect(items.every(({ createTime }) => createTime !== undefined)).toBe(true);
    expect(await mailboxOf(tenant, mailbox.leaseId)).toMatchObject({ messageCount: 3n });
  });

  test("delivers many messages and large ones, page by page, and goes on from any offset", async () => {
    const mailbox = await openMailbox(tenant, { maxMessageBytes: 1_048_576 }, { sizeBytes: 16_777_216n });
    const bodies = [
      ...Array.from({ length: 600 }, () => randomBytes(50)),
      ...Array.from({ length: 4 }, () => randomBytes(900_000)),
      Buffer.of(),
      ...Array.from({ length: 20 }, () => randomBytes(500)),
    ];
    for (const body of bodies) {
      await dropper.drop(mailbox.dropToken, { body });
    }
    const offsets = [1, 49, 50, 51, 29_999, 30_000, 1_000_000];
    const handedOff = await issue(mailbox, { maxClaims: offsets.length });
    const whole = Buffer.concat(bodies);
    for (const offset of offsets) {
      const { claimId, body } = await redeemer.take("native", handedOff);
      expect(body.equals(whole)).toBe(true);
      const rest = await redeemer.take("connect", { ...handedOff, claimId, offset });
      expect(rest.body.equals(whole.subarray(offset))).toBe(true);
      const nothing = await redeemer.take("native", { ...handedOff, claimId, offset: whole.length });
      expect(nothing.body).toHaveLength(0);
    }
  });

  test("is a snapshot at its start: neither drops nor acknowledgements after it change what it delivers", async () => {
    const mailbox = await openMailbox(tenant);
    await dropAll(mailbox, ["one", "two", "three"]);
    const handedOff = await issue(mailbox, { maxClaims: 3 });
    const first = await redeemer.redeem("native", handedOff);
    await dropAll(mailbox, ["four"]);
    await acknowledge(mailbox, 2);
    const second = await redeemer.redeem("native", handedOff);
    await acknowledge(mailbox, 1);
    await dropAll(mailbox, ["five"]);
    expect(`${await first.readRest()}`).toBe("onetwothree");
    expect(`${await second.readRest()}`).toBe("threefour");
    const resumed = await redeemer.take("native", { ...handedOff, claimId: first.claimId, offset: 4 });
    expect(`${resumed.body}`).toBe("wothree");
    expect(`${(await redeemer.take("native", handedOff)).body}`).toBe("fourfive");
    expect(await mailboxOf(tenant, mailbox.leaseId)).toMatchObject({ messageCount: 2n, usedBytes: 520n });
  });

  test("changes no message's state, dead ones included", async () => {
    const mailbox = await openMailbox(tenant);
    await dropAll(mailbox, ["dead", "alive"]);
    await query(
      database,
      "update message set state = 4, dead_time = drop_time, dead_reason = 1 where message_id = $1",
      [(await storedMessages(database, mailbox.leaseId))[0]?.message_id],
    );
    const before = await storedMessages(database, mailbox.leaseId);
    const { token } = await issue(mailbox);
    expect((await takeItems(token)).map(({ data }) => data)).toEqual(["dead", "alive"]);
    expect(await storedMessages(database, mailbox.leaseId)).toEqual(before);
  });

  test("of an empty mailbox delivers nothing, once", async () => {
    const handedOff = await issue(await openMailbox(tenant));
    expect(await takeItems(handedOff.token)).toEqual([]);
    expect(await refusedWith(redeemer.redeem("native", handedOff))).toMatchObject({ reason: "HANDOFF_BUSY" });
  });

  test("is refused over plain HTTP, which cannot tell items apart, and spends nothing", async () => {
    const mailbox = await openMailbox(tenant);
    await dropAll(mailbox, ["one"]);
    const handedOff = await issue(mailbox);
    expect(await refusedWith(redeemer.redeem("http", handedOff))).toMatchObject({ reason: "WRONG_VARIANT" });
    expect(await takeItems(handedOff.token)).toHaveLength(1);
  });

  test("is cut with the end of the lease, whatever it has still to read", async () => {
    const mailbox = await openMailbox(tenant, { maxMessageBytes: 1_048_576 }, { sizeBytes: 67_108_864n });
    const body = randomBytes(1_000_000);
    for (let message = 0; message < 30; message++) {
      await dropper.drop(mailbox.dropToken, { body });
    }
    const handedOff = await issue(mailbox);
    const claim = await redeemer.redeem("native", handedOff);
    await claim.read(100_000);
    await tenant.age(mailbox.leaseId, 3_601);
    await expect(claim.readRest()).rejects.toThrow();
    expect(await refusedWith(redeemer.redeem("native", handedOff))).toMatchObject({ reason: "LEASE_ENDED" });
  });
});

test("looking at a token shows the first hundred messages, how many there are, and spends nothing", async () => {
  const mailbox = await openMailbox(tenant);
  await Promise.all(Array.from({ length: 130 }, () => dropper.drop(mailbox.dropToken, { body: "12345" })));
  const { token } = await issue(mailbox);
  const inspected = await anyone.inspectHandoff({ claimToken: token });
  expect(inspected).toMatchObject({ itemCount: 130n, contentBytes: 650n });
  expect(inspected.items).toHaveLength(100);
  expect(await takeItems(token)).toHaveLength(130);
});

describe("a message that is acknowledged under a claim", () => {
  test("is kept for it, out of the mailbox's room, until no claim is open, and then swept", async () => {
    const mailbox = await openMailbox(tenant, { maxMessages: 1 });
    await dropAll(mailbox, ["read by a claim"]);
    const handedOff = await issue(mailbox);
    const { claimId } = await redeemer.take("native", handedOff);
    await acknowledge(mailbox, 1);
    expect(await mailboxOf(tenant, mailbox.leaseId)).toMatchObject({ messageCount: 0n, usedBytes: 0n });
    await dropAll(mailbox, ["next"]);
    await leasehold.sweep();
    expect((await storedMessages(database, mailbox.leaseId)).map(({ state }) => state)).toEqual([states.kept, 1]);
    await redeemer.confirm("native", handedOff.token, claimId);
    await leasehold.sweep();
    expect((await storedMessages(database, mailbox.leaseId)).map(({ state }) => state)).toEqual([1]);
  });

  test("is swept in one mailbox although another's claim is still open", async () => {
    const held = await openMailbox(tenant);
    const free = await openMailbox(tenant);
    const claims = new Map<OpenMailbox, HandedOff & { claimId: string }>();
    for (const mailbox of [held, free]) {
      await dropAll(mailbox, ["one", "two"]);
      const handedOff = await issue(mailbox);
      claims.set(mailbox, { ...handedOff, claimId: (await redeemer.redeem("native", handedOff)).claimId });
      await acknowledge(mailbox, 2);
    }
    const over = required(claims.get(free));
    await endHold(database, over.claimId);
    await leasehold.sweep();
    expect(await claimsOf(database, over)).toMatchObject([{ end_time: expect.anything() }]);
    expect(await storedMessages(database, free.leaseId)).toEqual([]);
    expect(await storedMessages(database, held.leaseId)).toHaveLength(2);
  });
});

async function dropAll({ dropToken }: OpenMailbox, bodies: readonly string[]): Promise<void> {
  for (const body of bodies) {
    await dropper.drop(dropToken, { body });
  }
}

/** Receives and acknowledges the oldest so many. */
async function acknowledge({ leaseId }: OpenMailbox, count: number): Promise<void> {
  const { deliveries } = await owner.pullMessages({ leaseId, maxMessages: count });
  expect(deliveries).toHaveLength(count);
  await owner.ackMessages({ leaseId, receipts: deliveries.map(({ receipt }) => receipt) });
}

async function issue({ leaseId }: OpenMailbox, terms: { maxClaims?: number } = {}): Promise<HandedOff> {
  const { handoff, claimToken } = await tenant.handoffs.issueHandoff({ leaseId, ...terms });
  return { leaseId, handoffId: required(handoff).handoffId, token: claimToken };
}

/** Claims and reads every item. */
async function takeItems(token: string) {
  const items = [];
  for await (const { part } of native.claimHandoff({ claimToken: token })) {
    if (part.case === "itemStart") {
      items.push({ ...part.value, data: "" });
    } else if (part.case === "data") {
      const item = required(items.at(-1));
      item.data += Buffer.from(part.value.data).toString();
    }
  }
  return items;
}
