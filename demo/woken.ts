/** A worker that waits at a mailbox, and knows nothing of the schedule that wakes it. */
import { connect } from "../src/client/connection.ts";

const [url = "", apiKey = "", leaseId = "", count = "0"] = process.argv.slice(2);
const { mailboxes } = connect({ url, bearer: apiKey });

const slots: string[] = [];
while (slots.length < Number(count)) {
  const { deliveries } = await mailboxes.pullMessages({ leaseId, maxMessages: 1, waitTimeout: { seconds: 10n } });
  if (deliveries.length === 0) {
    throw new Error("nothing woke the worker for ten seconds");
  }
  for (const { message, receipt } of deliveries) {
    const slot = (message?.attributes["cron-slot-time"] ?? "").replace(/\.\d+Z$/, "Z");
    process.stdout.write(`  woken for ${slot}: ${Buffer.from(message?.body ?? []).toString()}\n`);
    slots.push(slot);
    await mailboxes.ackMessages({ leaseId, receipts: [receipt] });
  }
}
process.send?.(slots);
process.disconnect?.();
