/** What tokens of one kind stand for, found by hash and cached: a token never changes its thing. */
import { LRUCache } from "lru-cache";
import type { Database } from "../database/database.ts";
import { notFound } from "../errors/leasehold-error.ts";
import type { AccountUuid, LeaseUuid } from "../ids/ids.ts";
import { checkToken, hashToken } from "../secrets/secret-token.ts";
import { findToken, tokenKinds } from "./caller-statements.ts";

/** The thing that a token stands for. Whether it may be used is for the statement that uses it to say. */
export interface TokenPlace {
  readonly ownerId: AccountUuid;
  readonly thingId: string;
  readonly leaseId: LeaseUuid;
  readonly variant: number;
  /** What is stored of the token. */
  readonly hash: Buffer;
}

/** How many tokens' things are remembered. An entry is about 300 bytes. */
const rememberedTokens = 50_000;

/** Finds what tokens of one kind stand for. */
export class TokenPlaces {
  readonly #database: Database;
  readonly #kind: "claim" | "drop";
  readonly #byHash = new LRUCache<string, TokenPlace>({ max: rememberedTokens });

  constructor(database: Database, kind: "claim" | "drop") {
    this.#database = database;
    this.#kind = kind;
  }

  /**
   * What a token stands for.
   *
   * @throws LeaseholdError TOKEN_MALFORMED for a typo, told without a look-up; NOT_FOUND if it was never issued.
   */
  async find(token: string): Promise<TokenPlace> {
    checkToken(this.#kind, token);
    const hash = hashToken(token);
    const cacheKey = hash.toString("latin1");
    const known = this.#byHash.get(cacheKey);
    if (known !== undefined) {
      return known;
    }
    const [row] = await this.#database.run(findToken, [hash, tokenKinds[this.#kind]]);
    if (row === undefined || row.lease_id === null || row.variant === null) {
      throw notFound("token");
    }
    const leaseId = row.lease_id as LeaseUuid;
    const place = { ownerId: row.owner_id, thingId: row.thing_id, leaseId, variant: row.variant, hash };
    this.#byHash.set(cacheKey, place);
    return place;
  }
}
