/** Owns `leasehold mailbox create`, `rotate` and `webhooks`: mailboxes as their owner makes and looks after them. */
import { randomUUID } from "node:crypto";
import type { Command } from "commander";
import { type CreateLeaseResponse, CreateLeaseResponseSchema } from "#gen/leasehold/v1/lease_pb.js";
import {
  ListWebhookDeliveriesResponseSchema,
  RotateDropTokenResponseSchema,
  type WebhookDelivery,
  WebhookDelivery_StateSchema,
} from "#gen/leasehold/v1/mailbox_pb.js";
import { isTransientCallError } from "../client/call-error.ts";
import type { Connection } from "../client/connection.ts";
import { Retries } from "../client/retries.ts";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { collectPages } from "./collect-pages.ts";
import { addSizedLeaseOptions, leaseTerms, type SizedLeaseOptions } from "./lease-options.ts";
import { messageJson, note, printFields, printJson, printTable, show } from "./output.ts";
import { parseByteCount, parseCount, parseDuration, parseRequestId } from "./parse-values.ts";
import { showBytes, showDollars, showEnum, showText, showTime } from "./show-values.ts";
import { addressOf } from "./token-holder.ts";

interface CreateOptions extends ClientOptions, SizedLeaseOptions {
  readonly maxMessage?: number;
  readonly maxMessages?: number;
  readonly maxDeliveries?: number;
  readonly webhook?: string;
}

interface RotateOptions extends ClientOptions {
  readonly grace?: bigint;
  readonly requestId?: string;
}

/** Adds the commands. */
export function addMailboxCommands(program: Command): void {
  const mailbox = program.command("mailbox").description("mailboxes, which keep messages that anybody drops");
  const command = clientCommand(
    mailbox,
    "create",
    "api key",
    "lease a mailbox; prints its drop token, by which messages are dropped into it",
  );
  addSizedLeaseOptions(command, "its capacity: the bodies stored at once, and 256 bytes for each message")
    .option("--max-message <size>", "the largest body of a message (default: 256KiB)", parseByteCount)
    .option("--max-messages <count>", "how many messages are stored at once (default: 1000000)", parseCount)
    .option("--max-deliveries <count>", "how often a message is delivered before it is dead (default: 10)", parseCount)
    .option("--webhook <address>", "where each drop is announced")
    .action(createMailbox);

  clientCommand(program, "rotate <lease>", "api key", "make a new drop token for a mailbox; the old one stops")
    .option("--grace <duration>", "how long the old token goes on (default: it stops at once)", parseDuration)
    .option("--request-id <uuid>", "makes the command safe to repeat", parseRequestId)
    .action(rotate);

  clientCommand(program, "webhooks <lease>", "api key", "list what became of a mailbox's notifications, newest first")
    .option("--limit <count>", "list no more than this", parseCount)
    .action(listWebhooks);
}

async function createMailbox(options: CreateOptions): Promise<void> {
  const connection = connectAs("api key", options);
  const requestId = options.requestId ?? randomUUID();
  const made = await new Retries().until(
    () =>
      connection.leases.createLease({
        ...leaseTerms(options),
        requestId,
        sizeBytes: options.size,
        variant: {
          case: "mailbox",
          value: {
            maxMessageBytes: options.maxMessage ?? 0,
            maxMessages: options.maxMessages ?? 0,
            maxDeliveries: options.maxDeliveries ?? 0,
            webhookUrl: options.webhook ?? "",
          },
        },
      }),
    isTransientCallError,
  );
  const dropUrl = addressOf("drop", connection, made.dropToken);
  if (options.json) {
    printJson({ ...jsonObject(made), dropUrl });
    return;
  }
  describe(made, dropUrl);
}

function jsonObject(made: CreateLeaseResponse): object {
  const json = messageJson(CreateLeaseResponseSchema, made);
  return json instanceof Object ? json : {};
}

function describe({ lease, dropToken, webhookSecret }: CreateLeaseResponse, dropUrl: string): void {
  printFields({
    lease: lease?.leaseId,
    "drop token": dropToken,
    "drop address": dropUrl,
    "webhook secret": webhookSecret,
    capacity: showBytes(lease?.sizeBytes ?? 0n),
    expires: showTime(lease?.expireTime),
    price: showDollars(lease?.priceMicros ?? 0n),
  });
  const secrets = webhookSecret === "" ? "The drop token is" : "The drop token and the webhook secret are";
  note(`${secrets} shown here and nowhere else: keep them. Messages are dropped by a POST to the drop address.`);
}

async function rotate(leaseId: string, options: RotateOptions): Promise<void> {
  const connection = connectAs("api key", options);
  const requestId = options.requestId ?? randomUUID();
  const rotated = await new Retries().until(
    () =>
      connection.mailboxes.rotateDropToken({
        leaseId,
        requestId,
        ...(options.grace === undefined ? {} : { grace: { seconds: options.grace } }),
      }),
    isTransientCallError,
  );
  show(options, RotateDropTokenResponseSchema, rotated, () => describeRotation(connection, leaseId, rotated));
}

function describeRotation(
  connection: Connection,
  leaseId: string,
  rotated: { readonly dropToken: string; readonly oldTokenExpireTime?: Parameters<typeof showTime>[0] },
): void {
  printFields({
    lease: leaseId,
    "drop token": rotated.dropToken,
    "drop address": addressOf("drop", connection, rotated.dropToken),
    "old token": rotated.oldTokenExpireTime === undefined ? "stopped" : `until ${showTime(rotated.oldTokenExpireTime)}`,
  });
  note("The drop token is shown here and nowhere else: keep it.");
}

async function listWebhooks(leaseId: string, options: ClientOptions & { readonly limit?: number }): Promise<void> {
  const { mailboxes } = connectAs("api key", options);
  let webhookDisableTime: Parameters<typeof showTime>[0];
  const { items: deliveries, nextPageToken } = await collectPages(options.limit, async (page) => {
    const response = await mailboxes.listWebhookDeliveries({ leaseId, ...page });
    webhookDisableTime = response.webhookDisableTime;
    return { items: response.deliveries, nextPageToken: response.nextPageToken };
  });
  const shown = {
    deliveries,
    nextPageToken,
    ...(webhookDisableTime === undefined ? {} : { webhookDisableTime }),
  };
  show(options, ListWebhookDeliveriesResponseSchema, shown, () => {
    printWebhooks(deliveries);
    if (webhookDisableTime !== undefined) {
      note(`Its receiver switched the webhook off at ${showTime(webhookDisableTime)}, by answering 410.`);
    }
  });
}

function printWebhooks(deliveries: readonly WebhookDelivery[]): void {
  printTable(
    ["MESSAGE", "STATE", "ATTEMPTS", "LAST ATTEMPT", "STATUS", "NEXT ATTEMPT", "ERROR"],
    deliveries.map((one) => [
      one.messageId,
      showEnum(WebhookDelivery_StateSchema, one.state),
      `${one.attemptCount}`,
      showTime(one.lastAttemptTime),
      one.lastStatus === 0 ? "" : `${one.lastStatus}`,
      showTime(one.nextAttemptTime),
      showText(one.lastError),
    ]),
    "Nothing has been announced.",
  );
}
