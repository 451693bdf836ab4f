/** The demo's mailbox: three senders that nobody knows fill it, and its owner drains it. */
import type { Connection } from "../src/client/connection.ts";
import { runAgent } from "./agents.ts";
import { require, say } from "./output.ts";

const senders = ["ada", "grace", "edsger"];
const dropsEach = 20;

/** Lets three processes drop, with the drop token alone, and drains what they dropped. */
export async function tellMailbox(connection: Connection): Promise<void> {
  const { lease, dropToken } = await connection.leases.createLease({
    sizeBytes: 1_048_576n,
    duration: { seconds: 3_600n },
    variant: { case: "mailbox", value: {} },
  });
  const leaseId = lease?.leaseId ?? "";
  const dropUrl = `${connection.url}/api/drop/${dropToken}`;
  await Promise.all(senders.map((name) => runAgent("dropper.ts", [dropUrl, name, `${dropsEach}`])));
  say(`  ${senders.length} processes without an account dropped ${dropsEach} messages each, at the same time`);
  const received = await drain(connection, leaseId);
  const expected = senders.flatMap((name) => Array.from({ length: dropsEach }, (_, at) => `${name} ${at + 1}`));
  require(received.toSorted().join() ===
    expected.toSorted().join(), `${received.length} messages were received, each once`);
  require(senders.every((name) => isInOrder(received, name)), "those of each sender in the order they were dropped");
  const { lease: after } = await connection.leases.getLease({ leaseId });
  const details = after?.details.case === "mailbox" ? after.details.value : undefined;
  require(details?.messageCount === 0n &&
    details.usedBytes === 0n, "acknowledged, they are gone, and their room is free");
}

async function drain({ mailboxes }: Connection, leaseId: string): Promise<string[]> {
  const received: string[] = [];
  for (;;) {
    const { deliveries } = await mailboxes.pullMessages({ leaseId, maxMessages: 25 });
    if (deliveries.length === 0) {
      return received;
    }
    received.push(...deliveries.map(({ message }) => Buffer.from(message?.body ?? []).toString()));
    await mailboxes.ackMessages({ leaseId, receipts: deliveries.map(({ receipt }) => receipt) });
  }
}

function isInOrder(received: readonly string[], name: string): boolean {
  const places = received.filter((text) => text.startsWith(`${name} `)).map((text) => Number(text.split(" ")[1]));
  return places.every((place, index) => index === 0 || place > (places[index - 1] ?? 0));
}
