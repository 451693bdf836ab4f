/** The statements that find and take the runs that are to be posted. */
import type { DatabaseTime } from "../database/row-types.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import type { AccountUuid, LeaseUuid } from "../ids/ids.ts";
import { type LeaseRow, leaseColumns } from "../lease/lease-row.ts";
import { cronColumns, runOutcomes } from "./cron-row.ts";
import { timeOf } from "./cron-statements.ts";
import { type DueRunRow, isPending, liveLease } from "./firing-statements.ts";

/** A lease that has runs to be posted, and the first of them that is due, if one is. */
export interface PostingLeaseRow {
  readonly owner_id: AccountUuid;
  readonly lease_id: LeaseUuid;
  readonly slot_time: DatabaseTime | null;
}

/**
 * The next $2 leases behind $1 that have runs to be posted, in the order of their ids. Steps from lease to lease by
 * cron_run_to_post, however many runs each has: one whose receiver is slow takes no other's turn. No lock.
 */
export const walkPostingLeases = readStatement<PostingLeaseRow>(
  "walk-posting-leases",
  `with recursive walker as (
    (
      select owner_id, lease_id, 1 as step from cron_run
      where outcome = ${runOutcomes.pending} and is_posted and lease_id > $1::uuid
      order by lease_id
      limit 1
    )
    union all
    select next.owner_id, next.lease_id, w.step + 1
    from walker w
    cross join lateral (
      select owner_id, lease_id from cron_run
      where outcome = ${runOutcomes.pending} and is_posted and lease_id > w.lease_id
      order by lease_id
      limit 1
    ) as next
    where w.step < $2::int
  )
  select w.owner_id, w.lease_id, r.slot_time
  from walker w
  left join lateral (
    select slot_time from cron_run
    where outcome = ${runOutcomes.pending} and is_posted and lease_id = w.lease_id
      and next_attempt_time <= statement_timestamp()
    order by next_attempt_time
    limit 1
  ) as r on true
  order by w.lease_id`,
);

/**
 * Takes runs that are to be posted, and counts the attempt before it is made. $1: owners, $2: leases, $3: slots in
 * microseconds. What it takes is due again after $4 seconds if no outcome is recorded; what another has taken, and what
 * is of an ended lease, is left. Locks what it takes, and skips what is locked.
 */
export const takePostedRuns = writeStatement<DueRunRow & LeaseRow & { readonly lease_due_time: DatabaseTime }>(
  "take-posted-runs",
  `with locked as materialized (
    select r.place
    from unnest($1::uuid[], $2::uuid[], $3::bigint[]) as asked(owner_id, lease_id, slot)
    cross join lateral (
      select ctid as place from cron_run r
      where r.owner_id = asked.owner_id and r.lease_id = asked.lease_id and r.slot_time = ${timeOf("asked.slot")}
        and ${isPending("r")} and coalesce(r.next_attempt_time, 'infinity') <= statement_timestamp() and ${liveLease("r")}
      for no key update skip locked
    ) as r
  ),
  taken as (
    update cron_run r
    set attempt_count = r.attempt_count + 1,
      next_attempt_time = statement_timestamp() + make_interval(secs => $4::bigint)
    where r.ctid = any(array(select place from locked))
    returning r.*
  )
  select ${leaseColumns("l")}, l.due_time as lease_due_time, statement_timestamp() as now, r.slot_time, r.due_time, r.run_id,
    r.attempt_count, c.payload_id, c.sealed_payload, ${cronColumns("c", "cron_")}
  from taken r
  cross join lateral (select * from cron where owner_id = r.owner_id and lease_id = r.lease_id offset 0) as c
  cross join lateral (select * from lease where owner_id = r.owner_id and lease_id = r.lease_id offset 0) as l`,
);
