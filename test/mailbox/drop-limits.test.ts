import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type Refusal, refusedWith } from "../handoff/redeemer.ts";
import { callsGathered } from "../support/calls-in-flight.ts";
import { leaseUuid, refusalOf, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { type Dropped, Dropper, dropDoors, mailboxOf, openMailbox, storedMessages, takeOut } from "./mail.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);
const dropper = new Dropper(leasehold);
const elsewhere = new Dropper(other);
const mebibyte = 1_048_576;

describe("a mailbox's capacity", () => {
  test("is filled to the last byte, and a body of one more does not fit", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant, {}, { sizeBytes: 2_048n });
    await dropper.drop(dropToken, { body: randomBytes(1_024 - 256) });
    expect(await refusedWith(dropper.drop(dropToken, { body: randomBytes(1_024 - 255) }))).toMatchObject({
      reason: "MAILBOX_FULL",
      metadata: { limit: "size_bytes", limit_value: "2048", value: "1024" },
    });
    await dropper.drop(dropToken, { body: randomBytes(1_024 - 256) });
    expect(await refusedWith(dropper.drop(dropToken))).toMatchObject({ reason: "MAILBOX_FULL" });
    expect(await mailboxOf(tenant, leaseId)).toMatchObject({ usedBytes: 2_048n, messageCount: 2n });
  });

  test.each(dropDoors)("in messages is told over %s with the limit and how many there are", async (door) => {
    const { dropToken } = await openMailbox(tenant, { maxMessages: 3 });
    for (let message = 0; message < 3; message++) {
      await dropper.drop(dropToken, {}, door);
    }
    expect(await refusedWith(dropper.drop(dropToken, {}, door))).toMatchObject({
      reason: "MAILBOX_FULL",
      metadata: { limit: "max_messages", limit_value: "3", value: "3" },
    });
  });

  test("is exact under drops that come together at two servers: as many are kept as fit", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant, {}, { sizeBytes: BigInt(100 * 512) });
    const outcomes = await Promise.allSettled(
      Array.from({ length: 300 }, (_, index) =>
        (index % 2 === 0 ? dropper : elsewhere).drop(dropToken, { body: randomBytes(256) }),
      ),
    );
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(100);
    expect(reasonsOf(outcomes)).toEqual(new Set(["MAILBOX_FULL"]));
    expect(await mailboxOf(tenant, leaseId)).toMatchObject({ usedBytes: 51_200n, messageCount: 100n });
  });

  test("that a large message does not fit takes smaller ones that came behind it in the same batch", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant, {}, { sizeBytes: 4_096n });
    await dropper.drop(dropToken);
    const drops = await database.transaction(async (transaction) => {
      await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(leaseId)]);
      const bodies = [3_000, 3_000, 20, 3_900, 20];
      const waiting = bodies.map((bytes) => dropper.drop(dropToken, { body: randomBytes(bytes) }));
      await callsGathered(leasehold, bodies.length);
      return { outcomes: Promise.allSettled(waiting) };
    });
    const outcomes = await drops.outcomes;
    expect(outcomes.map(({ status }) => status).toSorted()).toEqual([
      "fulfilled",
      "fulfilled",
      "fulfilled",
      "rejected",
      "rejected",
    ]);
    expect((await storedMessages(database, leaseId)).map(({ body_bytes }) => body_bytes).toSorted()).toEqual(
      [0, 20, 20, 3_000].toSorted(),
    );
  });

  test("is never exceeded and never lost while messages go out as others come in", async () => {
    const sizeBytes = 20 * 512;
    const { leaseId, dropToken } = await openMailbox(tenant, {}, { sizeBytes: BigInt(sizeBytes) });
    const kept = new Map<string, Dropped>();
    const removed = new Set<string>();
    const fill = async (by: Dropper) => {
      for (let drop = 0; drop < 60; drop++) {
        const dropped = await by.drop(dropToken, { body: randomBytes(256) }).catch((error: Refusal) => error);
        if ("messageId" in dropped) {
          kept.set(dropped.messageId, dropped);
        } else {
          expect(dropped.reason).toBe("MAILBOX_FULL");
        }
      }
    };
    const empty = async () => {
      for (let out = 0; out < 60; out++) {
        const candidate = [...kept.keys()].find((messageId) => !removed.has(messageId));
        if (candidate === undefined) {
          await storedMessages(database, leaseId);
        } else {
          removed.add(candidate);
          await takeOut(database, leaseId, candidate);
        }
        const { usedBytes } = await mailboxOf(tenant, leaseId);
        expect(usedBytes).toBeLessThanOrEqual(BigInt(sizeBytes));
      }
    };
    await Promise.all([fill(dropper), fill(elsewhere), fill(dropper), empty()]);
    const stored = await storedMessages(database, leaseId);
    expect(stored).toHaveLength(kept.size - removed.size);
    expect(await mailboxOf(tenant, leaseId)).toMatchObject({
      messageCount: BigInt(stored.length),
      usedBytes: BigInt(stored.length * 512),
    });
  });
});

