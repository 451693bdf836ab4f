/** The statements about pricing. */
import { readStatement, writeStatement } from "../database/statement.ts";

/** A row of `pricing`. */
export interface PricingRow {
  readonly pricing_version: bigint;
  readonly rate_micros_per_gib_day: bigint;
  readonly min_charge_micros: bigint;
  readonly min_duration_seconds: bigint;
  readonly max_duration_seconds: bigint;
  readonly firing_micros: bigint;
}

const columns =
  "pricing_version, rate_micros_per_gib_day, min_charge_micros, min_duration_seconds, max_duration_seconds, firing_micros";

/** The pricing in force. No row before the first start. */
export const currentPricing = readStatement<PricingRow>(
  "current-pricing",
  `select ${columns} from pricing order by pricing_version desc limit 1`,
);

/** Puts the first pricing in force, unless there is one. */
export const insertFirstPricing = writeStatement<PricingRow>(
  "insert-first-pricing",
  `insert into pricing (${columns}) select 1, $1::bigint, $2::bigint, $3::bigint, $4::bigint, $5::bigint
   where not exists (select from pricing)
   on conflict do nothing
   returning ${columns}`,
);

/**
 * Puts the next pricing in force; what is null stays. The primary key lets one of two simultaneous changes win: the
 * other gets no row, and is to be asked again.
 */
export const insertNextPricing = writeStatement<PricingRow>(
  "insert-next-pricing",
  `insert into pricing (${columns})
   select pricing_version + 1,
     coalesce($1::bigint, rate_micros_per_gib_day), coalesce($2::bigint, min_charge_micros),
     coalesce($3::bigint, min_duration_seconds), coalesce($4::bigint, max_duration_seconds),
     coalesce($5::bigint, firing_micros)
   from (select * from pricing order by pricing_version desc limit 1) as current
   where coalesce($3::bigint, min_duration_seconds) <= coalesce($4::bigint, max_duration_seconds)
   on conflict do nothing
   returning ${columns}`,
);
