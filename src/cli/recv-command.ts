/** Owns `leasehold recv`: receives a mailbox's messages, as its owner. */
import type { Command } from "commander";
import type { MessageDelivery } from "#gen/leasehold/v1/mailbox_pb.js";
import { isTransientCallError } from "../client/call-error.ts";
import type { Connection } from "../client/connection.ts";
import { Retries } from "../client/retries.ts";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { type DeliveryOptions, deliveryJson, printDelivery, saveBody } from "./delivery-output.ts";
import { follow } from "./follow.ts";
import { note, noteRetry, printed } from "./output.ts";
import { parseCount, parseDuration } from "./parse-values.ts";
import { reportUndone } from "./receipt-outcomes.ts";

interface ReceiveOptions extends ClientOptions, DeliveryOptions {
  readonly follow?: boolean;
  readonly max?: number;
  readonly wait?: bigint;
  readonly hold?: bigint;
  readonly ack?: boolean;
}

/** The longest that one call waits, in seconds. */
const longestWaitSeconds = 20n;

/** Adds the command. */
export function addReceiveCommand(program: Command): void {
  clientCommand(
    program,
    "recv <lease>",
    "api key",
    "receive a mailbox's messages, each held for the caller for a while",
  )
    .addHelpText("after", "\nWith --follow and --json each message is one JSON document on a line of its own.")
    .option("--follow", "go on until Ctrl-C, over as many connections as it takes")
    .option(
      "--max <count>",
      "how many to take (default: 1); with --follow, how many unacknowledged at once",
      parseCount,
    )
    .option(
      "--wait <duration>",
      "how long to wait for the first, without --follow (default: not at all)",
      parseDuration,
    )
    .option("--hold <duration>", "how long each is held before it is delivered again (default: 30s)", parseDuration)
    .option("--ack", "acknowledge each after it was written: it is destroyed then")
    .option("--dir <folder>", "write the bodies to files there, named after the messages")
    .action(receive);
}

async function receive(leaseId: string, options: ReceiveOptions): Promise<void> {
  const connection = connectAs("api key", options);
  await (options.follow === true ? stream(connection, leaseId, options) : pull(connection, leaseId, options));
}

async function stream(connection: Connection, leaseId: string, options: ReceiveOptions): Promise<void> {
  const request = { leaseId, window: options.max ?? 0, ...holdOf(options) };
  await follow({
    open: (call) => connection.mailboxes.receiveMessages(request, call),
    onRetry: noteRetry(options),
    async each({ deliveries }) {
      for (const delivery of deliveries) {
        const path = await saveBody(options, delivery);
        await (options.json === true
          ? printed(JSON.stringify(deliveryJson(delivery, path)))
          : printDelivery(delivery, path));
      }
      await acknowledge(connection, leaseId, deliveries, options);
    },
  });
}

async function pull(connection: Connection, leaseId: string, options: ReceiveOptions): Promise<void> {
  const deliveries = await pullOnce(connection, leaseId, options);
  const shown: unknown[] = [];
  for (const delivery of deliveries) {
    const path = await saveBody(options, delivery);
    if (options.json === true) {
      shown.push(deliveryJson(delivery, path));
    } else {
      await printDelivery(delivery, path);
    }
  }
  if (options.json === true) {
    await printed(JSON.stringify({ deliveries: shown }, undefined, 2));
  } else if (deliveries.length === 0) {
    note("There is nothing to receive.");
  }
  await acknowledge(connection, leaseId, deliveries, options);
}

/** Waits in calls that are no longer than the server allows. */
async function pullOnce(
  connection: Connection,
  leaseId: string,
  options: ReceiveOptions,
): Promise<readonly MessageDelivery[]> {
  let left = options.wait ?? 0n;
  for (;;) {
    const seconds = left < longestWaitSeconds ? left : longestWaitSeconds;
    const { deliveries } = await connection.mailboxes.pullMessages({
      leaseId,
      maxMessages: options.max ?? 1,
      waitTimeout: { seconds },
      ...holdOf(options),
    });
    left -= seconds;
    if (deliveries.length > 0 || left === 0n) {
      return deliveries;
    }
  }
}

/** What is acknowledged is destroyed, so only what has been written is. Safe to repeat, and repeated. */
async function acknowledge(
  connection: Connection,
  leaseId: string,
  deliveries: readonly MessageDelivery[],
  options: ReceiveOptions,
): Promise<void> {
  if (options.ack !== true || deliveries.length === 0) {
    return;
  }
  const receipts = deliveries.map(({ receipt }) => receipt);
  const { results } = await new Retries(undefined, noteRetry(options)).until(
    () => connection.mailboxes.ackMessages({ leaseId, receipts }),
    isTransientCallError,
  );
  reportUndone(results);
}

function holdOf({ hold }: ReceiveOptions) {
  return hold === undefined ? {} : { visibilityTimeout: { seconds: hold } };
}
