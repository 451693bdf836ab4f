/** Drops: messages are sealed as they come, and those who meet on one mailbox are kept by one statement. */
import { hash } from "node:crypto";
import { type DropMessageRequest, DropMessageRequestSchema } from "#gen/leasehold/v1/mailbox_pb.js";
import type { TokenPlace } from "../account/token-places.ts";
import { byteaArray } from "../database/binary-array.ts";
import type { Database } from "../database/database.ts";
import { type Again, again, GroupCommit } from "../database/group-commit.ts";
import { LeaseholdError, notFound } from "../errors/leasehold-error.ts";
import { digestRequest, isSameRequest } from "../idempotency/idempotency.ts";
import { type LeaseUuid, type MessageUuid, newUuid } from "../ids/ids.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import { microsOf } from "../proto-values/proto-time.ts";
import type { Wakeups } from "../wakeups/wakeups.ts";
import { type DroppedRow, dropMessages } from "./drop-messages-statement.ts";
import { DropPlaces, type DropTerms } from "./drop-places.ts";
import { bodyTooLarge, dropRequestIdReused, refusedDrop } from "./drop-refusals.ts";
import { findDropped } from "./mailbox-statements.ts";
import { sealMessage } from "./message-seals.ts";

/** A message that is kept. */
export interface DroppedMessage {
  readonly messageId: MessageUuid;
  readonly sequence: bigint;
}

/** What drops need. */
export interface DropsOptions {
  readonly database: Database;
  readonly seals: LeaseSeals;
  readonly wakeups: Wakeups;
  /** The key that request digests and hashes of groups are made with. It never changes. */
  readonly digestKey: Uint8Array;
}

interface Item {
  readonly place: TokenPlace;
  readonly messageId: MessageUuid;
  readonly sealed: Buffer;
  readonly bodyBytes: number;
  readonly repeatable: Repeatable | undefined;
  readonly groupHash: Buffer | undefined;
  readonly delayMicros: bigint;
}

interface Repeatable {
  readonly requestId: string;
  readonly digests: Buffer;
}

/** The media type of a body that was given none: RFC 2046, section 4.5.1. */
const defaultContentType = "application/octet-stream";

/** How much one statement carries, in bytes. */
const batchBytes = 4 * 1_048_576;

/** Takes drops. */
export class Drops {
  readonly places: DropPlaces;
  readonly #options: DropsOptions;
  readonly #batches: GroupCommit<Item, DroppedRow>;

