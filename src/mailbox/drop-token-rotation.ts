/** Replaces a mailbox's drop token, and shows the new one again to the request_id that made it. */

import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { type RotateDropTokenRequest, RotateDropTokenRequestSchema } from "#gen/leasehold/v1/mailbox_pb.js";
import { type Caller, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import { LeaseholdError, notFound } from "../errors/leasehold-error.ts";
import { digestRequest, requireSameRequest } from "../idempotency/idempotency.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import { isLeaseRow, requireLive, requireVariant } from "../lease/lease-row.ts";
import { leaseUuidOf } from "../lease/lease-service.ts";
import { toTimestamp, wholeSeconds } from "../proto-values/proto-time.ts";
import { deriveToken, hashToken } from "../secrets/secret-token.ts";
import type { MailboxServiceOptions } from "./mailbox-options.ts";
import { findDropToken, maxDropTokensPerLease, rotateDropToken } from "./mailbox-statements.ts";

interface RotatedToken {
  readonly dropToken: string;
  readonly oldTokenExpireTime: Timestamp | undefined;
}

/** The token there is, which the next one replaces. */
interface CurrentToken {
  readonly generation: number;
  readonly keyVersion: number;
}

/** How often a rotation begins again because another came first. */
const maxTries = 10;

/** Replaces drop tokens. */
export class DropTokenRotation {
  readonly #options: Pick<MailboxServiceOptions, "database" | "serverKeys" | "digestKey">;

  constructor(options: Pick<MailboxServiceOptions, "database" | "serverKeys" | "digestKey">) {
    this.#options = options;
  }

  /**
   * Replaces the token, or finds the one that the request_id made before.
   *
   * @throws LeaseholdError the refusal of the key, NOT_FOUND, LEASE_ENDED, REQUEST_ID_REUSED, WRONG_VARIANT or
   * LIMIT_REACHED.
   */
  async rotate(caller: Caller, request: RotateDropTokenRequest): Promise<RotatedToken> {
    for (let tries = 0; tries < maxTries; tries++) {
      const current = await this.#find(caller, request);
      const rotated = "dropToken" in current ? current : await this.#replace(caller, request, current);
      if (rotated !== undefined) {
        return rotated;
      }
    }
    throw new Error(`a drop token was replaced by others ${maxTries} times while it was to be replaced`);
  }

  /** The token that is to be replaced, or the answer that the request_id had before. */
  async #find(caller: Caller, request: RotateDropTokenRequest): Promise<CurrentToken | RotatedToken> {
    const leaseId = leaseUuidOf(request.leaseId);
    const values = [caller.ownerId, caller.keyId, scopeBits.write, leaseId, requestIdOf(request)];
    const [row] = await this.#options.database.run(findDropToken, values);
    requireAccess(row?.access, "write");
    if (row === undefined || !isLeaseRow(row)) {
      throw notFound("lease");
    }
    requireLive(row, row.now);
    requireVariant(row, Lease_Variant.MAILBOX, "messages");
    const { drop_token_generation: generation, drop_token_key_version: keyVersion } = row;
    if (generation === null || keyVersion === null) {
      throw new Error("a live mailbox lease has no mailbox");
    }
    if (row.seen_generation === null) {
      return { generation, keyVersion };
    }
    requireSameRequest(RotateDropTokenRequestSchema, row.digests ?? Buffer.alloc(0), this.#digest(request));
    const made = Number(row.seen_generation);
    const oldGoesOn = made === generation && (row.old_token_expire_time ?? 0n) > row.now;
    const dropToken = await this.#tokenOf(leaseId, { generation: made, keyVersion });
    return { dropToken, oldTokenExpireTime: oldGoesOn ? toTimestamp(row.old_token_expire_time) : undefined };
  }

  async #replace(
    caller: Caller,
    request: RotateDropTokenRequest,
    current: CurrentToken,
  ): Promise<RotatedToken | undefined> {
    if (current.generation >= maxDropTokensPerLease) {
      throw tooManyTokens(current.generation);
    }
    const leaseId = leaseUuidOf(request.leaseId);
    const requestId = requestIdOf(request);
    const dropToken = await this.#tokenOf(leaseId, { ...current, generation: current.generation + 1 });
    const values = [
      caller.ownerId,
      caller.keyId,
      scopeBits.write,
      leaseId,
      current.generation,
      hashToken(dropToken),
      wholeSeconds("grace", request.grace) ?? 0n,
      requestId,
      requestId === null ? null : this.#digest(request),
    ];
    const [row] = await this.#options.database.run(rotateDropToken, values, { repeatable: requestId !== null });
    requireAccess(row?.access, "write");
    return row?.is_rotated === true
      ? { dropToken, oldTokenExpireTime: toTimestamp(row.old_token_expire_time) }
      : undefined;
  }

  async #tokenOf(leaseId: LeaseUuid, token: CurrentToken): Promise<string> {
    const { key } = await this.#options.serverKeys.get(token.keyVersion);
    return deriveToken("drop", key, leaseId, token.generation);
  }

  #digest(request: RotateDropTokenRequest): Buffer {
    return digestRequest(this.#options.digestKey, RotateDropTokenRequestSchema, request);
  }
}

function requestIdOf(request: RotateDropTokenRequest): string | null {
  return request.requestId === "" ? null : request.requestId.toLowerCase();
}

function tooManyTokens(generation: number): LeaseholdError {
  const message = `The mailbox has had ${generation} drop tokens, as many as it can: make another mailbox.`;
  return new LeaseholdError("LIMIT_REACHED", message, {
    metadata: {
      limit: "drop_tokens_per_lease",
      limit_value: `${maxDropTokensPerLease}`,
      value: `${generation}`,
    },
  });
}
