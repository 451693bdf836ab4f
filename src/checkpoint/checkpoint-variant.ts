/** Checkpoint as the primitive sees it: the latest bodies of one workflow, each put by its owner. */
import type { CheckpointSpec, InitialCheckpoint } from "#gen/leasehold/v1/checkpoint_pb.js";
import { type CreateLeaseRequest, Lease_Variant, Lease_WriteAccess } from "#gen/leasehold/v1/lease_pb.js";
import { removeOrphanedLeases } from "../content/orphaned-leases.ts";
import type { Database } from "../database/database.ts";
import { LeaseholdError, outOfBounds } from "../errors/leasehold-error.ts";
import { type AccountUuid, formatId, type LeaseUuid } from "../ids/ids.ts";
import type { LeaseRow } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import {
  asStream,
  type ContentItem,
  type CreationRows,
  type EndedLease,
  type LeaseContent,
  type LeaseDetails,
  type LeaseSpecification,
  type LeaseVariant,
  type NewLease,
  type OpenedLease,
  type VariantCreation,
  type VariantQuoting,
} from "../lease/lease-variant.ts";
import { describeBytesSeconds, type PriceFactor, type VariantTerms } from "../pricing/variant-terms.ts";
import type { CheckpointBodies } from "./checkpoint-bodies.ts";
import { type CheckpointTerms, creationCtes, creationRefusal } from "./checkpoint-creation-statement.ts";
import {
  defaultContentType,
  defaultRetainedVersions,
  maxRetainedVersions,
  packDetails,
  unpackDetails,
} from "./checkpoint-details.ts";
import type { CheckpointFiles } from "./checkpoint-files.ts";
import type { CheckpointReads } from "./checkpoint-reads.ts";
import { deleteCheckpoints, findCheckpointOrphans, findHolder } from "./checkpoint-statements.ts";
import { CheckpointWriter, requireRoom } from "./checkpoint-writer.ts";

/** What the variant needs. */
export interface CheckpointVariantOptions {
  readonly database: Database;
  readonly seals: LeaseSeals;
  readonly reads: CheckpointReads;
  readonly bodies: CheckpointBodies;
  readonly files: CheckpointFiles;
  /** The largest size_bytes. */
  readonly maxFileBytes: bigint;
}

/** The Checkpoint variant. */
export class CheckpointVariant implements LeaseVariant {
  readonly variant = Lease_Variant.CHECKPOINT;
  readonly name = "checkpoint";
  readonly writeAccess = Lease_WriteAccess.OWNER;
  readonly waitsForContent = false;
  readonly hasOneItem = true;
  readonly pricing: VariantTerms;
  readonly creation: VariantCreation;
  readonly quoting: VariantQuoting = {
    fields: ["retainedVersions"],
    priceOf: ({ retainedVersions }) => ({ factor: factorOf(retainedVersions) }),
  };
  readonly #options: CheckpointVariantOptions;

  constructor(options: CheckpointVariantOptions) {
    this.#options = options;
    this.pricing = {
      formula: "bytes_seconds",
      description: describeBytesSeconds({ times: "max(1, retained_versions / 10)" }),
      sizeMeaning: "the largest body of a version",
      minSizeBytes: 1n,
      maxSizeBytes: options.maxFileBytes,
    };
    this.creation = {
      refusal: creationRefusal,
      ctes: creationCtes,
      refuse: (_, ownerId, request) => this.#workflowInUse(ownerId, specOf(request).workflowId),
    };
  }

  specify(request: CreateLeaseRequest): LeaseSpecification {
    const { workflowId, retainedVersions, initial } = specOf(request);
    requireRoom(request.sizeBytes, BigInt(initial?.body.length ?? 0));
    const retained = retainedVersions || defaultRetainedVersions;
    return {
      details: packDetails({ workflowId, retainedVersions: retained }),
      price: { factor: factorOf(retained) },
      uniqueKey: `checkpoint ${workflowId}`,
      rows: (lease) => this.#rows(lease, { workflow_id: workflowId, retained_versions: retained }, initial, request),
    };
  }

  details(leases: readonly OpenedLease[]): readonly LeaseDetails[] {
    return leases.map(detailsOf);
  }

  /** Version 0, before anything was put, is one empty item. */
  async openContent(lease: LeaseRow, version: bigint): Promise<LeaseContent> {
    if (version === 0n) {
      return oneItem({ contentType: defaultContentType, sizeBytes: 0n, sha256: new Uint8Array(), read: noBytes });
    }
    const { reads, bodies } = this.#options;
    const kept = await reads.findAllowed(lease.owner_id, lease.lease_id, version);
    const { contentType, metadata, sha256 } = await bodies.details(kept, kept);
    return oneItem({
      contentType,
      sizeBytes: kept.body_bytes,
      sha256,
      attributes: metadata,
      createTime: kept.put_time,
      read: (offset, limitBytes) => bodies.read(kept, offset, limitBytes),
    });
  }

