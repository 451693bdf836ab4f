/** The statements about a Cron lease as a whole: made, shown, paused and resumed, and destroyed. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { accessAfterWait, callerAccess } from "../account/caller-statements.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import { leaseColumns, type MaybeLeaseRow } from "../lease/lease-row.ts";
import type { CallerColumns } from "../lease/lease-statements.ts";
import type { VariantCreation } from "../lease/lease-variant.ts";
import { type CronRow, cronColumns, cronStates } from "./cron-row.ts";

/** What cronCreation reads from `p.terms`. Times are in microseconds, as text, since JSON's numbers are not exact. */
export interface CronTerms {
  readonly expression: string | null;
  readonly every_seconds: string | null;
  readonly at_micros: string | null;
  readonly time_zone: string;
  readonly start_micros: string;
  readonly end_micros: string;
  readonly target_kind: number;
  readonly target_lease_id: string | null;
  readonly target_key: string | null;
  readonly overlap: number;
  readonly misfire: number;
  readonly max_lateness_seconds: string;
  readonly jitter_micros: string;
  readonly next_slot_micros: string;
  readonly next_fire_micros: string;
  readonly payload_id: string;
  readonly payload_bytes: number;
}

/** A time from an expression of microseconds since the Unix epoch; null from null. */
export function timeOf(micros: string): string {
  return `('epoch'::timestamptz + (${micros})::bigint * interval '1 microsecond')`;
}

/** The rows of new Cron leases. Their payloads are `p.content`. */
export const cronCreation: VariantCreation = {
  ctes: `
  cron_made as (
    insert into cron
      (owner_id, lease_id, state, expression, every_seconds, at_time, time_zone, start_time, end_time, target_kind,
       target_lease_id, target_key, overlap, misfire, max_lateness_seconds, jitter_micros, next_slot_time, next_fire_time,
       payload_id, payload_bytes, sealed_payload)
    select $1::uuid, p.lease_id, ${cronStates.running}, p.terms->>'expression', (p.terms->>'every_seconds')::bigint,
      ${timeOf("p.terms->>'at_micros'")}, p.terms->>'time_zone', ${timeOf("p.terms->>'start_micros'")},
      ${timeOf("p.terms->>'end_micros'")}, (p.terms->>'target_kind')::smallint, (p.terms->>'target_lease_id')::uuid,
      p.terms->>'target_key', (p.terms->>'overlap')::smallint, (p.terms->>'misfire')::smallint,
      (p.terms->>'max_lateness_seconds')::bigint, (p.terms->>'jitter_micros')::bigint,
      ${timeOf("p.terms->>'next_slot_micros'")}, ${timeOf("p.terms->>'next_fire_micros'")},
      (p.terms->>'payload_id')::uuid, (p.terms->>'payload_bytes')::int, p.content
    from paid p
    where p.variant = ${Lease_Variant.CRON}
  )`,
};

/** Schedules of leases that were found. $1: owners, $2: leases. No lock. */
export const findCrons = readStatement<CronRow>(
  "find-crons",
  `select ${cronColumns("c")}
  from unnest($1::uuid[], $2::uuid[]) as asked(owner_id, lease_id)
  cross join lateral (
    select * from cron where owner_id = asked.owner_id and lease_id = asked.lease_id offset 0
  ) as c`,
);

const caller = { owner: 1, key: 2, scope: 3 };

/** A schedule joined to its lease: null where there is none. */
type MaybeCron = { readonly cron_state: number | null } & Readonly<Record<string, unknown>>;

/** A lease of the caller's with its schedule, whose columns start with `cron_`. $4: the lease. No lock. */
export const findCallersCron = readStatement<CallerColumns & MaybeLeaseRow & MaybeCron>(
  "find-callers-cron",
  `with ${callerAccess(caller)}
  select caller.access, statement_timestamp() as now, ${leaseColumns("l")}, ${cronColumns("c", "cron_")}
  from caller
  left join lease l on caller.access = 'OK' and l.owner_id = $1::uuid and l.lease_id = $4::uuid
  left join cron c on c.owner_id = l.owner_id and c.lease_id = l.lease_id`,
);

/**
 * Moves a schedule from one state to another. $4: the lease, $5: the state it must be in, $6: the state after, $7 and
 * $8: its next slot and when that fires, in microseconds, or null. A slot that has come stays: it may be recorded
 * already. The row is as it is then. Locks the lease, then the schedule.
 */
export const setCronState = writeStatement<
  CallerColumns & MaybeLeaseRow & { readonly state: number | null; readonly next_slot_time: DatabaseTime | null }
>(
  "set-cron-state",
  `with ${callerAccess(caller)},
  locked as materialized (
    select l.* from lease l
    where l.owner_id = $1::uuid and l.lease_id = $4::uuid and (select access from caller) = 'OK'
    for no key update
  ),
  locked_cron as materialized (
    select c.state, c.next_slot_time
    from (select count(*) as leases from locked) as waited
    join cron c on waited.leases > 0
    where c.owner_id = $1::uuid and c.lease_id = $4::uuid
    for no key update of c
  ),
  clock as materialized (
    select clock_timestamp() as now, ${accessAfterWait(caller)} from (select count(*) from locked_cron) as waited
  ),
  moved as (
    update cron c
    set state = $6::smallint, next_slot_time = ${timeOf("$7::bigint")}, next_fire_time = ${timeOf("$8::bigint")}
    from locked l
    cross join locked_cron lc
    cross join clock k
    where c.owner_id = $1::uuid and c.lease_id = $4::uuid and k.access = 'OK' and l.end_time is null
      and l.due_time > k.now and lc.state = $5::smallint
      and coalesce(${timeOf("$7::bigint")}, 'infinity') > k.now
    returning c.state, c.next_slot_time
  )
  select k.access, k.now, ${leaseColumns("l")}, coalesce(m.state, lc.state) as state,
    case when m.state is null then lc.next_slot_time else m.next_slot_time end as next_slot_time
  from clock k
  left join locked l on true
  left join locked_cron lc on true
  left join moved m on true`,
);

/** A lease of the caller's, as a target. $4: the lease. No lock. */
export const findTarget = readStatement<CallerColumns & MaybeLeaseRow>(
  "find-cron-target",
  `with ${callerAccess(caller)}
  select caller.access, statement_timestamp() as now, ${leaseColumns("l")}
  from caller
  left join lease l on caller.access = 'OK' and l.owner_id = $1::uuid and l.lease_id = $4::uuid`,
);

/** Deletes the runs of an ended Cron lease, at most $3, and its schedule. Gives how many runs. */
export const deleteCron = writeStatement<{ runs: number }>(
  "delete-cron",
  `with runs as (
    delete from cron_run
    -- Not by ctid: one whose attempt is counted meanwhile would have another by then, and stay.
    where owner_id = $1::uuid and lease_id = $2::uuid and slot_time = any(array(
      select slot_time from cron_run where owner_id = $1::uuid and lease_id = $2::uuid limit $3::int
    ))
    returning 1
  ),
  schedule as (
    delete from cron where owner_id = $1::uuid and lease_id = $2::uuid
  )
  select count(*)::int as runs from runs`,
);
