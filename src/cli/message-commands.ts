/** Owns `leasehold peek`, `dead` and `redrive`: a mailbox's messages, looked at without holding them. */
import type { Command } from "commander";
import {
  DeadMessage_ReasonSchema,
  ListDeadMessagesResponseSchema,
  ListedMessage_StateSchema,
  ListMessagesResponseSchema,
  type MailboxMessage,
  RedriveMessagesResponseSchema,
} from "#gen/leasehold/v1/mailbox_pb.js";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { collectPages } from "./collect-pages.ts";
import { note, print, printTable, show } from "./output.ts";
import { parseCount } from "./parse-values.ts";
import { showBytes, showEnum, showPreview, showText, showTime } from "./show-values.ts";

interface ListOptions extends ClientOptions {
  readonly limit?: number;
}

/** How many messages one call brings back. */
const messagesPerCall = 1_000;

/** Adds the commands. */
export function addMessageCommands(program: Command): void {
  clientCommand(program, "peek <lease>", "api key", "look at a mailbox's messages in order, and hold none")
    .option("--limit <count>", "list no more than this", parseCount)
    .action(peek);

  clientCommand(program, "dead <lease>", "api key", "list the messages that were delivered as often as they may be")
    .option("--limit <count>", "list no more than this", parseCount)
    .action(listDead);

  clientCommand(program, "redrive <lease> [message...]", "api key", "bring dead messages back: these, or all").action(
    redrive,
  );
}

async function peek(leaseId: string, options: ListOptions): Promise<void> {
  const { mailboxes } = connectAs("api key", options);
  const { items, nextPageToken } = await collectPages(options.limit, async (page) => {
    const response = await mailboxes.listMessages({ leaseId, ...page });
    return {
      items: response.messages.map((listed) => ({
        ...kept(listed, options),
        cells: [
          showEnum(ListedMessage_StateSchema, listed.state),
          `${listed.deliveryCount}`,
          showTime(listed.visibleTime),
          ...messageCells(listed.message),
        ],
      })),
      nextPageToken: response.nextPageToken,
    };
  });
  const messages = items.flatMap(({ whole }) => whole ?? []);
  show(options, ListMessagesResponseSchema, { messages, nextPageToken }, () =>
    printTable(
      ["MESSAGE", "STATE", "DELIVERIES", "VISIBLE", "DROPPED", "SIZE", "TYPE", "BODY"],
      items.map(({ messageId, cells }) => [messageId, ...cells]),
      "The mailbox is empty.",
    ),
  );
}

async function listDead(leaseId: string, options: ListOptions): Promise<void> {
  const { mailboxes } = connectAs("api key", options);
  const { items, nextPageToken } = await collectPages(options.limit, async (page) => {
    const response = await mailboxes.listDeadMessages({ leaseId, ...page });
    return {
      items: response.messages.map((dead) => ({
        ...kept(dead, options),
        cells: [
          showEnum(DeadMessage_ReasonSchema, dead.reason),
          `${dead.deliveryCount}`,
          showTime(dead.deadTime),
          ...messageCells(dead.message),
        ],
      })),
      nextPageToken: response.nextPageToken,
    };
  });
  const messages = items.flatMap(({ whole }) => whole ?? []);
  show(options, ListDeadMessagesResponseSchema, { messages, nextPageToken }, () =>
    printTable(
      ["MESSAGE", "REASON", "DELIVERIES", "DIED", "DROPPED", "SIZE", "TYPE", "BODY"],
      items.map(({ messageId, cells }) => [messageId, ...cells]),
      "No message is dead.",
    ),
  );
}

async function redrive(leaseId: string, ids: readonly string[], options: ClientOptions): Promise<void> {
  const { mailboxes } = connectAs("api key", options);
  const messageIds: string[] = [];
  for (let at = 0; at < Math.max(ids.length, 1); at += messagesPerCall) {
    const batch = ids.slice(at, at + messagesPerCall);
    let redriven: readonly string[];
    do {
      ({ messageIds: redriven } = await mailboxes.redriveMessages({ leaseId, messageIds: batch }));
      messageIds.push(...redriven);
      // All of them, a thousand a call.
    } while (ids.length === 0 && redriven.length === messagesPerCall);
  }
  show(options, RedriveMessagesResponseSchema, { messageIds }, () => {
    print(...messageIds);
    note(messageIds.length === 1 ? "1 message came back." : `${messageIds.length} messages came back.`);
  });
}

/** People are shown the beginning of a body, so the rest of what may be many is not kept for them. */
function kept<Listed extends { readonly message?: MailboxMessage | undefined }>(
  listed: Listed,
  options: ClientOptions,
): { readonly messageId: string; readonly whole: Listed | undefined } {
  return { messageId: listed.message?.messageId ?? "", whole: options.json === true ? listed : undefined };
}

function messageCells(message: MailboxMessage | undefined): string[] {
  const body = message?.body ?? new Uint8Array();
  return [
    showTime(message?.dropTime),
    showBytes(BigInt(body.length)),
    showText(message?.contentType ?? ""),
    showPreview(body),
  ];
}
