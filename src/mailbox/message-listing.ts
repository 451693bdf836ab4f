/** Pages of messages, dead or not, for the owner. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import {
  DeadMessage_Reason as DeadReason,
  type ListDeadMessagesRequest,
  type ListDeadMessagesResponseSchema,
  type ListMessagesRequest,
  type ListMessagesResponseSchema,
  ListedMessage_State as State,
} from "#gen/leasehold/v1/mailbox_pb.js";
import { type Caller, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import type { Database, Statement } from "../database/database.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { invalidField, notFound } from "../errors/leasehold-error.ts";
import { isLeaseRow, requireLive, requireVariant } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import { leaseUuidOf } from "../lease/lease-service.ts";
import { pageSizeOf } from "../proto-values/paging.ts";
import { toTimestamp } from "../proto-values/proto-time.ts";
import { messageOpener } from "./delivery-opening.ts";
import { messageStates } from "./mailbox-statements.ts";
import { type ListedColumns, type ListedRow, listDeadMessages, listMessages } from "./message-listing-statements.ts";
import { formatSequence, parseSequence } from "./receipt.ts";

/** What listing needs. */
export interface MessageListingOptions {
  readonly database: Database;
  readonly seals: LeaseSeals;
  /** The largest message of an RPC, in bytes. */
  readonly maxMessageBytes: number;
}

/** What an answer takes beside its messages, in bytes, at most. */
const answerOverheadBytes = 1_024;

/** Shows pages of messages. It holds nothing, and changes nothing. */
export class MessageListing {
  readonly #options: MessageListingOptions;

  constructor(options: MessageListingOptions) {
    this.#options = options;
  }

  async list(
    caller: Caller,
    request: ListMessagesRequest,
  ): Promise<MessageInitShape<typeof ListMessagesResponseSchema>> {
    const { rows, open, nextPageToken } = await this.#page(listMessages, caller, request);
    const messages = rows.map((row) => ({
      message: open(row),
      state: stateOf(row),
      deliveryCount: row.delivery_count,
      visibleTime: toTimestamp(row.visible_time !== null && row.visible_time > row.now ? row.visible_time : null),
    }));
    return { messages, nextPageToken };
  }

  async listDead(
    caller: Caller,
    request: ListDeadMessagesRequest,
  ): Promise<MessageInitShape<typeof ListDeadMessagesResponseSchema>> {
    const { rows, open, nextPageToken } = await this.#page(listDeadMessages, caller, request);
    const messages = rows.map((row) => ({
      message: open(row),
      reason: row.dead_reason ?? DeadReason.HOLD_ENDED,
      deliveryCount: row.delivery_count,
      // One that is yet to be buried died when its hold was over.
      deadTime: toTimestamp(row.dead_time ?? row.visible_time),
    }));
    return { messages, nextPageToken };
  }

  /** @throws LeaseholdError INVALID_FIELD, NOT_FOUND, LEASE_ENDED, WRONG_VARIANT, or the refusal of the key. */
  async #page(
    statement: Statement<ListedRow>,
    caller: Caller,
    request: { readonly leaseId: string; readonly pageSize: number; readonly pageToken: string },
  ) {
    const { database, seals, maxMessageBytes } = this.#options;
    const found = await database.run(statement, [
      caller.ownerId,
      caller.keyId,
      scopeBits.read,
      leaseUuidOf(request.leaseId),
      pageStart(request.pageToken),
      pageSizeOf(request),
      maxMessageBytes - answerOverheadBytes,
    ]);
    const [first] = found;
    requireAccess(first?.access, "read");
    if (first === undefined || !isLeaseRow(first)) {
      throw notFound("lease");
    }
    requireLive(first, first.now);
    requireVariant(first, Lease_Variant.MAILBOX, "messages");
    const rows = found.filter(isListed).filter((row) => !row.is_beyond);
    const last = rows.at(-1);
    const openSealed = await messageOpener(seals, first);
    return {
      rows,
      open: (row: ListedColumns) =>
        openSealed({ sequence: row.sequence, messageId: row.message_id, dropTime: row.drop_time, sealed: row.sealed }),
      nextPageToken: last !== undefined && rows.length < found.length ? formatSequence(Number(last.sequence)) : "",
    };
  }
}

function isListed(row: ListedRow): row is ListedRow & ListedColumns {
  return row.sequence !== null;
}

/** What is happening to a message at the moment it was read. */
function stateOf(row: ListedColumns & { readonly now: DatabaseTime }): State {
  switch (row.state) {
    case messageStates.ready:
      return State.READY;
    case messageStates.blocked:
      return State.BLOCKED;
    case messageStates.dead:
      return State.DEAD;
    default: {
      if (row.visible_time !== null && row.visible_time > row.now) {
        return row.is_held ? State.HELD : State.DELAYED;
      }
      return row.is_held && row.delivery_count >= row.max_deliveries ? State.DEAD : State.READY;
    }
  }
}

/** @throws LeaseholdError INVALID_FIELD if the token is not one that this list gave. */
function pageStart(token: string): number {
  const sequence = token === "" ? 0 : parseSequence(token);
  if (sequence === undefined) {
    throw invalidField("page_token", "must be the next_page_token of the page before");
  }
  return sequence;
}
