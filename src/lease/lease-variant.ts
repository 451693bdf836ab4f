/** What a variant hands to the primitive: the one object through which leases, handoffs and the sweeper work with it. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { CreateLeaseRequest, Lease_Variant, Lease_WriteAccess, LeaseSchema } from "#gen/leasehold/v1/lease_pb.js";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import type { AccountUuid, LeaseUuid } from "../ids/ids.ts";
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

  /**
   * Checks its arm of the request, beyond the rules in the schema, and gives the bytes that the lease keeps sealed for
   * it as long as it lives.
   *
   * @throws LeaseholdError if the arm is refused. Nothing is charged then.
   */
  specify(request: CreateLeaseRequest): Uint8Array;

  /** Fills `Lease.details` from those bytes, or from none once the lease has ended. */
  details(lease: LeaseRow, specified: Uint8Array | undefined): LeaseDetails;

  /** Opens the content that a handoff delivers. The lease is active. */
  openContent(lease: LeaseRow): Promise<LeaseContent>;

  /** Destroys every row and file of leases that have ended. Safe to repeat after a crash at any step. */
  destroy(leases: readonly EndedLease[]): Promise<void>;

  /** Removes what no row accounts for: leftovers of crashes. Called now and then by the sweeper. */
  removeOrphans(): Promise<number>;
}

/** A lease whose content is to be destroyed. */
export interface EndedLease {
  readonly ownerId: AccountUuid;
  readonly leaseId: LeaseUuid;
}

/** The content of a lease as a handoff delivers it: items one after the other, in one range of offsets. */
export interface LeaseContent {
  readonly totalBytes: bigint;
  readonly items: readonly ContentItem[];
}

/** One item of a lease's content. */
export interface ContentItem {
  readonly name: string;
  readonly contentType: string;
  readonly sizeBytes: bigint;
  /** SHA-256 of the item, or empty if it is not known. */
  readonly sha256: Uint8Array;
  /** Reads from an offset within the item, at most limitBytes, in pieces of bounded size. */
  read(offset: bigint, limitBytes: bigint): AsyncIterable<Uint8Array>;
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
