/** Owns `leasehold drop`: puts a message into a mailbox, as whoever holds its drop token. */
import { randomUUID } from "node:crypto";
import type { Command } from "commander";
import { DropMessageResponseSchema } from "#gen/leasehold/v1/mailbox_pb.js";
import { isTransientCallError } from "../client/call-error.ts";
import { Retries } from "../client/retries.ts";
import { readBody } from "./body-input.ts";
import { type ClientOptions, clientCommand, configuredDropToken } from "./client-command.ts";
import { CommandError } from "./exit-codes.ts";
import { HintedError } from "./hinted-error.ts";
import { noteRetry, print, show } from "./output.ts";
import { parseDuration, parseLabel, parseRequestId } from "./parse-values.ts";
import { holderOf, isTokenOrAddress } from "./token-holder.ts";

interface DropOptions extends ClientOptions {
  readonly text?: string;
  readonly type?: string;
  readonly attribute?: Readonly<Record<string, string>>;
  readonly group?: string;
  readonly delay?: bigint;
  readonly requestId?: string;
}

/** The largest body that any mailbox takes. */
const largestBodyBytes = 1024 * 1024;

/** Adds the command. */
export function addDropCommand(program: Command): void {
  clientCommand(
    program,
    "drop [token|address] [file]",
    "none",
    "drop a message into a mailbox; prints the message's id",
  )
    .addHelpText(
      "after",
      "\nThe token comes from LEASEHOLD_DROP_TOKEN if it is left out, the body from stdin or a file `-`.",
    )
    .option("--text <text>", "the body itself, instead of a file")
    .option("--type <type>", "its media type (default: application/octet-stream, of --text: text/plain)")
    .option("--attribute <key=value>", "a word for the receiver; may be repeated", parseLabel)
    .option("--group <name>", "messages of one group are delivered one after the other")
    .option("--delay <duration>", "how long it waits before it is delivered", parseDuration)
    .option("--request-id <uuid>", "repeats with the same id, within ten minutes, drop nothing", parseRequestId)
    .action(drop);
}

async function drop(first: string | undefined, second: string | undefined, options: DropOptions): Promise<void> {
  const { token: text, file } = sortWords(first, second);
  const { connection, token } = holderOf("drop", text, options);
  const body = await readBody({ file, text: options.text }, largestBodyBytes, "the most that a message can have");
  const requestId = options.requestId ?? randomUUID();
  const retries = new Retries(undefined, noteRetry(options));
  const request = {
    dropToken: token,
    requestId,
    body,
    contentType: options.type ?? (options.text === undefined ? "" : "text/plain; charset=utf-8"),
    attributes: options.attribute ?? {},
    group: options.group ?? "",
    ...(options.delay === undefined ? {} : { delay: { seconds: options.delay } }),
  };
  try {
    const dropped = await retries.until(() => connection.mailboxes.dropMessage(request), isTransientCallError);
    show(options, DropMessageResponseSchema, dropped, () => print(dropped.messageId));
  } catch (error) {
    throw isTransientCallError(error)
      ? new HintedError(error, `repeat it with --request-id ${requestId}, which drops it once`, { requestId })
      : error;
  }
}

/** A token is told from a file by how it begins. */
function sortWords(first: string | undefined, second: string | undefined): { token: string; file: string | undefined } {
  if (first !== undefined && isTokenOrAddress("drop", first)) {
    return { token: first, file: second };
  }
  if (second !== undefined) {
    throw new CommandError("usage", "The first of two words must be a drop token (lh_drop_...) or a drop address");
  }
  return { token: configuredDropToken(), file: first };
}
