import { expect, test } from "vitest";
import type { PackedDelivery } from "../../src/mailbox/delivery-packing.ts";
import { type Received, ReceiveLane, type Receiver } from "../../src/mailbox/receive-lane.ts";
import type { Asker, FoundMailbox, Taken } from "../../src/mailbox/receive-take.ts";

const mostAtOnce = 1_000;
const mailbox = {} as FoundMailbox;

/** A mailbox of so many messages, of which a statement takes no more than a real one does. */
class Messages {
  left = 0;

  take(askers: readonly Asker[]): Taken {
    const bound = Math.min(this.left, mostAtOnce);
    let dealt = 0;
    const shares = askers.map(({ wanted }) => {
      const count = Math.min(wanted, bound - dealt);
      dealt += count;
      const deliveries: PackedDelivery[] = Array(count).fill({});
      return { mailbox, deliveries, isPassedOver: count === 0 && bound === mostAtOnce };
    });
    this.left -= dealt;
    return { shares, mayHaveMore: dealt === mostAtOnce, hasLeft: false, hasExhausted: false, nextVisibleMs: undefined };
  }
}

test("whoever does not wait is answered, also if those who do took what was there and are more than a statement serves", async () => {
  const messages = new Messages();
  const lane = new ReceiveLane({
    take: async (askers) => messages.take(askers),
    bury: async () => false,
    takeBack: () => undefined,
    changed: () => undefined,
    listen: () => () => undefined,
    wakeLater: () => () => undefined,
    onEmpty: () => undefined,
  });
  const receive = async (wanted: number, waitMs?: number): Promise<Received> => {
    const begun = Promise.withResolvers<void>();
    const receiver: Receiver = {
      caller: {} as Receiver["caller"],
      holdMicros: 1n,
      wanted: () => wanted,
      signal: new AbortController().signal,
      waitMs,
      onWait: () => begun.resolve(),
    };
    const received = lane.receive(receiver);
    if (waitMs === undefined) {
      await begun.promise;
    }
    return await received;
  };
  const waiting = Array.from({ length: 300 }, () => receive(100));
  expect((await receive(1, 0)).deliveries).toEqual([]);
  messages.left = mostAtOnce;
  expect((await receive(1, 0)).deliveries).toEqual([]);
  expect((await Promise.all(waiting.slice(0, 10))).map(({ deliveries }) => deliveries.length)).toEqual(
    Array(10).fill(100),
  );
});
