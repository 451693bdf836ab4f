/** What a variant hands to the primitive: the one object through which leases, handoffs and the sweeper work with it. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { CreateLeaseRequest, Lease_Variant, Lease_WriteAccess, LeaseSchema } from "#gen/leasehold/v1/lease_pb.js";
import type { DatabaseTime } from "../database/row-types.ts";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import type { AccountUuid, LeaseUuid } from "../ids/ids.ts";
import type { PriceFactor, VariantTerms } from "../pricing/variant-terms.ts";
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
  /** What a new lease needs in rows of the variant's own, in the commit that charges for it. */
  readonly creation?: VariantCreation;

  /**
   * Checks its arm of the request, beyond the rules in the schema, and says what is to be kept of it.
   *
   * @throws LeaseholdError if the arm is refused. Nothing is charged then.
   */
  specify(request: CreateLeaseRequest): LeaseSpecification;

  /** Fills `Lease.details` from the bytes that were sealed, or from none once the lease has ended. */
  details(lease: LeaseRow, sealed: Uint8Array | undefined): LeaseDetails;

  /** The secrets that come with a new lease, and with a live one to a repeat of the call. The same each time. */
  secretsOf?(lease: LeaseRow): Promise<LeaseSecrets>;

  /** The factor of a quote, by what a caller says of the lease that would be made. */
  priceFactor?(asked: { readonly retainedVersions: number }): PriceFactor;

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

  /** Removes from a lease's content what time has ended in it. Called before a claim is made, which then delivers none of it. */
  refresh?(ownerId: AccountUuid, leaseId: LeaseUuid): Promise<void>;

  /** Destroys every row and file of leases that have ended. Safe to repeat after a crash at any step. */
  destroy(leases: readonly EndedLease[]): Promise<void>;

  /** Removes what no row accounts for: leftovers of crashes. Called now and then by the sweeper. */
  removeOrphans(): Promise<number>;

  /** Removes what is due to go while its lease lives. Called by the sweeper, often. Gives how much that was. */
  tidy?(limit: number): Promise<number>;
}

/** What is to be kept of a request. */
export interface LeaseSpecification {
  /** What the lease keeps sealed for the variant as long as it lives. */
  readonly details: Uint8Array;
  /** What the price by size and duration is multiplied by. */
  readonly priceFactor?: PriceFactor;
  /** Of those that an owner makes together, one at a time has this. */
  readonly uniqueKey?: string;
  /** What the variant's own rows are made from. */
  readonly rows?: (lease: NewLease) => Promise<CreationRows>;
}

/** A lease that is about to be made. */
export interface NewLease {
  readonly ownerId: AccountUuid;
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
