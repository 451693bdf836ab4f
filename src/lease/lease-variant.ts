/** What a variant hands to the primitive: the one object through which leases, handoffs and the sweeper work with it. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Registry } from "prom-client";
import type { CronSchedule } from "#gen/leasehold/v1/cron_pb.js";
import type { CreateLeaseRequest, Lease_Variant, Lease_WriteAccess, LeaseSchema } from "#gen/leasehold/v1/lease_pb.js";
import type { Transaction } from "../database/database.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import type { AccountUuid, KeyUuid, LeaseUuid } from "../ids/ids.ts";
import type { PricedExtras } from "../pricing/price.ts";
import type { VariantTerms } from "../pricing/variant-terms.ts";
import type { LeaseRow } from "./lease-row.ts";

/** The arm of `Lease.details` that a variant fills. */
export type LeaseDetails = NonNullable<MessageInitShape<typeof LeaseSchema>["details"]>;

/** One kind of lease. */
export interface LeaseVariant {
  readonly variant: Lease_Variant;
  /** The name of its arm in CreateLeaseRequest, of its quotes and of its metrics: lower case. */
  readonly name: string;
  readonly writeAccess: Lease_WriteAccess;
  readonly pricing: VariantTerms;
  /** Whether a new lease waits in CREATED for its content, and is refunded if that never comes. */
  readonly waitsForContent: boolean;
  /** Whether its content is one item at any time, so that plain HTTP can carry a claim of it. */
  readonly hasOneItem: boolean;
  /** Whether its leases fire, which is charged for. */
  readonly fires?: boolean;
  /** What a quote is asked beside size and duration. */
  readonly quoting?: VariantQuoting;
  /** What a new lease needs in rows of the variant's own, in the commit that charges for it. */
  readonly creation?: VariantCreation;

  /**
   * Checks its arm of the request, beyond the rules in the schema, and says what is to be kept of it.
   *
   * @throws LeaseholdError if the arm is refused. Nothing is charged then.
   */
  specify(request: CreateLeaseRequest): LeaseSpecification | Promise<LeaseSpecification>;

  /** Fills `Lease.details` of each lease, in order. What it needs of the variant's own rows is read for all of them at once. */
  details(leases: readonly OpenedLease[]): readonly LeaseDetails[] | Promise<readonly LeaseDetails[]>;

  /** The secrets that come with a new lease, and with a live one to a repeat of the call. The same each time. */
  secretsOf?(lease: LeaseRow): Promise<LeaseSecrets>;

  /** Removes from a lease's content what time has ended in it, before a claim of it is made. */
  refresh?(ownerId: AccountUuid, leaseId: LeaseUuid): Promise<void>;

  /**
   * Opens the content that a claim delivers, at a `content_version` that the lease has or had. The lease is active.
   *
   * @throws LeaseholdError VERSION_GONE if that version's content is not there any more.
   */
  openContent(lease: LeaseRow, version: bigint): Promise<LeaseContent>;

  /**
   * The size of one version's content, for a handoff that keeps to it. A variant that has this pushes versions out by
   * later ones, whatever claims were made of them. Absent: what was claimed stays readable as long as the claim is open.
   */
  sizeOfVersion?(ownerId: AccountUuid, leaseId: LeaseUuid, version: bigint): Promise<bigint>;

  /**
   * Checks that deliveries such as this can be made to a lease of its, which is live.
   *
   * @throws LeaseholdError if the lease could never take it. Absent: leases of the variant take no deliveries.
   */
  checkDelivery?(target: LeaseRow, delivery: DeliveredContent): Promise<void>;

  /**
   * Adds content to leases of one owner, in a transaction that has locked their rows: it is there if that commits. An
   * outcome for each delivery, in order.
   */
  deliver?(transaction: Transaction, deliveries: readonly Delivery[]): Promise<readonly DeliveryOutcome[]>;

  /** Wakes those who wait for a lease. Called when the transaction of a delivery to it is committed. */
  delivered?(leaseId: LeaseUuid): void;

  /** Destroys every row and file of leases that have ended. Safe to repeat after a crash at any step. */
  destroy(leases: readonly EndedLease[]): Promise<void>;

  /** Removes what no row accounts for: leftovers of crashes. Called now and then by the sweeper. */
  removeOrphans(): Promise<number>;

  /** How long the most overdue work has waited that is the variant's alone, in seconds. */
  overdueSeconds?(): Promise<number>;

  /** Adds figures of the variant's own to a server's metrics. */
  addFigures?(registry: Registry): void;

  /** Removes what is due to go while its lease lives. Called by the sweeper, often. Gives how much that was. */
  tidy?(limit: number): Promise<number>;
}

/** What a quote is asked, beside size and duration. Unset is 0, undefined or empty. */
export interface QuotedTerms {
  readonly durationSeconds: bigint;
  readonly retainedVersions: number;
  readonly schedule: CronSchedule | undefined;
  readonly timeZone: string;
}

/** How a variant's price depends on more than size and duration. */
export interface VariantQuoting {
  /** The fields of the quote that it depends on. The others are refused. */
  readonly fields: readonly (keyof QuotedTerms)[];
  /** @throws LeaseholdError for terms that a lease could not be made with. */
  priceOf(asked: QuotedTerms): PricedExtras | Promise<PricedExtras>;
}

/** What one lease delivers to another. */
export interface DeliveredContent {
  readonly bodyBytes: number;
  /** Where in the lease it goes, if that has places: a key. */
  readonly place: string;
}

