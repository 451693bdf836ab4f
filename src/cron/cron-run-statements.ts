/** The statements that show runs to the owner, and that read what a claim delivers of a Cron lease. */
import { callerAccess } from "../account/caller-statements.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { readStatement } from "../database/statement.ts";
import { isUnended, leaseColumns, type MaybeLeaseRow } from "../lease/lease-row.ts";
import type { CallerColumns } from "../lease/lease-statements.ts";
import { timeOf } from "./cron-statements.ts";

/** A run as its owner sees it. Null where the page has none. */
export interface RunRow {
  readonly slot_time: DatabaseTime;
  readonly fire_time: DatabaseTime | null;
  readonly deliver_time: DatabaseTime | null;
  readonly attempt_count: number;
  readonly outcome: number;
  readonly last_error: string | null;
  readonly next_attempt_time: DatabaseTime | null;
}

type MaybeRunRow = RunRow | { readonly [Name in keyof RunRow]: null };

export function isRunRow<Row extends MaybeRunRow>(row: Row): row is Row & RunRow {
  return row.slot_time !== null;
}

/**
 * A page of a lease's runs, newest slot first, before $5 in microseconds, or from the newest. $1 to $3: the caller, $4:
 * the lease, $6: how many. Leans on the primary key; no lock.
 */
export const listCronRuns = readStatement<CallerColumns & MaybeLeaseRow & MaybeRunRow>(
  "list-cron-runs",
  `with ${callerAccess({ owner: 1, key: 2, scope: 3 })}
  select caller.access, statement_timestamp() as now, ${leaseColumns("l")}, r.slot_time, r.fire_time, r.deliver_time,
    r.attempt_count, r.outcome, r.last_error, r.next_attempt_time
  from caller
  left join lease l on caller.access = 'OK' and l.owner_id = $1::uuid and l.lease_id = $4::uuid
  left join lateral (
    select * from cron_run
    where owner_id = l.owner_id and lease_id = l.lease_id
      and slot_time < coalesce(${timeOf("$5::bigint")}, 'infinity'::timestamptz)
    order by slot_time desc
    limit $6::int
  ) as r on true
  order by r.slot_time desc`,
);

const liveLease = `
  lease l
  where l.owner_id = $1::uuid and l.lease_id = $2::uuid and ${isUnended("l")} and l.due_time > statement_timestamp()`;

/** The payload of a live lease. $1: the owner, $2: the lease. No lock. */
export const readPayload = readStatement<{ payload_id: string; sealed_payload: Buffer }>(
  "read-cron-payload",
  `select c.payload_id, c.sealed_payload
  from (select l.owner_id, l.lease_id from ${liveLease}) as l
  join cron c on c.owner_id = l.owner_id and c.lease_id = l.lease_id`,
);

const line = "cron_run_line(r.slot_time, r.fire_time, r.deliver_time, r.attempt_count, r.outcome, r.last_error)";

/** How many bytes the lines of the runs have that were settled by version $3. Leans on cron_run_settled; no lock. */
export const measureRuns = readStatement<{ bytes: bigint }>(
  "measure-cron-runs",
  `select coalesce(sum(octet_length(${line})), 0)::bigint as bytes
  from cron_run r
  where r.lease_id = $2::uuid and r.owner_id = $1::uuid and r.settled_version > 0 and r.settled_version <= $3::bigint`,
);

/**
 * Lines of runs, in the order in which they were settled: behind version $4 and up to $3, at most $5. None once the
 * lease has ended. Leans on cron_run_settled; no lock.
 */
export const readRuns = readStatement<{ settled_version: bigint; line: string }>(
  "read-cron-runs",
  `select r.settled_version, ${line} as line
  from (select l.owner_id, l.lease_id from ${liveLease}) as l
  cross join lateral (
    select * from cron_run
    where lease_id = l.lease_id and owner_id = l.owner_id and settled_version > 0 and settled_version > $4::bigint
      and settled_version <= $3::bigint
    order by settled_version
    limit $5::int
  ) as r
  order by r.settled_version`,
);
