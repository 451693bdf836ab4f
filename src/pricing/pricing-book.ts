/** The pricing in force: read from the database, remembered, and confirmed by the statement that charges. */
import type { Database } from "../database/database.ts";
import { LeaseholdError, outOfBounds } from "../errors/leasehold-error.ts";
import { type PricedExtras, priceMicros, type Rates } from "./price.ts";
import { currentPricing, insertFirstPricing, insertNextPricing, type PricingRow } from "./pricing-statements.ts";
import type { VariantTerms } from "./variant-terms.ts";

/** One version of the operator's rates and bounds. */
export interface PricingTerms extends Rates {
  readonly pricingVersion: bigint;
  readonly minDurationSeconds: bigint;
  readonly maxDurationSeconds: bigint;
}

/** A change of pricing. What is undefined stays as it is. */
export type PricingChange = {
  readonly [Key in keyof Omit<PricingTerms, "pricingVersion">]?: PricingTerms[Key] | undefined;
};

/** The highest price there is: a million million dollars, as much as an account can hold, and what 64 bits can tell. */
const maxPriceMicros = 10n ** 18n;

/** How long readers may see a pricing that has changed elsewhere, in milliseconds. A charge never uses one. */
const rememberMs = 5_000;

/** Tells what leases cost now. */
export class PricingBook {
  readonly #database: Database;
  #terms: PricingTerms | undefined;
  #readAtMs = 0;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Puts the settings' pricing in force, unless there has been one: it is then the operator's calls that change it. */
  async initialize(first: Omit<PricingTerms, "pricingVersion">): Promise<void> {
    await this.#database.run(insertFirstPricing, [
      first.rateMicrosPerGibDay,
      first.minChargeMicros,
      first.minDurationSeconds,
      first.maxDurationSeconds,
      first.firingMicros,
    ]);
  }

  /** The pricing in force, at most five seconds old. */
  async current(): Promise<PricingTerms> {
    if (this.#terms !== undefined && performance.now() - this.#readAtMs < rememberMs) {
      return this.#terms;
    }
    return await this.refresh();
  }

  /** The pricing in force, read now. */
  async refresh(): Promise<PricingTerms> {
    const [row] = await this.#database.run(currentPricing, []);
    if (row === undefined) {
      throw new Error("there is no pricing: the server was started without initializing it");
    }
    return this.#remember(row);
  }

  /**
   * Changes the pricing for leases made from now on.
   *
   * @throws LeaseholdError OUT_OF_BOUNDS if the shortest duration would be above the longest.
   */
  async change(change: PricingChange): Promise<PricingTerms> {
    for (;;) {
      const [row] = await this.#database.run(insertNextPricing, [
        change.rateMicrosPerGibDay,
        change.minChargeMicros,
        change.minDurationSeconds,
        change.maxDurationSeconds,
        change.firingMicros,
      ]);
      if (row !== undefined) {
        return this.#remember(row);
      }
      const now = await this.refresh();
      const min = change.minDurationSeconds ?? now.minDurationSeconds;
      const max = change.maxDurationSeconds ?? now.maxDurationSeconds;
      if (min > max) {
        throw outOfBounds("min_duration", min, 1n, max);
      }
    }
  }

  #remember(row: PricingRow): PricingTerms {
    this.#readAtMs = performance.now();
    this.#terms = {
      pricingVersion: row.pricing_version,
      rateMicrosPerGibDay: row.rate_micros_per_gib_day,
      minChargeMicros: row.min_charge_micros,
      minDurationSeconds: row.min_duration_seconds,
      maxDurationSeconds: row.max_duration_seconds,
      firingMicros: row.firing_micros,
    };
    return this.#terms;
  }
}

/** What a lease would be charged by these terms, and the bounds it must keep. */
export interface PriceRequest extends PricedExtras {
  readonly bounds: Pick<VariantTerms, "minSizeBytes" | "maxSizeBytes" | "maxDurationSeconds">;
  readonly sizeBytes: bigint;
  readonly durationSeconds: bigint;
  readonly maxPriceMicros?: bigint | undefined;
}

/**
 * Prices a lease.
 *
 * @throws LeaseholdError OUT_OF_BOUNDS or PRICE_TOO_HIGH.
 */
export function priceLease(terms: PricingTerms, request: PriceRequest): bigint {
  const { minSizeBytes, maxSizeBytes } = request.bounds;
  if (request.sizeBytes < minSizeBytes || request.sizeBytes > maxSizeBytes) {
    throw outOfBounds("size_bytes", request.sizeBytes, minSizeBytes, maxSizeBytes);
  }
  const longest = longestSeconds(terms, request.bounds);
  if (request.durationSeconds < terms.minDurationSeconds || request.durationSeconds > longest) {
    throw outOfBounds("duration", request.durationSeconds, terms.minDurationSeconds, longest);
  }
  const price = priceMicros(terms, request.sizeBytes, request.durationSeconds, request);
  if (price > maxPriceMicros) {
    throw outOfBounds("price_micros", price, 0n, maxPriceMicros);
  }
  if (request.maxPriceMicros !== undefined && price > request.maxPriceMicros) {
    throw new LeaseholdError(
      "PRICE_TOO_HIGH",
      `The lease costs ${price} micro-dollars, above max_price_micros of ${request.maxPriceMicros}: raise it or ask for less.`,
      { metadata: { price_micros: `${price}`, max_price_micros: `${request.maxPriceMicros}` } },
    );
  }
  return price;
}

/** The longest duration of a variant's leases: its own, if the pricing allows as much. */
export function longestSeconds(
  { maxDurationSeconds }: PricingTerms,
  bounds: Pick<VariantTerms, "maxDurationSeconds">,
): bigint {
  const own = bounds.maxDurationSeconds ?? maxDurationSeconds;
  return own < maxDurationSeconds ? own : maxDurationSeconds;
}
