/** Owns how received messages are written: for people, as JSON, or their bodies to files of a folder. */
import { mkdir } from "node:fs/promises";
import { join, relative } from "node:path";
import { create, type JsonValue } from "@bufbuild/protobuf";
import { type MailboxMessage, type MessageDelivery, MessageDeliverySchema } from "#gen/leasehold/v1/mailbox_pb.js";
import { PartFile } from "../client/part-file.ts";
import { harmlessName } from "./download-target.ts";
import { localFailure } from "./local-failure.ts";
import { messageJson, printed } from "./output.ts";
import { printableText, showBytes, showPairs, showText, showTime } from "./show-values.ts";

/** What the options say. */
export interface DeliveryOptions {
  readonly json?: boolean;
  /** The folder for bodies. */
  readonly dir?: string;
}

/**
 * Writes the body to its file, if there is a folder for bodies, and gives the path. The file is whole and on disk then.
 * A message that is delivered again replaces its own file.
 */
export async function saveBody(options: DeliveryOptions, delivery: MessageDelivery): Promise<string | undefined> {
  const { message } = delivery;
  if (options.dir === undefined || message === undefined) {
    return undefined;
  }
  try {
    await mkdir(options.dir, { recursive: true });
    const path = join(options.dir, harmlessName(message.messageId));
    const file = await PartFile.open(`${path}.part`);
    await file.truncate(0n);
    await file.append(message.body);
    await file.complete(path, { replace: true });
    return path;
  } catch (error) {
    throw localFailure(error);
  }
}

/** A delivery as JSON: with the path of its body instead of the body, if that was saved. */
export function deliveryJson(delivery: MessageDelivery, path: string | undefined): JsonValue {
  if (path === undefined || delivery.message === undefined) {
    return messageJson(MessageDeliverySchema, delivery);
  }
  const message = { ...delivery.message, body: new Uint8Array() };
  const json = messageJson(MessageDeliverySchema, create(MessageDeliverySchema, { ...delivery, message }));
  return { ...(json instanceof Object && !Array.isArray(json) ? json : {}), path };
}

/** Writes a delivery for people, and returns when it is written. Its body stands apart, so that it cannot pass for more. */
export async function printDelivery(delivery: MessageDelivery, path: string | undefined): Promise<void> {
  const { message } = delivery;
  if (message === undefined) {
    return;
  }
  const held = `delivery ${delivery.deliveryCount}, held until ${showTime(delivery.holdExpireTime)}`;
  const lines = [
    `${message.messageId}  ${describe(message)}`,
    `receipt  ${delivery.receipt}  (${held})`,
    ...(Object.keys(message.attributes).length === 0 ? [] : [`attributes  ${showPairs(message.attributes)}`]),
    ...(path === undefined ? bodyLines(message.body) : [`body  ${relative(".", path)}`]),
    "",
  ];
  await printed(lines.join("\n"));
}

function describe(message: MailboxMessage): string {
  const size = showBytes(BigInt(message.body.length));
  return `#${message.sequence}  ${size}  ${showText(message.contentType)}  dropped ${showTime(message.dropTime)}`;
}

function bodyLines(body: Uint8Array): string[] {
  const text = printableText(body);
  return text === undefined
    ? [`body  ${showBytes(BigInt(body.length))}, not text: --json or --dir gives it`]
    : text.split("\n").map((line) => `  ${line}`);
}
