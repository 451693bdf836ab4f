/** Makes leases: prices them, seals what they hold, and charges for callers who meet on one account together. */

import type { CreateLeaseRequest } from "#gen/leasehold/v1/lease_pb.js";
import type { Caller } from "../account/caller.ts";
import { invalidCredential, requireAccess } from "../account/caller.ts";
import type { Database, Statement } from "../database/database.ts";
import type { DatabaseClock } from "../database/database-clock.ts";
import { type Again, again, GroupCommit } from "../database/group-commit.ts";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import { type AccountUuid, type KeyUuid, type LeaseUuid, newUuid } from "../ids/ids.ts";
import type { PricingBook } from "../pricing/pricing-book.ts";
import { type PricingTerms, priceLease } from "../pricing/pricing-book.ts";
import { type CreatedRow, createLeasesStatement } from "./create-leases-statement.ts";
import type { LeaseRow } from "./lease-row.ts";
import type { LeaseSeals } from "./lease-seals.ts";
import type { CreationRows, LeaseSpecification, LeaseVariant, LeaseVariants } from "./lease-variant.ts";

/** A lease to make: a request whose arm the variant has accepted. */
export interface LeaseOrder {
  readonly caller: Caller;
  readonly variant: LeaseVariant;
  readonly specification: LeaseSpecification;
  readonly request: LeaseTerms;
  /** The request as it came, for the variant to say what is wrong with it. */
  readonly asked: CreateLeaseRequest;
  /** The request_id and the digests of the request it stands for. */
  readonly repeatable: { readonly requestId: string; readonly digests: Buffer } | undefined;
}

/** The axes of a lease to make, checked against the schema's rules. Enums hold the proto's numbers. */
export interface LeaseTerms {
  readonly sizeBytes: bigint;
  readonly durationSeconds: bigint;
  readonly readAccess: number;
  readonly deleteOnAccess: boolean;
  readonly maxPriceMicros: bigint | undefined;
  readonly labels: Readonly<Record<string, string>>;
}

interface Item {
  readonly order: LeaseOrder;
  readonly leaseId: LeaseUuid;
  readonly priceMicros: bigint;
  readonly pricingVersion: bigint;
  readonly epochSeconds: bigint;
  readonly wrappedKey: Buffer;
  readonly sealedDetails: Buffer;
  readonly rows: CreationRows;
}

/** What the maker needs. */
export interface LeaseMakerOptions {
  readonly database: Database;
  readonly clock: DatabaseClock;
  readonly pricing: PricingBook;
  readonly seals: LeaseSeals;
  readonly variants: LeaseVariants;
  /** How long a lease that waits for its content may wait, in seconds. */
  readonly contentWindowSeconds: number;
}

/**
 * How often a lease is priced and sealed anew before the server admits a fault. Each time needs a change of pricing or of
 * the hour, or the end of what stood in its way.
 */
const maxTries = 5;

/** How many bytes of content one statement carries. */
const batchBytes = 4 * 1_048_576;

/** Makes leases. */
export class LeaseMaker {
  readonly #options: LeaseMakerOptions;
  readonly #createLeases: Statement<CreatedRow>;
  readonly #commits: GroupCommit<Item, CreatedRow>;

