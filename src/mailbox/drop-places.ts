/** What a dropper's call needs to know of a mailbox before its message can be sealed: found by token, and remembered. */
import { LRUCache } from "lru-cache";
import { type TokenPlace, TokenPlaces } from "../account/token-places.ts";
import type { Database } from "../database/database.ts";
import { notFound } from "../errors/leasehold-error.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import { requireLive } from "../lease/lease-row.ts";
import type { KeyedLease } from "../lease/lease-seals.ts";
import { dropTokenRotated } from "./drop-refusals.ts";
import { findDropTerms } from "./mailbox-statements.ts";

/** What a mailbox is made with and keeps. */
export interface DropTerms {
  readonly lease: KeyedLease;
  readonly maxMessageBytes: number;
}

const rememberedMailboxes = 10_000;
/** A wrapped key is not kept for longer than an unwrapped one. */
const rememberedMs = 60_000;

/**
 * Finds mailboxes by drop tokens. What is remembered never changes, and is proof of nothing: whether the token is still
 * good and the lease lives is for the statement that drops to say.
 */
export class DropPlaces {
  readonly #database: Database;
  readonly #places: TokenPlaces;
  readonly #terms = new LRUCache<LeaseUuid, DropTerms>({ max: rememberedMailboxes, ttl: rememberedMs });

  constructor(database: Database) {
    this.#database = database;
    this.#places = new TokenPlaces(database, "drop");
  }

  /**
   * The mailbox of a token.
   *
   * @throws LeaseholdError TOKEN_MALFORMED or NOT_FOUND.
   */
  async find(token: string): Promise<TokenPlace> {
    return await this.#places.find(token);
  }

  /** As confirm, if it is not remembered. */
  async terms(place: TokenPlace): Promise<DropTerms> {
    return this.#terms.get(place.leaseId) ?? (await this.confirm(place));
  }

  /**
   * Asks whether a token may drop just now.
   *
   * @throws LeaseholdError NOT_FOUND, LEASE_ENDED or DROP_TOKEN_ROTATED.
   */
  async confirm(place: TokenPlace): Promise<DropTerms> {
    const [row] = await this.#database.run(findDropTerms, [place.ownerId, place.leaseId, place.hash]);
    if (row === undefined) {
      throw notFound("token");
    }
    requireLive(row, row.now);
    if (row.max_message_bytes === null || row.is_current !== true) {
      throw dropTokenRotated();
    }
    const { lease_id, epoch_seconds, wrapped_key } = row;
    const terms = { lease: { lease_id, epoch_seconds, wrapped_key }, maxMessageBytes: row.max_message_bytes };
    this.#terms.set(place.leaseId, terms);
    return terms;
  }

  /** Forgets a mailbox, when its lease was found ended. */
  forget(leaseId: LeaseUuid): void {
    this.#terms.delete(leaseId);
  }
}
