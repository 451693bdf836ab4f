/** Issue 3: what a mailbox holds is counted, and every group can go on, whatever becomes of its messages on their way. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { MessageDelivery } from "#gen/leasehold/v1/mailbox_pb.js";
import { leaseUuid, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { mailboxOf, storedMessages } from "./mail.ts";
import { MailReceiver } from "./mail-receiver.ts";

const leasehold = await TestLeasehold.start();
const { database } = leasehold;
const tenant = await Tenant.open(leasehold, 1_000_000_000n);
const states = { ready: 1, waiting: 2, blocked: 3, kept: 5 };

const actions = [
  "drop",
  "pull",
  "ack",
  "nack",
  "delay",
  "timePasses",
  "redrive",
  "claim",
  "claimEnds",
  "tidy",
] as const;
const step = fc.record({ action: fc.constantFrom(...actions), choice: fc.nat({ max: 5 }) });
type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

test("after every step the mailbox holds what is stored in it, and each group has one message that comes next", {
  timeout: 120_000,
}, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60 }), async (steps) => {
      const walk = await Walk.begin();
      for (const next of steps) {
        await walk.take(next);
        await expectSound(walk.mailbox);
      }
    }),
    { numRuns: 40 },
  );
});

/** One mailbox, and what was received from it. */
class Walk {
  readonly mailbox: MailReceiver;
  readonly #received: MessageDelivery[] = [];
  #drops = 0;

  private constructor(mailbox: MailReceiver) {
    this.mailbox = mailbox;
  }

  /** Two messages of a group and one of none are there. */
  static async begin(): Promise<Walk> {
    const walk = new Walk(await MailReceiver.open(tenant, { maxDeliveries: 2 }));
    await tenant.handoffs.issueHandoff({ leaseId: walk.mailbox.leaseId, maxClaims: 5 });
    for (const choice of [1, 1, 0]) {
      await walk.take({ action: "drop", choice });
    }
    return walk;
  }

  async take({ action, choice }: Step): Promise<void> {
    const { mailbox } = this;
    switch (action) {
      case "drop":
        this.#drops += 1;
        await mailbox.drop(["x".repeat(this.#drops)], { group: required(["", "a", "b"][choice % 3]) });
        return;
      case "pull":
        this.#received.push(...(await mailbox.pull({ maxMessages: choice + 1 })));
        return;
      case "ack":
        await this.#settle(choice, (deliveries) => mailbox.ack(deliveries));
        return;
      case "nack":
      case "delay":
        await this.#settle(choice, (deliveries) => mailbox.nack(deliveries, action === "delay" ? 600 : 0));
        return;
      case "timePasses":
        return await mailbox.passTime();
      case "redrive":
        await mailbox.mail.redriveMessages({ leaseId: mailbox.leaseId });
        return;
      case "claim":
      case "claimEnds":
        await query(database, "update handoff set open_claims = $2 where lease_id = $1", [
          leaseUuid(mailbox.leaseId),
          action === "claim" ? 1 : 0,
        ]);
        return;
      case "tidy":
        await leasehold.core.variants.named("mailbox").tidy?.(1_000);
    }
  }

  /** Settles one delivery, which may be stale. */
  async #settle(choice: number, by: (deliveries: readonly MessageDelivery[]) => Promise<unknown>): Promise<void> {
    const settled = this.#received.splice(choice % Math.max(1, this.#received.length), 1);
    await (settled.length > 0 && by(settled));
  }
}

async function expectSound(mailbox: MailReceiver): Promise<void> {
  const stored = await storedMessages(database, mailbox.leaseId);
  const counted = stored.filter(({ state }) => state !== states.kept);
  const usedBytes = counted.reduce((sum, { body_bytes }) => sum + body_bytes + 256, 0);
  expect(await mailboxOf(tenant, mailbox.leaseId)).toMatchObject({
    messageCount: BigInt(counted.length),
    usedBytes: BigInt(usedBytes),
  });
  const live = stored.filter(({ state }) => [states.ready, states.waiting, states.blocked].includes(state));
  const groups = Map.groupBy(live, ({ group_hash }) => group_hash?.toString("hex"));
  groups.delete(undefined);
  for (const messages of groups.values()) {
    expect(messages.filter(({ state }) => state !== states.blocked)).toHaveLength(1);
  }
}
