/** The operator: whoever sends the admin token. */
import { timingSafeEqual } from "node:crypto";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import { hashToken } from "../secrets/secret-token.ts";
import type { Call } from "../server/call.ts";

/** Tells the operator from everybody else, in the same time whatever is sent. */
export class Operator {
  readonly #tokenHash: Buffer;

  constructor(adminToken: string) {
    this.#tokenHash = hashToken(adminToken);
  }

  /**
   * Refuses a call that is not the operator's.
   *
   * @throws LeaseholdError CREDENTIAL_MISSING or CREDENTIAL_INVALID.
   */
  require(call: Call): void {
    if (call.bearer === undefined) {
      throw new LeaseholdError("CREDENTIAL_MISSING", "Send the admin token: authorization: Bearer ...");
    }
    if (!timingSafeEqual(hashToken(call.bearer), this.#tokenHash)) {
      throw new LeaseholdError("CREDENTIAL_INVALID", "This is not the admin token: check LEASEHOLD_ADMIN_TOKEN.");
    }
  }
}
