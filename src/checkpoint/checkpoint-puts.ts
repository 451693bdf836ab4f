/** Puts versions: those of one key that come together are one statement, each with an outcome of its own. */
import { type PutCheckpointRequest, PutCheckpointRequestSchema } from "#gen/leasehold/v1/checkpoint_pb.js";
import { type Caller, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import type { Database } from "../database/database.ts";
import { type Again, again, GroupCommit } from "../database/group-commit.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import { digestRequest, requireSameRequest } from "../idempotency/idempotency.ts";
import { formatId, type LeaseUuid } from "../ids/ids.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import { toTimestamp } from "../proto-values/proto-time.ts";
import type { Wakeups } from "../wakeups/wakeups.ts";
import type { CheckpointInit } from "./checkpoint-bodies.ts";
import { defaultContentType, type VersionDetails } from "./checkpoint-details.ts";
import type { CheckpointFiles } from "./checkpoint-files.ts";
import { CheckpointPlaces } from "./checkpoint-places.ts";
import {
  type CheckpointReads,
  type CheckpointTarget,
  type FoundCheckpoint,
  noVersion,
  targetOf,
} from "./checkpoint-reads.ts";
import { CheckpointWriter, type SealedVersion } from "./checkpoint-writer.ts";
import { findPut, type PutRow, putCheckpoints } from "./put-checkpoints-statement.ts";
import { isUnknown, refusedPut } from "./refused-put.ts";

/** What puts need. */
export interface CheckpointPutsOptions {
  readonly database: Database;
  readonly reads: CheckpointReads;
  readonly files: CheckpointFiles;
  readonly seals: LeaseSeals;
  readonly wakeups: Wakeups;
  /** The key that request digests are made with. */
  readonly digestKey: Uint8Array;
}

/** A version to be put. */
interface Put {
  readonly caller: Caller;
  readonly target: CheckpointTarget;
  readonly leaseId: LeaseUuid;
  readonly version: SealedVersion;
  readonly expectedVersion: bigint | undefined;
  readonly repeatable: { readonly requestId: string; readonly digests: Buffer } | undefined;
}

/** A version that was put, now or before. */
interface Written {
  readonly version: bigint;
  readonly putTime: DatabaseTime;
  /** Whether it is this call's body that was stored. */
  readonly isNew: boolean;
}

/** What a body is put for: a request whose body is left out of account. */
export type PutTerms = Omit<PutCheckpointRequest, "body">;

const maxBatch = 64;
/** How many batches of one key are under way at once. */
const lanes = 2;
/** How often a put follows its workflow to a later lease before the server admits a fault. */
const maxTries = 5;

/** Puts versions. */
export class CheckpointPuts {
  readonly #options: CheckpointPutsOptions;
  readonly #batches: GroupCommit<Put, PutRow>;
  readonly #places: CheckpointPlaces;

  constructor(options: CheckpointPutsOptions) {
    this.#options = options;
    this.#places = new CheckpointPlaces(options.reads);
    this.#batches = new GroupCommit({
      maxBatch,
      thingOf: (put) => put.leaseId,
      serve: (_, puts) => this.#serve(puts),
      isRepeatable: (put) => put.repeatable !== undefined,
    });
  }

  /**
   * Puts a body that came in one message.
   *
   * Where its lease is was read before, perhaps by an earlier call: what rests on that is what never changes, and the
   * statement judges the rest. If the workflow has a later lease by then, the body is sealed anew for that.
   */
  async put(caller: Caller, request: PutCheckpointRequest): Promise<CheckpointInit> {
    const target = targetOf(request);
    for (let tries = 0; tries < maxTries; tries++) {
      const place = await this.#places.find(caller, target, BigInt(request.body.length));
      const writer = await this.begin(caller, place);
      const put = await this.#ending(writer, async () => {
        const isTaken = await writer.append(request.body).then(
          () => true,
          (error: unknown) => throwUnlessOver(target, error),
        );
        return isTaken ? await this.#write(caller, target, place, request, writer, writer.digest()) : "moved";
      });
      if (put !== "moved") {
        return put;
      }
      this.#places.forget(caller, target);
    }
    throw new Error(`a workflow moved on ${maxTries} times while one version was put`);
  }

  /** Begins a body that comes in pieces, for a lease that was just found. End it with `finish` or `discard`. */
  async begin(caller: Caller, place: FoundCheckpoint): Promise<CheckpointWriter> {
    const { seals, files } = this.#options;
    return new CheckpointWriter({
      seals,
      files,
      leaseId: place.lease_id,
      key: await seals.keyOf(place),
      sizeBytes: place.size_bytes,
      beginFile: () => files.begin(caller, place.lease_id),
    });
  }

  /** Puts the body that a writer has received. It is for the lease it was begun for, whatever its workflow has done since. */
  async finish(
    caller: Caller,
    place: FoundCheckpoint,
    terms: PutTerms,
    writer: CheckpointWriter,
    sha256: Buffer,
  ): Promise<CheckpointInit> {
    const target = { ...targetOf(terms), leaseId: place.lease_id };
    const put = await this.#ending(writer, () => this.#write(caller, target, place, terms, writer, sha256));
    if (put === "moved") {
      throw new Error("a put to a lease by its id moved on");
    }
    return put;
  }

  /** Ends a writer as its put ended: a file that a version has, or may have, stays. */
  async #ending<Result extends { isNew: boolean; checkpoint: CheckpointInit } | "moved">(
    writer: CheckpointWriter,
    work: () => Promise<Result>,
  ): Promise<CheckpointInit | "moved"> {
    try {
      const result = await work();
      if (result === "moved") {
        await writer.discard();
        return "moved";
      }
      await (result.isNew ? writer.keep() : writer.discard());
      return result.checkpoint;
    } catch (error) {
      await (isUnknown(error) ? writer.keep() : writer.discard());
      throw error;
    }
  }

  async #write(
    caller: Caller,
    target: CheckpointTarget,
    place: FoundCheckpoint,
    terms: PutTerms,
    writer: CheckpointWriter,
    sha256: Buffer,
  ): Promise<{ isNew: boolean; checkpoint: CheckpointInit } | "moved"> {
    const { metadata, expectedVersion } = terms;
    const details = { contentType: terms.contentType || defaultContentType, metadata, sha256 };
    const version = await writer.seal(details);
    const repeatable = this.#repeatable(terms, sha256);
    const put = { caller, target, leaseId: place.lease_id, version, expectedVersion, repeatable };
    const written = await this.#commit(put);
    return written === "moved"
      ? written
      : { isNew: written.isNew, checkpoint: show(place, written, version.bodyBytes, details) };
  }

  /** The lease is the record's scope, however it was named. The body stands in it by its SHA-256. */
  #repeatable(terms: PutTerms, sha256: Buffer): Put["repeatable"] {
    if (terms.requestId === "") {
      return undefined;
    }
    const request = { ...terms, body: sha256 };
    const skip = ["lease_id", "workflow_id"];
    const digests = digestRequest(this.#options.digestKey, PutCheckpointRequestSchema, request, skip);
    return { requestId: terms.requestId.toLowerCase(), digests };
  }

  async #commit(put: Put): Promise<Written | "moved"> {
    const { ownerId, keyId } = put.caller;
    const row = await this.#batches.submit(`${ownerId} ${keyId} ${laneOf(put.leaseId)}`, put);
    requireAccess(row.access, "write");
    if (row.outcome === "DONE" && row.version !== null) {
      this.#options.wakeups.changed(put.leaseId);
      await this.#removePushedOut(put, row.pushed_generation);
      return { version: row.version, putTime: row.now, isNew: true };
    }
    return await this.#refused(put, row);
  }

  /** The look-up of the request_id comes before any refusal: a twin may have put it while this call waited. */
  async #refused(put: Put, row: PutRow): Promise<Written | "moved"> {
    switch (row.outcome) {
      case "ENDED":
      case "NOT_FOUND":
      case "WRONG_VARIANT":
        if (put.target.leaseId === undefined) {
          return "moved";
        }
        await this.#options.reads.find(put.caller, "write", put.target, noVersion);
        throw new Error(`a put was refused for ${row.outcome} by a lease that allows it`);
      default: {
        const before = await this.#findBefore(put);
        if (before !== undefined) {
          return before;
        }
        if (row.outcome === "SEEN") {
          // Its window was over, and the sweeper has forgotten it since.
          return await this.#commit(put);
        }
        throw refusedPut(row, put.expectedVersion);
      }
    }
  }

  async #findBefore({ caller, leaseId, repeatable }: Put): Promise<Written | undefined> {
    if (repeatable === undefined) {
      return undefined;
    }
    const [row] = await this.#options.database.run(findPut, [caller.ownerId, leaseId, repeatable.requestId]);
    if (row === undefined) {
      return undefined;
    }
    if (row.digests.length > 0) {
      requireSameRequest(PutCheckpointRequestSchema, row.digests, repeatable.digests);
    }
    return { version: row.version, putTime: row.put_time, isNew: false };
  }

  /** The put is done whether or not this is: what fails here is tidied. */
  async #removePushedOut({ caller, leaseId }: Put, generation: number | null): Promise<void> {
    if (generation !== null) {
      await this.#options.files.remove({ ownerId: caller.ownerId, leaseId, generation }).catch(() => undefined);
    }
  }

  async #serve(puts: readonly Put[]): Promise<readonly (PutRow | Again)[]> {
    const [first] = puts;
    if (first === undefined) {
      return [];
    }
    const sealed = puts.flatMap(({ version }) => [version.sealedDetails, version.sealedTail]);
    const rows = await this.#options.database.run(putCheckpoints, [
      first.caller.ownerId,
      first.caller.keyId,
      scopeBits.write,
      puts.map((put) => put.leaseId),
      puts.map((put) => put.expectedVersion ?? null),
      puts.map((put) => put.repeatable?.requestId ?? null),
      puts.map((put) => put.repeatable?.digests ?? null),
      puts.map((put) => put.version.bodyId),
      puts.map((put) => put.version.bodyBytes),
      puts.map((put) => put.version.fileGeneration),
      puts.map((put) => put.version.fileChunks),
      puts.map((put) => put.version.sealedDetails.length),
      puts.map((put) => put.version.sealedTail.length),
      Buffer.concat(sealed),
    ]);
    return rows.map((row) => (row.outcome === "AGAIN" ? again : row));
  }
}

/** Puts to different leases meet on no row: while one batch is committed, another is sealed and sent. */
function laneOf(leaseId: LeaseUuid): number {
  return Number.parseInt(leaseId.slice(-2), 16) % lanes;
}

/** Gives false if the lease that a workflow was thought to have is over: it may have a later one. */
function throwUnlessOver(target: CheckpointTarget, error: unknown): false {
  if (target.leaseId === undefined && error instanceof LeaseholdError && error.reason === "LEASE_ENDED") {
    return false;
  }
  throw error;
}

/** What was put, from the request: it is not read again, and a version that was found by its request_id may be gone. */
function show(place: FoundCheckpoint, written: Written, bodyBytes: bigint, details: VersionDetails): CheckpointInit {
  return {
    leaseId: formatId("lse", place.lease_id),
    workflowId: place.workflow_id,
    version: written.version,
    bodyBytes,
    ...details,
    createTime: toTimestamp(written.putTime),
  };
}
