/** LeaseService: makes, shows and ends leases. Their content moves through the services of their variants. */
import {
  type CreateLeaseRequest,
  CreateLeaseRequestSchema,
  Lease_ReadAccess,
  type LeaseService,
} from "#gen/leasehold/v1/lease_pb.js";
import { type Caller, type Callers, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import type { Database } from "../database/database.ts";
import { GroupCommit } from "../database/group-commit.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { LeaseholdError, notFound } from "../errors/leasehold-error.ts";
import { digestRequest, requireSameRequest } from "../idempotency/idempotency.ts";
import { type KeyUuid, type LeaseUuid, parseId } from "../ids/ids.ts";
import type { PricingBook } from "../pricing/pricing-book.ts";
import type { PricingView } from "../pricing/pricing-view.ts";
import { pageSizeOf, pageStart, toPage } from "../proto-values/paging.ts";
import { wholeSeconds } from "../proto-values/proto-time.ts";
import type { ServiceImplementation } from "../server/service-implementation.ts";
import type { LeaseDestroyer } from "./lease-destroyer.ts";
import type { LeaseMaker, LeaseOrder } from "./lease-maker.ts";
import { quoteLease } from "./lease-quote.ts";
import { endOf, isLeaseRow, type LeaseRow, type MaybeLeaseRow } from "./lease-row.ts";
import { type CallerColumns, endLeasesOfCaller, findCreated, getLeases, listLeases } from "./lease-statements.ts";
import type { LeaseVariants } from "./lease-variant.ts";
import type { LeaseView } from "./lease-view.ts";

/** What the service needs. */
export interface LeaseServiceOptions {
  readonly database: Database;
  readonly callers: Callers;
  readonly variants: LeaseVariants;
  readonly maker: LeaseMaker;
  readonly view: LeaseView;
  readonly destroyer: LeaseDestroyer;
  readonly pricing: PricingBook;
  readonly pricingView: PricingView;
  /** The key that request digests are made with. */
  readonly digestKey: Uint8Array;
}

type LeaseMethods = Pick<
  ServiceImplementation<typeof LeaseService>,
  "getPricing" | "quoteLease" | "createLease" | "getLease" | "listLeases" | "deleteLease"
>;

/** A lease and the moment it was read at. */
export interface LeaseAt {
  readonly lease: LeaseRow;
  readonly now: DatabaseTime;
}

interface LookUp {
  readonly keyId: KeyUuid;
  readonly leaseId: LeaseUuid;
}

type FoundRow = CallerColumns & MaybeLeaseRow;

/** Leases of a caller's, for the services that share the ways to make and to find one. */
export class CallerLeases {
  readonly #options: LeaseServiceOptions;
  /** Look-ups of one owner that come together are one round trip: it costs a server more than the look-up does. */
  readonly #lookUps: GroupCommit<LookUp, FoundRow>;

  constructor(options: LeaseServiceOptions) {
    this.#options = options;
    this.#lookUps = new GroupCommit({ serve: (ownerId, asked) => this.#lookUp(ownerId, asked) });
  }

  /**
   * Makes the lease of a request, or finds the one its request_id made before.
   *
   * The look-up comes again before any refusal: a twin of the call may have made the lease while this one waited, and a
   * repeat is answered although prices, bounds or the balance have changed since. The key comes before the terms: one
   * that may not act is told so, and not what is wrong with its request.
   */
  async make(caller: Caller, request: CreateLeaseRequest): Promise<LeaseAt> {
    const requestId = request.requestId.toLowerCase();
    const digests =
      requestId === "" ? undefined : digestRequest(this.#options.digestKey, CreateLeaseRequestSchema, request);
    const repeatable = digests === undefined ? undefined : { requestId, digests };
    let refusal: unknown;
    try {
      const variant = this.#options.variants.named(request.variant.case);
      const made = await this.#options.maker.make({
        caller,
        variant,
        specification: await variant.specify(request),
        request: termsOf(request),
        asked: request,
        repeatable,
      });
      if (made !== "seen") {
        return made;
      }
    } catch (error) {
      if (!(error instanceof LeaseholdError) || (repeatable === undefined && isOutage(error))) {
        throw error;
      }
      refusal = error;
    }
    const before = await this.#findMade(caller, repeatable);
    if (before === undefined) {
      throw refusal ?? new Error("a lease was seen and then not found");
    }
    return before;
  }

  /**
   * A lease of the caller's.
   *
   * @throws LeaseholdError NOT_FOUND, or the refusal of the key.
   */
  async find(caller: Caller, leaseId: string): Promise<LeaseAt> {
    const row = await this.#lookUps.submit(caller.ownerId, { keyId: caller.keyId, leaseId: leaseUuidOf(leaseId) });
    requireAccess(row.access, "read");
    if (!isLeaseRow(row)) {
      throw notFound("lease");
    }
    return { lease: row, now: row.now };
  }

  #lookUp(ownerId: string, asked: readonly LookUp[]): Promise<FoundRow[]> {
    const keys = asked.map(({ keyId }) => keyId);
    const leases = asked.map(({ leaseId }) => leaseId);
    return this.#options.database.run(getLeases, [ownerId, keys, scopeBits.read, leases]);
  }

  /** Refuses a key that may not create, and finds what it made before. */
  async #findMade(caller: Caller, repeatable: LeaseOrder["repeatable"]): Promise<LeaseAt | undefined> {
    const [row] = await this.#options.database.run(findCreated, [
      caller.ownerId,
      caller.keyId,
      scopeBits.create,
      repeatable?.requestId ?? null,
    ]);
    requireAccess(row?.access, "create");
    if (row === undefined || repeatable === undefined || !isLeaseRow(row)) {
      return undefined;
    }
    if (row.digests !== null && row.digests.length > 0) {
      requireSameRequest(CreateLeaseRequestSchema, row.digests, repeatable.digests);
    }
    return { lease: row, now: row.now };
  }
}