/** What is delivered to a lease. */
export interface Delivery extends Pick<DeliveredContent, "place"> {
  readonly target: LeaseRow;
  readonly body: Uint8Array;
  readonly contentType: string;
  readonly attributes: Readonly<Record<string, string>>;
}

/** What became of a delivery. REFUSED: not now, for the reason of an error that a caller would have got. */
export type DeliveryOutcome =
  | { readonly outcome: "DELIVERED" }
  | { readonly outcome: "TARGET_ENDED" }
  | { readonly outcome: "REFUSED"; readonly reason: string };

/** A lease whose details are to be shown. */
export interface OpenedLease {
  readonly lease: LeaseRow;
  /** What was sealed of it. Undefined once it has ended. */
  readonly sealed: Uint8Array | undefined;
}

/** What is to be kept of a request. */
export interface LeaseSpecification {
  /** What the lease keeps sealed for the variant as long as it lives. */
  readonly details: Uint8Array;
  /** What the price depends on beside size and duration. */
  readonly price?: PricedExtras;
  /** Of those that an owner makes together, one at a time has this. */
  readonly uniqueKey?: string;
  /** What the variant's own rows are made from. */
  readonly rows?: (lease: NewLease) => Promise<CreationRows>;
}

/** A lease that is about to be made. */
export interface NewLease {
  readonly ownerId: AccountUuid;
  /** The API key that pays. */
  readonly keyId: KeyUuid;
  readonly leaseId: LeaseUuid;
  /** The lease's key. */
  readonly key: Uint8Array;
}

/** What the statement that makes leases knows of one beside its axes. */
export interface CreationRows {
  /** `p.terms` in the creation's SQL. */
  readonly terms: Readonly<Record<string, unknown>>;
  /** `p.content` in the creation's SQL. */
  readonly content?: Uint8Array;
  readonly contentBytes?: bigint;
  readonly contentVersion?: bigint;
  /** Takes back what was done for the rows beside them. Called when the lease was not made, if that is known. */
  readonly undo?: () => Promise<void>;
}

/** A variant's part of the statement that makes leases. $1 is the owner, whose account is locked. */
export interface VariantCreation {
  /** An expression over `i.terms`: the reason to refuse an item of the variant, or null. Read after the wait for the lock. */
  readonly refusal?: string;
  /** CTEs that write the rows of the leases in `paid p` that are of this variant: `p.lease_id`, `p.now`, `p.terms`, `p.content`. */
  readonly ctes: string;
  /** The error of a refusal. Undefined: its reason is over by now, and the lease is to be made. */
  refuse?(refusal: string, ownerId: AccountUuid, request: CreateLeaseRequest): Promise<LeaseholdError | undefined>;
}

/** What is shown with a new lease and nowhere else. */
export interface LeaseSecrets {
  readonly dropToken?: string;
  readonly webhookSecret?: string;
}

/** A lease whose content is to be destroyed. */
export interface EndedLease {
  readonly ownerId: AccountUuid;
  readonly leaseId: LeaseUuid;
}

/** The content of a lease as a handoff delivers it: items one after the other, in one range of offsets. */
export interface LeaseContent {
  readonly totalBytes: bigint;
  readonly itemCount: bigint;
  /** The items in order, from the one that an offset lies in. Those that end at it or before are left out, unless it is 0. */
  items(offset: bigint): AsyncIterable<ContentItem>;
}

/** One item of a lease's content. */
export interface ContentItem {
  /** Where it starts, in bytes of all items together. */
  readonly startOffset: bigint;
  readonly name: string;
  readonly contentType: string;
  readonly sizeBytes: bigint;
  /** SHA-256 of the item, or empty if it is not known. */
  readonly sha256: Uint8Array;
  readonly attributes?: Readonly<Record<string, string>>;
  readonly createTime?: DatabaseTime;
  /** Reads from an offset within the item, at most limitBytes, in pieces of bounded size. */
  read(offset: bigint, limitBytes: bigint): AsyncIterable<Uint8Array>;
}

/** Items that are known beforehand, as content gives them. */
export async function* asStream<Item>(items: readonly Item[]): AsyncGenerator<Item> {
  yield* items;
}

/** The variants a server serves. */
export class LeaseVariants {
  readonly #byNumber: ReadonlyMap<number, LeaseVariant>;
  readonly #byName: ReadonlyMap<string, LeaseVariant>;
  readonly all: readonly LeaseVariant[];

  constructor(variants: readonly LeaseVariant[]) {
    this.all = variants;
    this.#byNumber = new Map(variants.map((variant) => [variant.variant, variant]));
    this.#byName = new Map(variants.map((variant) => [variant.name, variant]));
  }

  /** The variant of a stored lease. */
  of(lease: Pick<LeaseRow, "variant">): LeaseVariant {
    const variant = this.#byNumber.get(lease.variant);
    if (variant === undefined) {
      throw new Error(`the database holds a lease of variant ${lease.variant}, which this version does not know`);
    }
    return variant;
  }

  /**
   * The variant a caller named.
   *
   * @throws LeaseholdError INVALID_FIELD if there is none of this name.
   */
  named(name: string | undefined): LeaseVariant {
    const variant = name === undefined ? undefined : this.#byName.get(name);
    if (variant === undefined) {
      const names = [...this.#byName.keys()].join(", ");
      throw new LeaseholdError("INVALID_FIELD", `There is no variant "${name ?? ""}": use one of ${names}.`, {
        metadata: { field: "variant" },
        fieldViolations: [{ field: "variant", description: `must be one of ${names}` }],
      });
    }
    return variant;
  }
}
