import fc from "fast-check";
import { expect, test } from "vitest";
import type { MessageDelivery } from "#gen/leasehold/v1/mailbox_pb.js";
import { required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { mailboxOf } from "./mail.ts";
import { MailReceiver } from "./mail-receiver.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const tenant = await Tenant.open(leasehold, 1_000_000_000n);

/** What a receiver does next. A number chooses among what it holds. */
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("pull" as const), count: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("hangUp" as const), count: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("ack" as const), choice: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("nack" as const), choice: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("extend" as const), choice: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("passTime" as const), choice: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("drop" as const), group: fc.constantFrom("", "a", "b") }) },
);
type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

test("no message has two holders while a hold lasts, and none comes after it was acknowledged, whatever receivers do", {
  timeout: 60_000,
}, async () => {
  const scripts = fc.array(fc.array(step, { maxLength: 14 }), { minLength: 2, maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(scripts, async (receivers) => {
      const mailbox = await MailReceiver.open(tenant);
      const history = new History();
      await mailbox.drop(["1", "2", "3"]);
      await mailbox.drop(["a1", "a2"], { group: "a" });
      const servers = [leasehold, other];
      await Promise.all(
        receivers.map((steps, index) =>
          new RandomReceiver(mailbox.at(required(servers[index % 2])), history).run(steps),
        ),
      );
      await drain(mailbox, history);
    }),
    { numRuns: 25 },
  );
});

/**
 * Everything that was dropped and not acknowledged is still delivered once time has passed, and then nothing is left. A
 * call that was broken off may take something until it hears of that.
 */
async function drain(mailbox: MailReceiver, history: History): Promise<void> {
  while ((await mailboxOf(tenant, mailbox.leaseId)).messageCount > 0n) {
    history.hurriedAll();
    await mailbox.passTime();
    const deliveries = await mailbox.pull();
    for (const delivery of deliveries) {
      history.delivered(delivery);
    }
    if (deliveries.length > 0) {
      const outcomes = await mailbox.ack(deliveries);
      for (const [index, delivery] of deliveries.entries()) {
        history.acked(delivery, outcomes[index]);
      }
    }
  }
  expect(await mailboxOf(tenant, mailbox.leaseId)).toMatchObject({ messageCount: 0n, usedBytes: 0n });
}

/** What is known of each message. A hold counts until it may be over: from before the call that ends it. */
class History {
  readonly #holds = new Map<string, string>();
  readonly #gone = new Set<string>();
  readonly #hurried = new Set<string>();

  /**
   * Once time was moved, an answer may be heard after that to a later delivery of its message, or after it was
   * acknowledged. Receipts of one message sort by delivery.
   */
  delivered({ message, receipt }: MessageDelivery): void {
    const { messageId } = required(message);
    const hold = this.#holds.get(messageId);
    if (this.#hurried.has(messageId) && (this.#gone.has(messageId) || (hold !== undefined && hold > receipt))) {
      return;
    }
    expect(this.#gone.has(messageId)).toBe(false);
    expect(hold).toBeUndefined();
    this.#holds.set(messageId, receipt);
  }

  released({ message, receipt }: MessageDelivery): void {
    const { messageId } = required(message);
    if (this.#holds.get(messageId) === receipt) {
      this.#holds.delete(messageId);
    }
  }

  /** The hold of a message is over, whoever has it. */
  hurried(messageId: string): void {
    this.#holds.delete(messageId);
    this.#hurried.add(messageId);
  }

  hurriedAll(): void {
    this.#holds.clear();
  }

  acked({ message }: MessageDelivery, outcome: string | undefined): void {
    if (outcome === "ACKED") {
      const { messageId } = required(message);
      expect(this.#gone.has(messageId)).toBe(false);
      this.#gone.add(messageId);
    }
  }
}

/** One receiver, and what it has been given. */
class RandomReceiver {
  readonly #mailbox: MailReceiver;
  readonly #history: History;
  readonly #mine: MessageDelivery[] = [];

  constructor(mailbox: MailReceiver, history: History) {
    this.#mailbox = mailbox;
    this.#history = history;
  }

  async run(steps: readonly Step[]): Promise<void> {
    for (const next of steps) {
      await this.#do(next);
    }
  }

  async #do(next: Step): Promise<void> {
    switch (next.kind) {
      case "drop":
        await this.#mailbox.drop(["more"], { group: next.group });
        return;
      case "pull":
        this.#keep(await this.#mailbox.pull({ maxMessages: next.count }));
        return;
      case "hangUp":
        return await this.#hangUp(next.count);
      default: {
        const delivery = this.#mine[next.choice % Math.max(1, this.#mine.length)];
        if (delivery !== undefined) {
          await this.#settle(next.kind, delivery);
        }
      }
    }
  }

  async #settle(kind: "ack" | "nack" | "extend" | "passTime", delivery: MessageDelivery): Promise<void> {
    switch (kind) {
      case "ack":
        this.#history.acked(delivery, (await this.#mailbox.ack([delivery]))[0]);
        return;
      case "nack":
        this.#history.released(delivery);
        await this.#mailbox.nack([delivery]);
        return;
      case "extend":
        await this.#mailbox.extend([delivery], 600);
        return;
      case "passTime":
        this.#history.hurried(required(delivery.message).messageId);
        await this.#mailbox.passTime(required(delivery.message).messageId);
        return;
    }
  }

  /** Breaks off a call somewhere on its way: what it took comes back by itself, or is kept. */
  async #hangUp(count: number): Promise<void> {
    const controller = new AbortController();
    const pulled = this.#mailbox.pull({ maxMessages: count, signal: controller.signal });
    setImmediate(() => controller.abort());
    this.#keep(await pulled.catch(() => []));
  }

  #keep(deliveries: readonly MessageDelivery[]): void {
    for (const delivery of deliveries) {
      this.#history.delivered(delivery);
      this.#mine.push(delivery);
    }
  }
}