describe("a body", () => {
  test.each(dropDoors)("over the mailbox's own limit is refused over %s with the limit", async (door) => {
    const { leaseId, dropToken } = await openMailbox(tenant, { maxMessageBytes: 1_000 });
    await dropper.drop(dropToken, { body: randomBytes(1_000) }, door);
    expect(await refusedWith(dropper.drop(dropToken, { body: randomBytes(1_001) }, door))).toMatchObject({
      reason: "BODY_TOO_LARGE",
      metadata: { limit: "max_message_bytes", limit_bytes: "1000" },
    });
    expect(await storedMessages(database, leaseId)).toHaveLength(1);
  });

  test.each(dropDoors)(
    "of the largest size there is comes whole over %s, also when many come at once",
    async (door) => {
      const { leaseId, dropToken } = await openMailbox(
        tenant,
        { maxMessageBytes: mebibyte },
        { sizeBytes: BigInt(20 * mebibyte) },
      );
      await Promise.all(
        Array.from({ length: 12 }, () => dropper.drop(dropToken, { body: randomBytes(mebibyte) }, door)),
      );
      expect(await mailboxOf(tenant, leaseId)).toMatchObject({ messageCount: 12n });
    },
  );

  test("over HTTP is read no further than a message may be long", async () => {
    const { dropToken } = await openMailbox(tenant);
    const refused = await fetch(dropper.dropUrl(dropToken), {
      method: "POST",
      body: Buffer.alloc(2 * mebibyte),
      // The rest is not read, so nothing can follow it.
      headers: { connection: "close" },
    }).then(async (response) => ({ ...(await refusalOf(response)), status: response.status }));
    expect(refused).toMatchObject({ status: 413, reason: "BODY_TOO_LARGE", metadata: { limit_bytes: "262144" } });
  });

  test("too large for a mailbox that has ended is told that it has ended", async () => {
    const { leaseId, dropToken } = await openMailbox(tenant, { maxMessageBytes: 100 });
    await dropper.drop(dropToken);
    await tenant.age(leaseId, 3_601);
    expect(await refusedWith(dropper.drop(dropToken, { body: randomBytes(101) }))).toMatchObject({
      reason: "LEASE_ENDED",
    });
  });
});

describe("what a dropper says beside the body", () => {
  test.each([
    ["content_type", { contentType: "no media type" }],
    ["attributes", { attributes: { UPPER: "x" } }],
    ["attributes", { attributes: { a: "x".repeat(257) } }],
    ["group", { group: "x".repeat(129) }],
    ["delay", { delay: { seconds: 604_801n } }],
    ["request_id", { requestId: "not a UUID" }],
  ])("is held to its rule: %s", async (field, drop) => {
    const { leaseId, dropToken } = await openMailbox(tenant);
    for (const door of dropDoors) {
      // Header names have no case, so an upper-case attribute is a lower-case one there.
      if (door !== "http" || !("attributes" in drop && "UPPER" in drop.attributes)) {
        const refusal = await refusedWith(dropper.drop(dropToken, drop, door));
        expect(refusal).toMatchObject({ reason: "INVALID_FIELD" });
        expect(refusal.metadata.field?.startsWith(field)).toBe(true);
      }
    }
    expect(await storedMessages(database, leaseId)).toHaveLength(0);
  });
});

test("a page of another origin may drop with attributes of any name", async () => {
  const { dropToken } = await openMailbox(tenant);
  const response = await fetch(dropper.dropUrl(dropToken), {
    method: "OPTIONS",
    headers: {
      origin: "https://elsewhere.example",
      "access-control-request-method": "POST",
      "access-control-request-headers": "leasehold-group, leasehold-attribute-kind, x-other",
    },
  });
  const allowed = response.headers.get("access-control-allow-headers")?.toLowerCase().split(", ");
  expect(allowed).toEqual(expect.arrayContaining(["leasehold-group", "leasehold-delay", "leasehold-attribute-kind"]));
  expect(allowed).not.toContain("x-other");
});

function reasonsOf(outcomes: readonly PromiseSettledResult<unknown>[]): Set<string> {
  const refusals = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason as Refusal] : []));
  return new Set(refusals.map(({ reason }) => reason));
}
