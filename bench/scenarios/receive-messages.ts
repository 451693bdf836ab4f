/** Receiving and acknowledging the messages of one mailbox in hundreds, against pg-boss that fetches and completes jobs. */
import { messagesPerBatch } from "../harness/mailbox-operations.ts";
import { endMailboxes, makeMailboxes } from "../harness/make-mailboxes.ts";
import type { Measure, Round, Scenario } from "../harness/measure.ts";
import type { Measured, Stage } from "../harness/stage.ts";

/** How many messages are received for each second of a run. */
const messagesPerSecond = 10_000;
/** More are there than are received, so that there is a hundred for every caller to the end. */
const spareBatches = 20;
/** Of these numbers of callers the fastest for either. */
const pullCallers = 4;
const fetchCallers = 4;
const dropCallers = 256;
/** How many jobs pg-boss is given at once. */
const jobsPerFill = 1000;
const queue = "receive";

export async function receiveMessages(stage: Stage): Promise<Scenario> {
  const leasehold = await stage.leasehold("main");
  const pgBoss = await stage.pgBoss();
  const batches = (seconds: number) => Math.ceil((seconds * messagesPerSecond) / messagesPerBatch);
  const pull = async (seconds: number): Promise<Round> => {
    const mailboxes = await makeMailboxes(stage, leasehold, 1);
    await stage.call(leasehold, {
      operation: "dropMessage",
      inputs: mailboxes.map(({ dropToken }) => dropToken),
      callers: dropCallers,
      stop: { calls: (batches(seconds) + spareBatches) * messagesPerBatch },
    });
    const inputs = mailboxes.map(({ leaseId }) => leaseId);
    const run = { operation: "pullAndAck", inputs, callers: pullCallers, stop: { calls: batches(seconds) } } as const;
    const measured = await stage.measure(leasehold, "receive", run);
    await endMailboxes(stage, leasehold, mailboxes);
    return new Map([["receive", inMessages(measured)]]);
  };
  const fetch = async (seconds: number): Promise<Round> => {
    const inputs = [queue];
    await stage.callPeer(pgBoss, { operation: "createQueue", inputs, stop: "inputs" });
    const fills = Math.ceil(((batches(seconds) + spareBatches) * messagesPerBatch) / jobsPerFill);
    await stage.callPeer(pgBoss, { operation: "fill", inputs, callers: 1, stop: { calls: fills } });
    const stop = { calls: batches(seconds) };
    const run = { operation: "fetchAndComplete", inputs, callers: fetchCallers, stop } as const;
    const measured = await stage.measurePeer(pgBoss, "fetch", run);
    await stage.callPeer(pgBoss, { operation: "deleteQueue", inputs, stop: "inputs" });
    return new Map([["fetch", inMessages(measured)]]);
  };
  return {
    legs: [fetch, pull],
    figures: [
      {
        title: "Receive and acknowledge 1 KiB in hundreds, against pg-boss fetch and complete",
        unit: "messages/s",
        subject: "receive",
        baseline: "fetch",
        atLeast: 1.2,
        orRateAtLeast: 12_000,
      },
    ],
  };
}

/** Of calls whose outputs say how many messages they moved, the rate in messages. */
function inMessages({ measure, outputs }: Measured): Measure {
  const messages = outputs.reduce((sum, output) => sum + Number(output), 0);
  return { ...measure, rate: (measure.rate * messages) / outputs.length };
}