  async sizeOfVersion(ownerId: AccountUuid, leaseId: LeaseUuid, version: bigint): Promise<bigint> {
    return (await this.#options.reads.findAllowed(ownerId, leaseId, version)).body_bytes;
  }

  async destroy(leases: readonly EndedLease[]): Promise<void> {
    const { database, files } = this.#options;
    const leaseIds = leases.map((lease) => lease.leaseId);
    await files.store.destroyLeases(leaseIds);
    await database.run(deleteCheckpoints, [leases.map((lease) => lease.ownerId), leaseIds], { repeatable: true });
  }

  removeOrphans(): Promise<number> {
    const { database, files } = this.#options;
    return removeOrphanedLeases(files.store, async (candidates) => {
      const orphans = await database.run(findCheckpointOrphans, [candidates]);
      return orphans.map((orphan) => orphan.lease_id);
    });
  }

  tidy(limit: number): Promise<number> {
    return this.#options.files.tidy(limit);
  }

  /** The first version is sealed under the new lease's key, its file made before the lease is. */
  async #rows(
    lease: NewLease,
    terms: CheckpointTerms,
    initial: InitialCheckpoint | undefined,
    request: CreateLeaseRequest,
  ): Promise<CreationRows> {
    if (initial === undefined) {
      return { terms: { ...terms } };
    }
    const { seals, files } = this.#options;
    const { leaseId, ownerId, key } = lease;
    const beginFile = () => files.beginFirst(ownerId, leaseId);
    const writer = new CheckpointWriter({ seals, files, leaseId, key, sizeBytes: request.sizeBytes, beginFile });
    try {
      await writer.append(initial.body);
      const { metadata } = initial;
      const contentType = initial.contentType || defaultContentType;
      const version = await writer.seal({ contentType, metadata, sha256: writer.digest() });
      await writer.keep();
      const first = {
        body_id: version.bodyId,
        file_generation: version.fileGeneration,
        file_chunks: version.fileChunks,
        sealed_details: version.sealedDetails.toString("hex"),
      };
      return {
        terms: { ...terms, first },
        content: version.sealedTail,
        contentBytes: version.bodyBytes,
        contentVersion: 1n,
        undo: () => writer.discard(),
      };
    } catch (error) {
      await writer.discard();
      throw error;
    }
  }

  /** The holder is read anew: it may be over by now, and the workflow is free then. */
  async #workflowInUse(ownerId: string, workflowId: string): Promise<LeaseholdError | undefined> {
    const [row] = await this.#options.database.run(findHolder, [ownerId, workflowId]);
    const holder = row?.lease_id ?? null;
    if (holder === null) {
      return undefined;
    }
    const leaseId = formatId("lse", holder);
    return new LeaseholdError(
      "WORKFLOW_IN_USE",
      `The lease ${leaseId} has the workflow "${workflowId}": use that lease, or end it.`,
      { metadata: { workflow_id: workflowId, lease_id: leaseId } },
    );
  }
}

/** Up to the default, versions are free. */
function factorOf(retainedVersions: number): PriceFactor {
  if (retainedVersions > maxRetainedVersions) {
    throw outOfBounds("retained_versions", BigInt(retainedVersions), 1n, BigInt(maxRetainedVersions));
  }
  const free = defaultRetainedVersions;
  return { numerator: BigInt(Math.max(retainedVersions, free)), denominator: BigInt(free) };
}

function specOf(request: CreateLeaseRequest): CheckpointSpec {
  if (request.variant.case !== "checkpoint") {
    throw new Error("a Checkpoint lease is made from its own arm of the request");
  }
  return request.variant.value;
}

function oneItem(item: Omit<ContentItem, "startOffset" | "name">): LeaseContent {
  const whole = { ...item, startOffset: 0n, name: "" };
  return { totalBytes: item.sizeBytes, itemCount: 1n, items: () => asStream([whole]) };
}

async function* noBytes(): AsyncGenerator<Uint8Array> {
  yield* [];
}

function detailsOf({ lease, sealed }: OpenedLease): LeaseDetails {
  const latest = { latestVersion: lease.content_version, latestBytes: lease.content_bytes };
  return { case: "checkpoint", value: { ...unpackDetails(sealed), ...latest } };
}
