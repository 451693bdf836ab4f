/** Who holds which handoff: a claim token's handoff, found by hash and cached, since a token never changes its handoff. */
import { LRUCache } from "lru-cache";
import { findToken, tokenKinds } from "../account/caller-statements.ts";
import type { Database } from "../database/database.ts";
import { notFound } from "../errors/leasehold-error.ts";
import type { AccountUuid, HandoffUuid, LeaseUuid } from "../ids/ids.ts";
import { checkToken, hashToken } from "../secrets/secret-token.ts";

/** What a token stands for. Whether it may be redeemed is for the statement that redeems to say. */
export interface HeldHandoff {
  readonly ownerId: AccountUuid;
  readonly handoffId: HandoffUuid;
  readonly leaseId: LeaseUuid;
}

/** How many tokens' handoffs are remembered. An entry is about 300 bytes. */
const rememberedTokens = 50_000;

/** Finds what claim tokens stand for. */
export class TokenHolders {
  readonly #database: Database;
  readonly #byHash = new LRUCache<string, HeldHandoff>({ max: rememberedTokens });

  constructor(database: Database) {
    this.#database = database;
  }

  /**
   * What a token stands for.
   *
   * @throws LeaseholdError TOKEN_MALFORMED for a typo, told without a look-up; NOT_FOUND if it was never issued.
   */
  async find(token: string): Promise<HeldHandoff> {
    checkToken("claim", token);
    const hash = hashToken(token);
    const cacheKey = hash.toString("base64");
    const known = this.#byHash.get(cacheKey);
    if (known !== undefined) {
      return known;
    }
    const [row] = await this.#database.run(findToken, [hash, tokenKinds.claim]);
    if (row === undefined || row.lease_id === null) {
      throw notFound("token");
    }
    const held = { ownerId: row.owner_id, handoffId: row.thing_id as HandoffUuid, leaseId: row.lease_id as LeaseUuid };
    this.#byHash.set(cacheKey, held);
    return held;
  }
}
