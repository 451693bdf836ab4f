/** Storage as the primitive sees it: one body of bytes, written once by its owner. */
import { type CreateLeaseRequest, Lease_State, Lease_Variant, Lease_WriteAccess } from "#gen/leasehold/v1/lease_pb.js";
import type { ContentStore } from "../content/content-store.ts";
import { removeOrphanedLeases } from "../content/orphaned-leases.ts";
import type { Database } from "../database/database.ts";
import { GroupCommit } from "../database/group-commit.ts";
import { notFound } from "../errors/leasehold-error.ts";
import { isLeaseRow, type LeaseRow, requireState } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import {
  asStream,
  type EndedLease,
  type LeaseContent,
  type LeaseDetails,
  type LeaseSpecification,
  type LeaseVariant,
  type OpenedLease,
} from "../lease/lease-variant.ts";
import { describeBytesSeconds, type VariantTerms } from "../pricing/variant-terms.ts";
import type { StorageBodies } from "./storage-body.ts";
import { defaultContentType, packDetails, unpackDetails } from "./storage-details.ts";
import { deleteBodies, findBodies, findOrphansAmong } from "./storage-statements.ts";

/** What the variant needs. */
export interface StorageVariantOptions {
  readonly database: Database;
  readonly seals: LeaseSeals;
  readonly store: ContentStore;
  readonly bodies: StorageBodies;
  /** The largest size_bytes. */
  readonly maxFileBytes: bigint;
}

type FoundBody = NonNullable<(typeof findBodies)["row"]>;

/** The Storage variant. */
export class StorageVariant implements LeaseVariant {
  readonly variant = Lease_Variant.STORAGE;
  readonly name = "storage";
  readonly writeAccess = Lease_WriteAccess.OWNER_ONCE;
  readonly waitsForContent = true;
  readonly hasOneItem = true;
  readonly pricing: VariantTerms;
  readonly #options: StorageVariantOptions;
  /** Claims of one owner's leases that come together find their bodies in one round trip. */
  readonly #lookUps: GroupCommit<string, FoundBody>;

  constructor(options: StorageVariantOptions) {
    this.#options = options;
    this.#lookUps = new GroupCommit({ serve: (owner, leases) => options.database.run(findBodies, [owner, leases]) });
    this.pricing = {
      formula: "bytes_seconds",
      description: describeBytesSeconds(),
      sizeMeaning: "the most bytes the body may have",
      minSizeBytes: 1n,
      maxSizeBytes: options.maxFileBytes,
    };
  }

  specify(request: CreateLeaseRequest): LeaseSpecification {
    const spec = request.variant.case === "storage" ? request.variant.value : undefined;
    const details = packDetails({
      fileName: spec?.fileName ?? "",
      contentType: spec?.contentType || defaultContentType,
      sha256: new Uint8Array(),
    });
    return { details };
  }

  details(leases: readonly OpenedLease[]): readonly LeaseDetails[] {
    return leases.map(detailsOf);
  }

  async openContent(lease: LeaseRow): Promise<LeaseContent> {
    const { bodies, seals } = this.#options;
    const row = await this.#lookUps.submit(lease.owner_id, lease.lease_id);
    if (!isLeaseRow(row)) {
      throw notFound("lease");
    }
    requireState(row, row.now, Lease_State.ACTIVE);
    const details = unpackDetails(await seals.openDetails(row));
    const item = {
      startOffset: 0n,
      name: details.fileName,
      contentType: details.contentType,
      sizeBytes: row.content_bytes,
      sha256: details.sha256,
      read: (offset: bigint, limitBytes: bigint) => bodies.read(row, offset, limitBytes),
    };
    return { totalBytes: row.content_bytes, itemCount: 1n, items: () => asStream([item]) };
  }

  async destroy(leases: readonly EndedLease[]): Promise<void> {
    const { database, store } = this.#options;
    await store.destroyLeases(leases.map((lease) => lease.leaseId));
    await database.run(deleteBodies, [leases.map((lease) => lease.ownerId), leases.map((lease) => lease.leaseId)], {
      repeatable: true,
    });
  }

  removeOrphans(): Promise<number> {
    const { database, store } = this.#options;
    return removeOrphanedLeases(store, async (candidates) => {
      const orphans = await database.run(findOrphansAmong, [candidates]);
      return orphans.map((orphan) => orphan.lease_id);
    });
  }
}

function detailsOf({ lease, sealed }: OpenedLease): LeaseDetails {
  return { case: "storage", value: { ...unpackDetails(sealed), storedBytes: lease.content_bytes } };
}
