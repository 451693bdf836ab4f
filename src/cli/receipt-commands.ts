/** Owns `leasehold ack`, `nack` and `extend`: what becomes of messages that were received. */
import type { Command } from "commander";
import {
  AckMessagesResponseSchema,
  ExtendMessagesResponseSchema,
  NackMessagesResponseSchema,
  type ReceiptResult,
} from "#gen/leasehold/v1/mailbox_pb.js";
import { isTransientCallError } from "../client/call-error.ts";
import { Retries } from "../client/retries.ts";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { note, noteRetry, show } from "./output.ts";
import { parseDuration } from "./parse-values.ts";
import { printOutcomes, requireSettled } from "./receipt-outcomes.ts";
import { showTime } from "./show-values.ts";

/** How many receipts one call takes. */
const receiptsPerCall = 1_000;

/** Adds the commands. */
export function addReceiptCommands(program: Command): void {
  clientCommand(program, "ack <lease> <receipt...>", "api key", "acknowledge messages: they are destroyed").action(ack);

  clientCommand(program, "nack <lease> <receipt...>", "api key", "give messages back, to be delivered again")
    .option("--delay <duration>", "how long they wait before that (default: not at all)", parseDuration)
    .action(nack);

  clientCommand(program, "extend <lease> <receipt...>", "api key", "hold messages for longer")
    .requiredOption("--hold <duration>", "how long from now", parseDuration)
    .action(extend);
}

async function ack(leaseId: string, receipts: readonly string[], options: ClientOptions): Promise<void> {
  const { mailboxes } = connectAs("api key", options);
  const results = await inBatches(receipts, options, async (batch) => {
    return (await mailboxes.ackMessages({ leaseId, receipts: [...batch] })).results;
  });
  show(options, AckMessagesResponseSchema, { results }, () => printOutcomes(results));
  requireSettled(results);
}

async function nack(
  leaseId: string,
  receipts: readonly string[],
  options: ClientOptions & { readonly delay?: bigint },
): Promise<void> {
  const { mailboxes } = connectAs("api key", options);
  const delay = options.delay === undefined ? {} : { delay: { seconds: options.delay } };
  const results = await inBatches(receipts, options, async (batch) => {
    return (await mailboxes.nackMessages({ leaseId, receipts: [...batch], ...delay })).results;
  });
  show(options, NackMessagesResponseSchema, { results }, () => printOutcomes(results));
  requireSettled(results);
}

async function extend(
  leaseId: string,
  receipts: readonly string[],
  options: ClientOptions & { readonly hold: bigint },
): Promise<void> {
  const { mailboxes } = connectAs("api key", options);
  let holdExpireTime: Parameters<typeof showTime>[0];
  const results = await inBatches(receipts, options, async (batch) => {
    const visibilityTimeout = { seconds: options.hold };
    const extended = await mailboxes.extendMessages({ leaseId, receipts: [...batch], visibilityTimeout });
    // The first batch's, which ends before the others.
    holdExpireTime ??= extended.holdExpireTime;
    return extended.results;
  });
  const shown = { results, ...(holdExpireTime === undefined ? {} : { holdExpireTime }) };
  show(options, ExtendMessagesResponseSchema, shown, () => {
    printOutcomes(results);
    note(`Held until ${showTime(holdExpireTime)}.`);
  });
  requireSettled(results);
}

/** Settling a receipt again changes nothing, so each call is repeated if it fails in a way that may pass. */
async function inBatches(
  receipts: readonly string[],
  options: ClientOptions,
  settle: (batch: readonly string[]) => Promise<readonly ReceiptResult[]>,
): Promise<ReceiptResult[]> {
  const results: ReceiptResult[] = [];
  for (let at = 0; at < receipts.length; at += receiptsPerCall) {
    const batch = receipts.slice(at, at + receiptsPerCall);
    const retries = new Retries(undefined, noteRetry(options));
    results.push(...(await retries.until(() => settle(batch), isTransientCallError)));
  }
  return results;
}
