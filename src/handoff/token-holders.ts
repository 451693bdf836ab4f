/** Who holds which handoff: what a claim token stands for. */
import { TokenPlaces } from "../account/token-places.ts";
import type { Database } from "../database/database.ts";
import type { AccountUuid, HandoffUuid, LeaseUuid } from "../ids/ids.ts";

/** Where a handoff's row is, and its lease's. */
export interface HandoffPlace {
  readonly ownerId: AccountUuid;
  readonly handoffId: HandoffUuid;
  readonly leaseId: LeaseUuid;
}

/** What a token stands for. Whether it may be redeemed is for the statement that redeems to say. */
export interface HeldHandoff extends HandoffPlace {
  readonly variant: number;
}

/** Finds what claim tokens stand for. */
export class TokenHolders {
  readonly #places: TokenPlaces;

  constructor(database: Database) {
    this.#places = new TokenPlaces(database, "claim");
  }

  /**
   * What a token stands for.
   *
   * @throws LeaseholdError TOKEN_MALFORMED for a typo, told without a look-up; NOT_FOUND if it was never issued.
   */
  async find(token: string): Promise<HeldHandoff> {
    const { ownerId, thingId, leaseId, variant } = await this.#places.find(token);
    return { ownerId, handoffId: thingId as HandoffUuid, leaseId, variant };
  }
}