  constructor(options: LeaseMakerOptions) {
    this.#options = options;
    this.#createLeases = createLeasesStatement(options.variants.all);
    this.#commits = new GroupCommit({
      maxWeight: batchBytes,
      weigh: (item) => item.rows.content?.length ?? 0,
      serve: (ownerId, items) => this.#serve(ownerId, items),
      isRepeatable: (item) => item.order.repeatable !== undefined,
    });
  }

  /**
   * Charges for a lease and makes it. Gives "seen" if its request_id has made one before: nothing is charged then.
   *
   * @throws LeaseholdError OUT_OF_BOUNDS, PRICE_TOO_HIGH, PAYMENT_REQUIRED, SPEND_CEILING, or the refusal of the key.
   */
  async make(order: LeaseOrder): Promise<{ lease: LeaseRow; now: CreatedRow["now"] } | "seen"> {
    let terms = await this.#termsFor(order);
    for (let tries = 0; tries < maxTries; tries++) {
      const item = await this.#prepare(order, terms);
      const row = await this.#commits.submit(order.caller.ownerId, item);
      this.#options.clock.correct(row.now);
      if (row.outcome !== "MADE") {
        await item.rows.undo?.();
      }
      switch (row.outcome) {
        case "MADE":
          return { lease: toLeaseRow(item, row), now: row.now };
        case "SEEN":
          return "seen";
        case "PRICING_CHANGED":
          terms = await this.#options.pricing.refresh();
          break;
        case "EPOCH_MISSED":
          break;
        case "VARIANT_REFUSED":
          await requireNoRefusal(order, row);
          break;
        default:
          throw refusal(item, row);
      }
    }
    throw new Error(`a lease could not be priced and sealed in ${maxTries} tries`);
  }

  /** The pricing in force, as it is remembered if that allows the order: a refusal rests on one that was read for it. */
  async #termsFor(order: LeaseOrder): Promise<PricingTerms> {
    const remembered = await this.#options.pricing.current();
    try {
      priceOf(order, remembered);
      return remembered;
    } catch (error) {
      if (error instanceof LeaseholdError) {
        return await this.#options.pricing.refresh();
      }
      throw error;
    }
  }

  async #prepare(order: LeaseOrder, terms: PricingTerms): Promise<Item> {
    const { request } = order;
    const price = priceOf(order, terms);
    const leaseId = newUuid<"lse">();
    const dueMicros = this.#options.clock.guess() + request.durationSeconds * 1_000_000n;
    const { details, rows } = order.specification;
    const { key, ...sealed } = await this.#options.seals.make(leaseId, dueMicros / 1_000_000n, details);
    const { ownerId, keyId } = order.caller;
    const payer = { ownerId, keyId };
    const own = rows === undefined ? noRows : await rows({ ...payer, leaseId, key });
    return { order, leaseId, priceMicros: price, pricingVersion: terms.pricingVersion, rows: own, ...sealed };
  }

  async #serve(ownerId: string, items: readonly Item[]): Promise<(CreatedRow | Again)[]> {
    const column = <Value>(value: (item: Item, index: number) => Value): Value[] => items.map(value);
    const window = BigInt(this.#options.contentWindowSeconds);
    const rows = await this.#options.database.run(this.#createLeases, [
      ownerId,
      column((_, index) => index),
      column((item) => item.order.caller.keyId),
      column((item) => item.leaseId),
      column((item) => item.order.repeatable?.requestId ?? null),
      column((item) => item.order.repeatable?.digests ?? null),
      column(() => newUuid<"txn">()),
      column((item) => item.order.variant.variant),
      column((item) => item.order.request.sizeBytes),
      column((item) => item.order.request.durationSeconds),
      column((item) => item.order.request.readAccess),
      column((item) => item.order.request.deleteOnAccess),
      column((item) => item.priceMicros),
      column((item) => item.pricingVersion),
      column((item) => JSON.stringify(item.order.request.labels)),
      column((item) => (item.order.variant.waitsForContent ? window : null)),
      column((item) => item.epochSeconds),
      column((item) => item.wrappedKey),
      column((item) => item.sealedDetails),
      column((item) => JSON.stringify(item.rows.terms)),
      column((item) => item.rows.content ?? null),
      column((item) => item.order.specification.uniqueKey ?? null),
      column((item) => item.rows.contentBytes ?? 0n),
      column((item) => item.rows.contentVersion ?? 0n),
      this.#options.seals.epochLengthSeconds,
    ]);
    if (rows.length === 0) {
      throw invalidCredential();
    }
    return rows.map((row) => (row.outcome === "AGAIN" ? again : row));
  }
}

function priceOf({ request, specification, variant }: LeaseOrder, terms: PricingTerms): bigint {
  return priceLease(terms, { ...request, ...specification.price, bounds: variant.pricing });
}

const noRows: CreationRows = { terms: {} };

/** Refuses a lease as its variant does, unless the reason is over by now: then it is tried again. */
async function requireNoRefusal(order: LeaseOrder, row: CreatedRow): Promise<void> {
  const refuse = order.variant.creation?.refuse;
  if (refuse === undefined) {
    throw new Error(`a lease was refused for ${row.variant_refusal}, which its variant cannot explain`);
  }
  const error = await refuse(row.variant_refusal ?? "", order.caller.ownerId, order.asked);
  if (error !== undefined) {
    throw error;
  }
}

function refusal(item: Item, row: CreatedRow): LeaseholdError {
  const price = item.priceMicros;
  switch (row.outcome) {
    case "PAYMENT_REQUIRED":
      return new LeaseholdError(
        "PAYMENT_REQUIRED",
        `The lease costs ${price} micro-dollars and the balance is ${row.balance_micros}: credit the account.`,
        { metadata: { price_micros: `${price}`, balance_micros: `${row.balance_micros}` } },
      );
    case "SPEND_CEILING":
      return new LeaseholdError(
        "SPEND_CEILING",
        `The lease costs ${price} micro-dollars and the key may spend ${row.remaining_micros} more: use another key.`,
        { metadata: { price_micros: `${price}`, remaining_micros: `${row.remaining_micros}` } },
      );
    case "CREDENTIAL_INVALID":
    case "SCOPE_MISSING":
    case "ACCOUNT_SUSPENDED":
      requireAccess(row.outcome, "create");
  }
  throw new Error(`a lease was refused for ${row.outcome}`);
}

/** The row as the statement has just written it, so that a create needs no second round trip to be shown. */
function toLeaseRow(item: Item, row: CreatedRow): LeaseRow {
  const { order } = item;
  const active = !order.variant.waitsForContent;
  return {
    owner_id: order.caller.ownerId as AccountUuid,
    lease_id: item.leaseId,
    key_id: order.caller.keyId as KeyUuid,
    variant: order.variant.variant,
    size_bytes: order.request.sizeBytes,
    duration_seconds: order.request.durationSeconds,
    expiry_behavior: 1,
    read_access: order.request.readAccess,
    delete_on_access: order.request.deleteOnAccess,
    price_micros: item.priceMicros,
    labels: order.request.labels,
    create_time: row.now,
    active_time: active ? row.now : null,
    expire_time: row.expire_time,
    due_time: row.due_time,
    due_reason: active ? 1 : 4,
    end_time: null,
    end_reason: null,
    destroy_time: null,
    unrecoverable_time: null,
    content_bytes: item.rows.contentBytes ?? 0n,
    content_items: 0n,
    content_version: item.rows.contentVersion ?? 0n,
    overhead_bytes: 0n,
    epoch_seconds: item.epochSeconds,
    wrapped_key: item.wrappedKey,
    sealed_details: item.sealedDetails,
  };
}
