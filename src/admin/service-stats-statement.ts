/** The statement behind the operator's figures. */
import { LedgerEntry_Kind } from "#gen/leasehold/v1/account_pb.js";
import { ledgerAccount } from "../account/ledger.ts";
import { readStatement } from "../database/statement.ts";

/** One row for each variant that has live leases, or one with a null variant; the other figures are the same in each. */
export interface ServiceStatsRow {
  readonly earned_micros: bigint;
  readonly refunded_micros: bigint;
  readonly credited_micros: bigint;
  readonly overdue_micros: bigint;
  readonly undestroyed_leases: bigint;
  readonly variant: number | null;
  readonly live_leases: bigint | null;
  readonly reserved_bytes: bigint | null;
  readonly stored_bytes: bigint | null;
}

/**
 * Money is summed over the operator's entries and live leases over the leases, whole tables both: a total that every
 * charge kept up to date would be one row that all tenants wait for. What is overdue leans on the sweeper's indexes
 * lease_due and lease_undestroyed. A lease that is due has ended, whether or not a sweep has been by.
 */
export const readServiceStats = readStatement<ServiceStatsRow>(
  "read-service-stats",
  `with clock as materialized (
    select statement_timestamp() as now
  ),
  money as (
    select
      coalesce(sum(amount_micros) filter (where ledger_account = ${ledgerAccount.revenue}), 0) as earned_micros,
      coalesce(-sum(amount_micros) filter
        (where ledger_account = ${ledgerAccount.revenue} and kind = ${LedgerEntry_Kind.REFUND}), 0) as refunded_micros,
      coalesce(-sum(amount_micros) filter (where ledger_account = ${ledgerAccount.credits}), 0) as credited_micros
    from ledger_entry
    where ledger_account in (${ledgerAccount.revenue}, ${ledgerAccount.credits})
  ),
  live as (
    select variant, count(*) as live_leases, sum(size_bytes) as reserved_bytes, sum(content_bytes) as stored_bytes
    from lease, clock
    where end_time is null and due_time > now
    group by variant
  ),
  waiting as (
    select count(*) as leases, min(due_time) as since from lease, clock where end_time is null and due_time <= now
    union all
    select count(*), min(end_time) from lease where end_time is not null and destroy_time is null
  ),
  late as (
    select sum(leases)::bigint as undestroyed_leases,
      coalesce(greatest(extract(epoch from now - min(since)) * 1000000, 0), 0)::bigint as overdue_micros
    from waiting, clock
    group by now
  )
  select * from money cross join late left join live on true`,
);
