/** Issues handoffs, and shows the token of one again to the request_id that issued it. */
import {
  Handoff_IncompleteClaimPolicy,
  type IssueHandoffRequest,
  IssueHandoffRequestSchema,
} from "#gen/leasehold/v1/handoff_pb.js";
import { Lease_ReadAccess, Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { type Caller, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import type { ServerKey, ServerKeys } from "../content/server-keys.ts";
import type { Database } from "../database/database.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { invalidField, LeaseholdError, notFound } from "../errors/leasehold-error.ts";
import { digestRequest, requireSameRequest } from "../idempotency/idempotency.ts";
import { type HandoffUuid, newUuid } from "../ids/ids.ts";
import { endOf, isLeaseRow, type LeaseEnd, type MaybeLeaseRow, requireState } from "../lease/lease-row.ts";
import { leaseUuidOf } from "../lease/lease-service.ts";
import { getLeases } from "../lease/lease-statements.ts";
import type { LeaseVariants } from "../lease/lease-variant.ts";
import { wholeSeconds } from "../proto-values/proto-time.ts";
import { deriveToken, hashToken } from "../secrets/secret-token.ts";
import { type HandoffRow, handoffOf } from "./handoff-row.ts";
import { findIssued, issueHandoff, maxHandoffsPerLease } from "./handoff-statements.ts";

/** A handoff that was issued, now or before, and its token. */
export interface IssuedHandoff {
  readonly handoff: HandoffRow;
  readonly token: string;
  readonly leaseEnd: LeaseEnd | undefined;
  readonly now: DatabaseTime;
}

interface PinnedVersion {
  readonly version: bigint;
  readonly sizeBytes: bigint;
}

/** Issues handoffs. */
export class HandoffIssuer {
  readonly #database: Database;
  readonly #serverKeys: ServerKeys;
  readonly #variants: LeaseVariants;

  constructor(options: {
    readonly database: Database;
    readonly serverKeys: ServerKeys;
    readonly variants: LeaseVariants;
  }) {
    this.#database = options.database;
    this.#variants = options.variants;
    this.#serverKeys = options.serverKeys;
  }

  /**
   * Issues a handoff, or finds the one that the request_id issued before.
   *
   * @throws LeaseholdError the refusal of the key, NOT_FOUND, LEASE_ENDED, REQUEST_ID_REUSED, WRONG_STATE,
   * READ_ACCESS_OWNER or LIMIT_REACHED.
   */
  async issue(caller: Caller, request: IssueHandoffRequest): Promise<IssuedHandoff> {
    const requestId = request.requestId === "" ? null : request.requestId.toLowerCase();
    const pinned = await this.#pin(caller, request).catch(async (error: unknown) => {
      const before = requestId === null ? undefined : await this.#findIssued(caller, requestId, request);
      if (before === undefined) {
        throw error;
      }
      return before;
    });
    if (pinned !== undefined && "token" in pinned) {
      return pinned;
    }
    const serverKey = await this.#serverKeys.latest();
    const handoffId = newUuid<"hnd">();
    const token = tokenOf(serverKey, handoffId);
    const maxClaims = request.maxClaims || 1;
    const values = [
      caller.ownerId,
      caller.keyId,
      scopeBits.write,
      leaseUuidOf(request.leaseId),
      handoffId,
      hashToken(token),
      serverKey.version,
      maxClaims,
      wholeSeconds("ttl", request.ttl),
      request.deleteOnClaim ?? null,
      request.incompleteClaimPolicy || Handoff_IncompleteClaimPolicy.RETURN,
      request.maxIncompleteClaims ?? 3 * maxClaims,
      requestId,
      requestId === null ? null : digestIssue(serverKey, request),
      pinned?.version ?? null,
      pinned?.sizeBytes ?? null,
    ];
    const [row] = await this.#database.run(issueHandoff, values, { repeatable: requestId !== null });
    requireAccess(row?.access, "write");
    const handoff = row === undefined ? undefined : handoffOf(row);
    if (row !== undefined && handoff !== undefined) {
      return { handoff, token, leaseEnd: undefined, now: row.now };
    }
    const before = requestId === null ? undefined : await this.#findIssued(caller, requestId, request);
    if (before === undefined) {
      throw refusedIssue(row);
    }
    return before;
  }

  /** The version of the content that claims keep to, if the request names one. */
  async #pin(caller: Caller, request: IssueHandoffRequest): Promise<PinnedVersion | undefined> {
    const version = request.checkpointVersion;
    if (version === 0n) {
      return undefined;
    }
    const values = [caller.ownerId, [caller.keyId], scopeBits.write, [leaseUuidOf(request.leaseId)]];
    const [row] = await this.#database.run(getLeases, values);
    requireAccess(row?.access, "write");
    if (row === undefined || !isLeaseRow(row)) {
      throw notFound("lease");
    }
    requireState(row, row.now, Lease_State.ACTIVE);
    const variant = this.#variants.of(row);
    if (variant.sizeOfVersion === undefined) {
      throw invalidField("checkpoint_version", "is for a Checkpoint lease");
    }
    return { version, sizeBytes: await variant.sizeOfVersion(row.owner_id, row.lease_id, version) };
  }

  /** The token's version of the server key also made the digests, so that a newer version changes neither. */
  async #findIssued(
    caller: Caller,
    requestId: string,
    request: IssueHandoffRequest,
  ): Promise<IssuedHandoff | undefined> {
    const [row] = await this.#database.run(findIssued, [caller.ownerId, caller.keyId, scopeBits.write, requestId]);
    requireAccess(row?.access, "write");
    const handoff = row === undefined ? undefined : handoffOf(row);
    if (row === undefined || handoff === undefined || !isLeaseRow(row)) {
      return undefined;
    }
    const serverKey = await this.#serverKeys.get(handoff.token_key_version);
    if (row.digests !== null && row.digests.length > 0) {
      requireSameRequest(IssueHandoffRequestSchema, row.digests, digestIssue(serverKey, request));
    }
    const token = tokenOf(serverKey, handoff.handoff_id);
    return { handoff, token, leaseEnd: endOf(row, row.now), now: row.now };
  }
}

function tokenOf(serverKey: ServerKey, handoffId: HandoffUuid): string {
  return deriveToken("claim", serverKey.key, handoffId, 1);
}

function digestIssue(serverKey: ServerKey, request: IssueHandoffRequest): Buffer {
  return digestRequest(serverKey.key, IssueHandoffRequestSchema, request);
}

type IssueRow = MaybeLeaseRow & { readonly now: DatabaseTime; readonly handoff_count: number | null };

function refusedIssue(row: IssueRow | undefined): LeaseholdError {
  if (row === undefined || !isLeaseRow(row)) {
    return notFound("lease");
  }
  requireState(row, row.now, Lease_State.ACTIVE);
  if (row.read_access === Lease_ReadAccess.OWNER) {
    return new LeaseholdError("READ_ACCESS_OWNER", "The lease's read_access is OWNER, so it cannot be handed off.");
  }
  return new LeaseholdError("LIMIT_REACHED", `The lease has ${maxHandoffsPerLease} handoffs, as many as it can have.`, {
    metadata: {
      limit: "handoffs_per_lease",
      limit_value: `${maxHandoffsPerLease}`,
      value: `${row.handoff_count ?? 0}`,
    },
  });
}
