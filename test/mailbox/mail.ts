/** Mailboxes of a test, droppers at every door, and how a test looks behind them. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, ConnectError } from "@connectrpc/connect";
import { type MailboxDetails, MailboxService, type MailboxSpecSchema } from "#gen/leasehold/v1/mailbox_pb.js";
import type { Database } from "../../src/database/database.ts";
import type { DatabaseTime } from "../../src/database/row-types.ts";
import { formatId, type MessageUuid, parseId } from "../../src/ids/ids.ts";
import type { LeaseRow } from "../../src/lease/lease-row.ts";
import { openMessage } from "../../src/mailbox/message-seals.ts";
import { Refusal } from "../handoff/redeemer.ts";
import { fromClientError } from "../server/seen-error.ts";
import {
  askFor,
  type LeaseInit,
  leaseUuid,
  type Reachable,
  refusalOf,
  required,
  type Tenant,
} from "../support/tenant.ts";
import { query } from "../support/test-query.ts";

/** The doors by which a message is dropped. */
export const dropDoors = ["connect", "native", "http"] as const;
export type DropDoor = (typeof dropDoors)[number];

/** A mailbox and what opens it. */
export interface OpenMailbox {
  readonly leaseId: string;
  readonly dropToken: string;
  readonly webhookSecret: string;
}

/** Makes a mailbox: 1 MiB for an hour, unless said otherwise. */
export async function openMailbox(
  tenant: Tenant,
  spec: MessageInitShape<typeof MailboxSpecSchema> = {},
  request: LeaseInit = {},
): Promise<OpenMailbox> {
  const asked = askFor({ ...request, variant: { case: "mailbox", value: spec } } as LeaseInit);
  const { lease, dropToken, webhookSecret } = await tenant.leases.createLease(asked);
  return { leaseId: required(lease).leaseId, dropToken, webhookSecret };
}

/** What a dropper says. */
export interface Drop {
  readonly body?: Uint8Array | string;
  readonly contentType?: string;
  readonly requestId?: string;
  readonly group?: string;
  readonly delay?: { readonly seconds: bigint };
  readonly attributes?: Record<string, string>;
}

/** Drops at one server without an account. */
export class Dropper {
  readonly #httpUrl: string;
  readonly #clients: Readonly<Record<"connect" | "native", Client<typeof MailboxService>>>;

  constructor(server: Reachable) {
    this.#httpUrl = server.httpUrl;
    this.#clients = { connect: server.client(MailboxService), native: server.nativeClient(MailboxService) };
  }

  /** Drops. Rejects with a Refusal, or as a call does whose server is gone. */
  async drop(dropToken: string, drop: Drop = {}, door: DropDoor = "native"): Promise<Dropped> {
    const body = Buffer.from(drop.body ?? "");
    if (door === "http") {
      return await this.#dropOverHttp(dropToken, { ...drop, body });
    }
    try {
      const { messageId, sequence } = await this.#clients[door].dropMessage({ ...drop, dropToken, body });
      return { messageId, sequence };
    } catch (error) {
      throw error instanceof ConnectError ? toRefusal(error) : error;
    }
  }

  dropUrl(dropToken: string): string {
    return `${this.#httpUrl}/api/drop/${dropToken}`;
  }

  async #dropOverHttp(dropToken: string, drop: Drop & { readonly body: Buffer }): Promise<Dropped> {
    const { body, contentType, requestId, group, delay, attributes } = drop;
    const headers: Record<string, string> = {
      ...(contentType === undefined ? {} : { "content-type": contentType }),
      ...(requestId === undefined ? {} : { "leasehold-request-id": requestId }),
      ...(group === undefined ? {} : { "leasehold-group": group }),
      ...(delay === undefined ? {} : { "leasehold-delay": `${delay.seconds}` }),
    };
    for (const [name, value] of Object.entries(attributes ?? {})) {
      headers[`leasehold-attribute-${name}`] = value;
    }
    const response = await fetch(this.dropUrl(dropToken), { method: "POST", body, headers });
    if (!response.ok) {
      const { reason, metadata, message } = await refusalOf(response);
      throw new Refusal(reason, metadata, message);
    }
    const { messageId, sequence } = (await response.json()) as { messageId: string; sequence: string };
    return { messageId, sequence: BigInt(sequence) };
  }
}

/** A dropper's answer. */
export interface Dropped {
  readonly messageId: string;
  readonly sequence: bigint;
}

function toRefusal(error: ConnectError): Error {
  const { details, message } = fromClientError(error);
  const info = details.ErrorInfo as { reason: string; metadata?: Record<string, string> } | undefined;
  return info === undefined ? error : new Refusal(info.reason, info.metadata ?? {}, message);
}

/** A row of `message`, as far as tests look at it. */
export interface StoredMessage {
  readonly message_id: MessageUuid;
  readonly sequence: bigint;
  readonly state: number;
  readonly group_hash: Buffer | null;
  readonly body_bytes: number;
  readonly drop_time: DatabaseTime;
  readonly visible_time: DatabaseTime | null;
  readonly kept_version: bigint | null;
  readonly sealed: Buffer;
}

/** The rows of a mailbox's messages, in order. */
export async function storedMessages(database: Database, leaseId: string): Promise<StoredMessage[]> {
  return await query(database, "select * from message where lease_id = $1 order by sequence", [leaseUuid(leaseId)]);
}

/** The messages of a mailbox, opened with its key. */
export async function openedMessages(tenant: Tenant, leaseId: string) {
  const { database, seals } = tenant.leasehold.core;
  const uuid = leaseUuid(leaseId);
  const [lease] = await query<LeaseRow>(database, "select * from lease where lease_id = $1", [uuid]);
  const key = await seals.keyOf(required(lease));
  return (await storedMessages(database, leaseId)).map((row) => ({
    messageId: formatId("msg", row.message_id),
    sequence: row.sequence,
    ...openMessage(seals, key, { leaseId: uuid, messageId: row.message_id }, row.sealed),
  }));
}

/** What is shown of a mailbox to its owner. */
export async function mailboxOf(tenant: Tenant, leaseId: string): Promise<MailboxDetails> {
  const { details } = await tenant.show(leaseId);
  if (details.case !== "mailbox") {
    throw new Error("the lease is not a mailbox");
  }
  return details.value;
}

/**
 * Takes a message out as an acknowledgement does, under the lease's lock: so that room comes free while others drop.
 */
export async function takeOut(database: Database, leaseId: string, messageId: string): Promise<void> {
  await database.transaction(async (transaction) => {
    const uuid = leaseUuid(leaseId);
    await query(transaction, "select from lease where lease_id = $1 for no key update", [uuid]);
    const [row] = await query<{ body_bytes: number; message_id: MessageUuid }>(
      transaction,
      "delete from message where lease_id = $1 and message_id = $2 returning body_bytes, message_id",
      [uuid, messageUuid(messageId)],
    );
    const values = [uuid, required(row).body_bytes];
    const text =
      "update lease set content_bytes = content_bytes - $2::int, content_items = content_items - 1 where lease_id = $1";
    await query(transaction, text, values);
  });
}

/** The stored form of a message's id. */
export function messageUuid(messageId: string): MessageUuid {
  return required(parseId("msg", messageId));
}
