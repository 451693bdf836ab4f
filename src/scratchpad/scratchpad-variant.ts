/** Scratchpad as the primitive sees it: entries by key, which the owner's workers share for a short time. */
import { type CreateLeaseRequest, Lease_Variant, Lease_WriteAccess } from "#gen/leasehold/v1/lease_pb.js";
import type { Database, Transaction } from "../database/database.ts";
import { invalidField, outOfBounds } from "../errors/leasehold-error.ts";
import type { AccountUuid, LeaseUuid } from "../ids/ids.ts";
import type { LeaseRow } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import type {
  DeliveredContent,
  Delivery,
  DeliveryOutcome,
  EndedLease,
  LeaseContent,
  LeaseDetails,
  LeaseSpecification,
  LeaseVariant,
  OpenedLease,
  VariantCreation,
} from "../lease/lease-variant.ts";
import { describeBytesSeconds, type VariantTerms } from "../pricing/variant-terms.ts";
import type { Wakeups } from "../wakeups/wakeups.ts";
import { deliverEntries } from "./entry-delivery.ts";
import type { EntryExpiry } from "./entry-expiry.ts";
import type { EntryGathering } from "./entry-gathering.ts";
import { entryTooLarge } from "./refused-write.ts";
import { openSnapshot } from "./scratchpad-content.ts";
import { deleteScratchpad } from "./scratchpad-content-statements.ts";
import { scratchpadCreation } from "./scratchpad-creation-statement.ts";
import { packScratchpad, specifiedScratchpad, unpackScratchpad } from "./scratchpad-details.ts";

/** What the variant needs. */
export interface ScratchpadVariantOptions {
  readonly database: Database;
  readonly seals: LeaseSeals;
  readonly expiry: EntryExpiry;
  readonly wakeups: Wakeups;
  readonly gathering: EntryGathering;
  /** The longest duration, in seconds. */
  readonly maxDurationSeconds: number;
}

/** Entries lie in rows: a scratchpad is not to fill the database. */
const maxScratchpadBytes = 1_073_741_824n;
/** How many rows of a kind one statement deletes: none takes long, and what is done stays done. */
const batchRows = 5_000;

/** The Scratchpad variant. */
export class ScratchpadVariant implements LeaseVariant {
  readonly variant = Lease_Variant.SCRATCHPAD;
  readonly name = "scratchpad";
  readonly writeAccess = Lease_WriteAccess.OWNER;
  readonly waitsForContent = false;
  readonly hasOneItem = false;
  readonly creation: VariantCreation = scratchpadCreation;
  readonly pricing: VariantTerms;
  readonly #options: ScratchpadVariantOptions;

  constructor(options: ScratchpadVariantOptions) {
    this.#options = options;
    this.pricing = {
      formula: "bytes_seconds",
      description: describeBytesSeconds(),
      sizeMeaning: "all entries together: their keys and values, 256 bytes for each, and 128 for each append",
      minSizeBytes: 1_024n,
      maxSizeBytes: maxScratchpadBytes,
      maxDurationSeconds: BigInt(options.maxDurationSeconds),
    };
  }

  specify(request: CreateLeaseRequest): LeaseSpecification {
    if (request.variant.case !== "scratchpad") {
      throw new Error("a Scratchpad lease is made from its own arm of the request");
    }
    const details = specifiedScratchpad(request.variant.value, request.sizeBytes);
    if (BigInt(details.maxEntryBytes) > request.sizeBytes) {
      throw outOfBounds("max_entry_bytes", BigInt(details.maxEntryBytes), 1n, request.sizeBytes);
    }
    return {
      details: packScratchpad(details),
      rows: async () => ({ terms: { max_entry_bytes: details.maxEntryBytes } }),
    };
  }

  details(leases: readonly OpenedLease[]): readonly LeaseDetails[] {
    return leases.map(detailsOf);
  }

  async openContent(lease: LeaseRow, version: bigint): Promise<LeaseContent> {
    return await openSnapshot(this.#options, lease, version);
  }

  async checkDelivery(target: LeaseRow, { bodyBytes, place }: DeliveredContent): Promise<void> {
    const sealed = await this.#options.seals.openDetails(target);
    const limitBytes = sealed === undefined ? 0 : unpackScratchpad(sealed).maxEntryBytes;
    if (bodyBytes > limitBytes) {
      throw entryTooLarge(limitBytes, bodyBytes);
    }
    if (place === "") {
      throw invalidField("scratchpad_key", "must be set");
    }
  }

  async deliver(transaction: Transaction, deliveries: readonly Delivery[]): Promise<readonly DeliveryOutcome[]> {
    return await deliverEntries(transaction, this.#options.seals, deliveries);
  }

  delivered(leaseId: LeaseUuid): void {
    this.#options.wakeups.changed(leaseId);
  }

  async refresh(ownerId: AccountUuid, leaseId: LeaseUuid): Promise<void> {
    await this.#options.expiry.expire(ownerId, leaseId);
  }

  /**
   * A write that waited for the lease's lock finds the lease ended and adds nothing; one before it was committed before
   * the end.
   */
  async destroy(leases: readonly EndedLease[]): Promise<void> {
    for (const { ownerId, leaseId } of leases) {
      let mayBeMore = true;
      while (mayBeMore) {
        const values = [ownerId, leaseId, batchRows];
        const [deleted] = await this.#options.database.run(deleteScratchpad, values, { repeatable: true });
        mayBeMore = [deleted?.entries, deleted?.appends, deleted?.kept].some((count) => Number(count) >= batchRows);
      }
    }
  }

  async removeOrphans(): Promise<number> {
    return 0;
  }

  async tidy(limit: number): Promise<number> {
    const { expiry, gathering } = this.#options;
    return (await expiry.tidy(limit)) + (await gathering.tidy(limit));
  }
}

function detailsOf({ lease, sealed }: OpenedLease): LeaseDetails {
  if (sealed === undefined) {
    return { case: "scratchpad", value: {} };
  }
  const value = {
    ...unpackScratchpad(sealed),
    entryCount: lease.content_items,
    usedBytes: lease.content_bytes + lease.overhead_bytes,
    version: lease.content_version,
  };
  return { case: "scratchpad", value };
}
