/** What a Mailbox lease keeps sealed in its row: the limits it was made with, its webhook, and how its secrets are derived. */
import type { MailboxSpec } from "#gen/leasehold/v1/mailbox_pb.js";

/** The sealed details. */
export interface SealedMailbox {
  readonly maxMessageBytes: number;
  readonly maxMessages: number;
  readonly maxDeliveries: number;
  /** Empty: there is no webhook. */
  readonly webhookUrl: string;
  /** The version of the server key from which every drop token and the webhook secret are derived. */
  readonly tokenKeyVersion: number;
}

/** What a message takes of the capacity beside its body, in bytes. */
export const messageOverheadBytes = 256;

export const maxMessageBytesLimit = 1_048_576;
export const maxMessagesLimit = 1_000_000;
export const maxDeliveriesLimit = 1_000;

const defaultMessageBytes = 262_144;
const defaultMessages = 1_000_000;
const defaultDeliveries = 10;

/** The limits of a request, with what is unset filled in. */
export function specifiedMailbox(
  spec: MailboxSpec | undefined,
  sizeBytes: bigint,
  tokenKeyVersion: number,
): SealedMailbox {
  const roomyBytes = sizeBytes < BigInt(defaultMessageBytes) ? Number(sizeBytes) : defaultMessageBytes;
  return {
    maxMessageBytes: spec?.maxMessageBytes || roomyBytes,
    maxMessages: spec?.maxMessages || defaultMessages,
    maxDeliveries: spec?.maxDeliveries || defaultDeliveries,
    webhookUrl: spec?.webhookUrl ?? "",
    tokenKeyVersion,
  };
}

/** Packs details for sealing. */
export function packMailbox(details: SealedMailbox): Uint8Array {
  return Buffer.from(JSON.stringify(details));
}

/** Unpacks opened details. */
export function unpackMailbox(packed: Uint8Array): SealedMailbox {
  const details: unknown = JSON.parse(Buffer.from(packed).toString("utf8"));
  return details as SealedMailbox;
}