  constructor(options: DropsOptions) {
    this.#options = options;
    this.places = new DropPlaces(options.database);
    this.#batches = new GroupCommit({
      maxWeight: batchBytes,
      weigh: (item) => item.sealed.length,
      serve: (_, items) => this.#serve(items),
      isRepeatable: (item) => item.repeatable !== undefined,
    });
  }

  /**
   * Keeps a message, or finds the one that its request_id kept before. It is committed when this returns.
   *
   * The look-up comes again before any refusal: a twin of the call may have been kept while this one waited.
   *
   * @throws LeaseholdError TOKEN_MALFORMED, NOT_FOUND, LEASE_ENDED, DROP_TOKEN_ROTATED, REQUEST_ID_REUSED,
   * BODY_TOO_LARGE, MAILBOX_FULL or LIMIT_REACHED.
   */
  async drop(request: DropMessageRequest): Promise<DroppedMessage> {
    const place = await this.places.find(request.dropToken);
    const repeatable = request.requestId === "" ? undefined : this.#repeatableOf(request);
    if (repeatable === undefined) {
      return await this.#dropOnce(place, request, undefined);
    }
    try {
      return await this.#dropOnce(place, request, repeatable);
    } catch (error) {
      const before = error instanceof LeaseholdError ? await this.#findDropped(place, repeatable) : undefined;
      if (before === undefined) {
        throw error;
      }
      return before;
    }
  }

  async #dropOnce(
    place: TokenPlace,
    request: DropMessageRequest,
    repeatable: Repeatable | undefined,
  ): Promise<DroppedMessage> {
    const terms = await this.places.terms(place);
    if (request.body.length > terms.maxMessageBytes) {
      await this.places.confirm(place);
      throw bodyTooLarge(terms.maxMessageBytes, request.body.length);
    }
    const item = await this.#seal(place, terms, request, repeatable);
    const row = await this.#batches.submit(place.hash.toString("latin1"), item);
    switch (row.outcome) {
      case "DROPPED":
        return { messageId: item.messageId, sequence: requireSequence(row) };
      case "SEEN":
        return requireSame(row, repeatable);
      case "TWIN":
        return await this.#findTwin(place, repeatable);
      case "LEASE_ENDED":
        this.places.forget(place.leaseId);
        throw refusedDrop(row);
      default:
        throw refusedDrop(row);
    }
  }

  /** Sealed as it comes and not with its batch, which is then sent as soon as the one before it is answered. */
  async #seal(
    place: TokenPlace,
    terms: DropTerms,
    request: DropMessageRequest,
    repeatable: Repeatable | undefined,
  ): Promise<Item> {
    const { seals } = this.#options;
    const { body, attributes } = request;
    const contentType = request.contentType || defaultContentType;
    const messageId = newUuid<"msg">();
    const key = await seals.keyOf(terms.lease);
    return {
      place,
      messageId,
      sealed: sealMessage(seals, key, { leaseId: place.leaseId, messageId }, { body, contentType, attributes }),
      bodyBytes: body.length,
      repeatable,
      groupHash: request.group === "" ? undefined : this.#groupHash(place.leaseId, request.group),
      delayMicros: microsOf(request.delay) ?? 0n,
    };
  }

  /** Those of one token together, so that its hash is compared once. */
  async #serve(items: readonly Item[]): Promise<readonly (DroppedRow | Again)[]> {
    const [first] = items;
    if (first === undefined) {
      return [];
    }
    const { ownerId, leaseId, hash: tokenHash } = first.place;
    const rows = await this.#options.database.run(dropMessages, [
      ownerId,
      leaseId,
      tokenHash,
      `{${items.map((item) => item.messageId).join(",")}}`,
      byteaArray(items.map((item) => item.sealed)),
      `{${items.map((item) => item.bodyBytes).join(",")}}`,
      items.some((item) => item.repeatable !== undefined)
        ? `{${items.map((item) => item.repeatable?.requestId ?? "null").join(",")}}`
        : null,
      bytesIfAny(items, (item) => item.repeatable?.digests),
      bytesIfAny(items, (item) => item.groupHash),
      items.some((item) => item.delayMicros > 0n) ? `{${items.map((item) => item.delayMicros).join(",")}}` : null,
    ]);
    if (rows.length === 0) {
      throw notFound("token");
    }
    if (rows.some((row) => row.outcome === "DROPPED")) {
      this.#options.wakeups.changed(leaseId);
    }
    return rows.map((row) => (row.outcome === "AGAIN" ? again : row));
  }

  #repeatableOf(request: DropMessageRequest): Repeatable {
    // A repeat may come with the token that has replaced the first call's.
    const digests = digestRequest(this.#options.digestKey, DropMessageRequestSchema, request, ["drop_token"]);
    return { requestId: request.requestId.toLowerCase(), digests };
  }

  async #findDropped(place: TokenPlace, repeatable: Repeatable): Promise<DroppedMessage | undefined> {
    const values = [place.ownerId, place.leaseId, repeatable.requestId];
    const [row] = await this.#options.database.run(findDropped, values);
    return row === undefined ? undefined : requireSame(row, repeatable);
  }

  async #findTwin(place: TokenPlace, repeatable: Repeatable | undefined): Promise<DroppedMessage> {
    const twin = repeatable === undefined ? undefined : await this.#findDropped(place, repeatable);
    if (twin === undefined) {
      throw new Error("a drop was seen and then not found");
    }
    return twin;
  }

  /** Keyed, so that a stored hash does not confirm a guessed name; as digests of requests are. */
  #groupHash(leaseId: LeaseUuid, group: string): Buffer {
    const key = Buffer.from(this.#options.digestKey).toString("hex");
    return hash("sha512-256", `${key}group\0${leaseId}\0${group}`, "buffer");
  }
}

function bytesIfAny(items: readonly Item[], bytesOf: (item: Item) => Buffer | undefined): Buffer | null {
  const column = items.map((item) => bytesOf(item) ?? null);
  return column.every((bytes) => bytes === null) ? null : byteaArray(column);
}

function requireSequence({ sequence }: DroppedRow): bigint {
  if (sequence === null) {
    throw new Error("a message was kept without a place");
  }
  return sequence;
}

type SeenRow = Pick<DroppedRow, "message_id" | "sequence" | "digests">;

/** @throws LeaseholdError REQUEST_ID_REUSED. The digests of a lease that is destroyed are gone with it. */
function requireSame(row: SeenRow, repeatable: Repeatable | undefined): DroppedMessage {
  const { message_id: messageId, sequence, digests } = row;
  if (repeatable === undefined || messageId === null || sequence === null || digests === null) {
    throw new Error("a drop was seen that has no request_id");
  }
  if (digests.length > 0 && !isSameRequest(digests, repeatable.digests)) {
    throw dropRequestIdReused();
  }
  return { messageId, sequence };
}