/** The methods of LeaseService that every lease has. */
export function leaseService(options: LeaseServiceOptions, leases: CallerLeases): LeaseMethods {
  const { callers, database, view } = options;
  return {
    async getPricing() {
      return { pricing: options.pricingView.show(await options.pricing.current()) };
    },

    async quoteLease(request) {
      const variant = options.variants.of({ variant: request.variant });
      const durationSeconds = request.duration === undefined ? 0n : wholeSeconds("duration", request.duration);
      const { sizeBytes, retainedVersions, schedule, timeZone } = request;
      const asked = { sizeBytes, durationSeconds, retainedVersions, schedule, timeZone };
      return await quoteLease(options.pricing, variant, asked);
    },

    async createLease(request, call) {
      const made = await leases.make(await callers.of(call), request);
      const isLive = endOf(made.lease, made.now) === undefined;
      const secrets = isLive ? await options.variants.of(made.lease).secretsOf?.(made.lease) : undefined;
      return { lease: await view.show(made.lease, made.now), ...secrets };
    },

    async getLease(request, call) {
      const found = await leases.find(await callers.of(call), request.leaseId);
      return { lease: await view.show(found.lease, found.now) };
    },

    async listLeases(request, call) {
      const caller = await callers.of(call);
      const pageSize = pageSizeOf(request);
      const rows = await database.run(listLeases, [
        caller.ownerId,
        caller.keyId,
        scopeBits.read,
        pageStart("lse", request) ?? null,
        request.showEnded,
        pageSize + 1,
      ]);
      requireAccess(rows[0]?.access, "read");
      const page = toPage(rows.filter(isLeaseRow), pageSize, "lse", (row) => row.lease_id);
      return { leases: await view.showAll(page.rows), nextPageToken: page.nextPageToken };
    },

    async deleteLease(request, call) {
      const caller = await callers.of(call);
      const [row] = await database.run(
        endLeasesOfCaller,
        [caller.ownerId, [leaseUuidOf(request.leaseId)], caller.keyId, scopeBits.write],
        { repeatable: true },
      );
      requireAccess(row?.access, "write");
      if (row === undefined || !isLeaseRow(row)) {
        throw notFound("lease");
      }
      if (row.destroy_time !== null) {
        return { lease: await view.show(row, row.now) };
      }
      const destroyed = await options.destroyer.destroy([row]);
      return { lease: await view.show({ ...row, destroy_time: destroyed.get(row.lease_id) ?? null }, row.now) };
    },
  };
}

/** The UUID of a lease id that the schema's rule has let through. */
export function leaseUuidOf(leaseId: string): LeaseUuid {
  const uuid = parseId("lse", leaseId);
  if (uuid === undefined) {
    throw notFound("lease");
  }
  return uuid;
}

/** Whether a call failed for what it met, and not for what it asked. */
function isOutage(error: LeaseholdError): boolean {
  return ["DATABASE_UNAVAILABLE", "OUTCOME_UNKNOWN", "DISK_FULL"].includes(error.reason);
}

function termsOf(request: CreateLeaseRequest) {
  return {
    sizeBytes: request.sizeBytes,
    durationSeconds: request.duration === undefined ? 0n : wholeSeconds("duration", request.duration),
    readAccess: request.readAccess || Lease_ReadAccess.OWNER_AND_CLAIM_HOLDERS,
    deleteOnAccess: request.deleteOnAccess,
    maxPriceMicros: request.maxPriceMicros,
    labels: request.labels,
  };
}
