/** Finds checkpoints for those who may read them: by lease, by workflow or by both, many look-ups in one round trip. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { type Caller, requireAccess } from "../account/caller.ts";
import { type ScopeName, scopeBits } from "../account/scopes.ts";
import type { Database } from "../database/database.ts";
import { GroupCommit } from "../database/group-commit.ts";
import { invalidField, notFound } from "../errors/leasehold-error.ts";
import type { AccountUuid, KeyUuid, LeaseUuid } from "../ids/ids.ts";
import { endOf, isLeaseRow, type LeaseRow, requireLive, requireVariant } from "../lease/lease-row.ts";
import { leaseUuidOf } from "../lease/lease-service.ts";
import type { CallerColumns } from "../lease/lease-statements.ts";
import { type FoundRow, isVersionRow, type KeptVersion, missingVersion } from "./checkpoint-row.ts";
import { findCheckpoints, getCheckpoints } from "./checkpoint-statements.ts";

/** Which lease a call is for: at least one of the two. */
export interface CheckpointTarget {
  readonly leaseId: LeaseUuid | undefined;
  readonly workflowId: string | undefined;
}

/** A live Checkpoint lease, with the version that was asked for if it is there. */
export type FoundCheckpoint = Extract<FoundRow, LeaseRow> & {
  readonly workflow_id: string;
  readonly retained_versions: number;
  /** When the statement was sent, as `performance.now()` tells it. */
  readonly askedAtMs: number;
};

/** Asks for a lease without any version of it. */
export const noVersion = -1n;
/** Asks for the latest version. */
export const latestVersion = 0n;

interface Question {
  readonly ownerId: AccountUuid;
  readonly keyId: KeyUuid;
  readonly scope: ScopeName;
  readonly target: CheckpointTarget;
  readonly version: bigint;
}

/** Finds checkpoints. Look-ups of one owner that come together are one round trip. */
export class CheckpointReads {
  readonly #database: Database;
  readonly #ofCallers: GroupCommit<Question, CallerColumns & FoundRow>;
  readonly #allowed: GroupCommit<{ readonly leaseId: LeaseUuid; readonly version: bigint }, FoundRow>;

  constructor(database: Database) {
    this.#database = database;
    this.#ofCallers = new GroupCommit({ serve: (_, questions) => this.#get(questions) });
    this.#allowed = new GroupCommit({
      serve: (ownerId, asked) =>
        database.run(findCheckpoints, [
          ownerId,
          asked.map(({ leaseId }) => leaseId),
          asked.map(({ version }) => version),
        ]),
    });
  }

  /**
   * The lease that a caller means, which lives, with a version.
   *
   * By its workflow alone a lease is found while it is active. One that is over is like one that never was, since its
   * workflow goes with its content.
   *
   * @throws LeaseholdError NOT_FOUND, LEASE_ENDED, WRONG_VARIANT, or the refusal of the key.
   */
  async find(caller: Caller, scope: ScopeName, target: CheckpointTarget, version: bigint): Promise<FoundCheckpoint> {
    const askedAtMs = performance.now();
    const { ownerId, keyId } = caller;
    const row = await this.#ofCallers.submit(`${ownerId} ${scope}`, { ownerId, keyId, scope, target, version });
    requireAccess(row.access, scope);
    if (!isLeaseRow(row) || (target.leaseId === undefined && endOf(row, row.now) !== undefined)) {
      throw notFound("lease");
    }
    requireLive(row, row.now);
    requireVariant(row, Lease_Variant.CHECKPOINT, "checkpoints");
    const { workflow_id, retained_versions } = row;
    if (workflow_id === null || retained_versions === null) {
      throw notFound("lease");
    }
    if (target.workflowId !== undefined && target.workflowId !== workflow_id) {
      throw notFound("lease");
    }
    return { ...row, workflow_id, retained_versions, askedAtMs };
  }

  /**
   * As find, and the version is there.
   *
   * @throws LeaseholdError as find does, VERSION_GONE, or NOT_FOUND if there never was such a version.
   */
  async findVersion(caller: Caller, target: CheckpointTarget, version: bigint): Promise<FoundCheckpoint & KeptVersion> {
    const found = await this.find(caller, "read", target, version);
    if (!isVersionRow(found)) {
      throw missingVersion(found, version);
    }
    return found;
  }

  /**
   * A version of a lease that an earlier statement has allowed to be read. Neither 0 nor less.
   *
   * @throws LeaseholdError LEASE_ENDED, VERSION_GONE or NOT_FOUND.
   */
  async findAllowed(ownerId: AccountUuid, leaseId: LeaseUuid, version: bigint): Promise<KeptVersion> {
    const row = await this.#allowed.submit(ownerId, { leaseId, version });
    if (!isLeaseRow(row)) {
      throw notFound("lease");
    }
    requireLive(row, row.now);
    const { workflow_id, retained_versions } = row;
    if (!isVersionRow(row) || workflow_id === null || retained_versions === null) {
      throw missingVersion(row, version);
    }
    return { ...row, workflow_id, retained_versions };
  }

  #get(questions: readonly Question[]): Promise<(CallerColumns & FoundRow)[]> {
    const [first] = questions;
    if (first === undefined) {
      return Promise.resolve([]);
    }
    return this.#database.run(getCheckpoints, [
      first.ownerId,
      questions.map(({ keyId }) => keyId),
      scopeBits[first.scope],
      questions.map(({ target }) => target.leaseId ?? null),
      questions.map(({ target }) => target.workflowId ?? null),
      questions.map(({ version }) => version),
    ]);
  }
}

/**
 * Which lease a request is for.
 *
 * @throws LeaseholdError INVALID_FIELD if it names none.
 */
export function targetOf(request: { readonly leaseId: string; readonly workflowId: string }): CheckpointTarget {
  const { leaseId, workflowId } = request;
  if (leaseId === "" && workflowId === "") {
    throw invalidField("lease_id", "or workflow_id must be set");
  }
  return {
    leaseId: leaseId === "" ? undefined : leaseUuidOf(leaseId),
    workflowId: workflowId === "" ? undefined : workflowId,
  };
}
