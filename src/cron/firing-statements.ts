/** The statements that fire: what is due, locked, and recorded, and the attempts of what was not delivered at once. */
import type { DatabaseTime } from "../database/row-types.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import type { AccountUuid, LeaseUuid, RunUuid } from "../ids/ids.ts";
import { isUnended, type LeaseRow, leaseColumns } from "../lease/lease-row.ts";
import { type CronRow, cronColumns, cronStates, runOutcomes } from "./cron-row.ts";
import { timeOf } from "./cron-statements.ts";

/**
 * Whether a run that is found by its key or its place is still to be delivered. Not `outcome = 1`: to a plan that was
 * made while no run was, the indexes over such runs look empty, and it would read them whole.
 */
export const isPending = (run: string) => `coalesce(${run}.outcome, 0) = ${runOutcomes.pending}`;

/** A schedule whose next slot is due, of a live lease, with what it delivers. */
export type DueCronRow = CronRow & {
  readonly now: DatabaseTime;
  readonly payload_id: string;
  readonly sealed_payload: Buffer;
};

/**
 * Schedules that are due, the longest first: at most $1, and of $2 bytes of payload, but at least one. $3: those to
 * leave out. Leans on cron_due; no lock.
 */
export const findDueCrons = readStatement<DueCronRow>(
  "find-due-crons",
  `select * from (
    select ${cronColumns("c")}, statement_timestamp() as now, c.payload_id, c.sealed_payload,
      sum(c.payload_bytes) over (order by c.next_fire_time, c.lease_id) as bytes,
      row_number() over (order by c.next_fire_time, c.lease_id) as place
    from (
      select c.* from cron c
      where c.state = ${cronStates.running} and c.next_fire_time <= statement_timestamp()
        and c.lease_id <> all($3::uuid[])
        and exists (
          select from lease l
          where l.owner_id = c.owner_id and l.lease_id = c.lease_id and ${isUnended("l")}
            and l.due_time > statement_timestamp()
        )
      order by c.next_fire_time
      limit $1::int
    ) as c
  ) as due
  where due.bytes <= $2::bigint or due.place = 1
  order by due.place`,
);

/** When the next slot fires after now, and how many microseconds that is from now. Null if there is none. */
export const findNextFiring = readStatement<{ wait_micros: bigint | null }>(
  "find-next-firing",
  `select (extract(epoch from min(next_fire_time) - clock_timestamp()) * 1000000)::bigint as wait_micros
  from cron
  where state = ${cronStates.running} and next_fire_time > statement_timestamp()`,
);

/** Locks leases of one owner, in order of their ids. $1: the owner, $2: the leases. */
export const lockLeases = writeStatement<LeaseRow & { readonly now: DatabaseTime }>(
  "lock-leases-to-fire",
  `with locked as materialized (
    select * from lease l where l.owner_id = $1::uuid and l.lease_id = any($2::uuid[]) order by l.lease_id
    for no key update
  )
  select ${leaseColumns("l")}, clock_timestamp() as now from locked l order by l.lease_id`,
);

/**
 * Locks schedules of one owner whose leases are locked, and tells whether each has a run that is still being delivered.
 * $1: the owner, $2: the leases. Leans on the primary key and on cron_run_open.
 */
export const lockCrons = writeStatement<CronRow & { readonly now: DatabaseTime; readonly has_open: boolean }>(
  "lock-crons",
  `with locked as materialized (
    select * from cron c where c.owner_id = $1::uuid and c.lease_id = any($2::uuid[]) order by c.lease_id
    for no key update
  )
  select ${cronColumns("c")}, clock_timestamp() as now, o.lease_id is not null as has_open
  from locked c
  left join lateral (
    select lease_id from cron_run
    where lease_id = c.lease_id and owner_id = c.owner_id and outcome = ${runOutcomes.pending} and attempt_count >= 0
    limit 1
  ) as o on true`,
);

/**
 * Locks the runs of leases that are still being delivered, before they are replaced: an attempt to post one is counted
 * on its row without its lease's lock. $1: the owner, $2: the leases, which are locked. Leans on cron_run_open.
 */
export const lockOpenRuns = writeStatement<{ readonly runs: number }>(
  "lock-open-cron-runs",
  `with locked as materialized (
    select r.lease_id
    from unnest($2::uuid[]) as replaced(lease_id)
    cross join lateral (
      select lease_id from cron_run
      where lease_id = replaced.lease_id and owner_id = $1::uuid and outcome = ${runOutcomes.pending}
        and attempt_count >= 0
      for update
    ) as r
  )
  select count(*)::int as runs from locked`,
);

/**
 * Counts settled runs into their leases: `settled` has lease_id, slot_time and the bytes of the run's line. Gives each
 * its settled_version by the order of slots.
 */
const numbered = (settled: string) => `
  select s.*, l.content_version + row_number() over (partition by s.lease_id order by s.slot_time) as settled_version
  from (${settled}) as s
  cross join lateral (
    select content_version from lease where owner_id = $1::uuid and lease_id = s.lease_id offset 0
  ) as l`;

const countInto = (settled: string) => `
  update lease l
  set content_bytes = l.content_bytes + s.bytes, content_version = s.version
  from (
    select lease_id, sum(bytes)::bigint as bytes, max(settled_version) as version from ${settled} group by lease_id
  ) as s
  where l.owner_id = $1::uuid and l.lease_id = any(array(select lease_id from ${settled})) and l.lease_id = s.lease_id`;

const lineBytes = (run: string) => `
  octet_length(cron_run_line(${run}.slot_time, ${run}.fire_time, ${run}.deliver_time, ${run}.attempt_count, ${run}.outcome,
    ${run}.last_error))`;

/**
 * Records slots that have come, and what follows them. $1: the owner, whose leases and schedules are locked. Of each
 * run $2: the lease, $3: the slot, $4: when it was due, both in microseconds, $5: its id, $6: its outcome, $7: how
 * often its delivery was tried, $8: why it failed, or null, $9: after how many microseconds it is tried again, or null.
 * A run has fired unless it was missed or skipped. Of each schedule $10: the lease, $11: its state, $12, $13: its next
 * slot, and when that fires, in microseconds, or null. $14: leases whose open runs, which are locked, are replaced. Of
 * each run $15: whether it is posted. A slot that was recorded before is a fault: the primary key lets none fire twice.
 */
export const recordFirings = writeStatement<never>(
  "record-cron-firings",
  `with clock as materialized (
    select clock_timestamp() as now
  ),
  fresh as materialized (
    select r.lease_id, ${timeOf("r.slot")} as slot_time, ${timeOf("r.due")} as due_time, r.run_id, r.is_posted,
      r.outcome::smallint as outcome, r.attempt_count, r.last_error,
      c.now + r.wait_micros * interval '1 microsecond' as next_attempt_time,
      case when r.outcome not in (${runOutcomes.missed}, ${runOutcomes.skipped}) then c.now end as fire_time,
      case when r.outcome = ${runOutcomes.delivered} then c.now end as deliver_time
    from unnest(
      $2::uuid[], $3::bigint[], $4::bigint[], $5::uuid[], $6::int[], $7::int[], $8::text[], $9::bigint[], $15::boolean[]
    ) as r(lease_id, slot, due, run_id, outcome, attempt_count, last_error, wait_micros, is_posted)
    cross join clock c
  ),
  open as materialized (
    select r.place, r.lease_id, r.slot_time, r.fire_time, r.deliver_time, r.attempt_count,
      ${runOutcomes.replaced}::smallint as outcome, r.last_error
    from unnest($14::uuid[]) as replaced(lease_id)
    cross join lateral (
      select ctid as place, * from cron_run
      where lease_id = replaced.lease_id and owner_id = $1::uuid and outcome = ${runOutcomes.pending}
        and attempt_count >= 0
      for update
    ) as r
  ),
  settled as materialized (
    ${numbered(`
      select lease_id, slot_time, ${lineBytes("fresh")} as bytes from fresh where outcome <> ${runOutcomes.pending}
      union all
      select lease_id, slot_time, ${lineBytes("open")} as bytes from open`)}
  ),
  replaced as (
    update cron_run r
    set outcome = ${runOutcomes.replaced}, next_attempt_time = null,
      settled_version = (
        select settled_version from settled s where s.lease_id = r.lease_id and s.slot_time = r.slot_time
      )
    where r.ctid = any(array(select place from open))
  ),
  recorded as (
    insert into cron_run
      (owner_id, lease_id, slot_time, due_time, run_id, is_posted, outcome, fire_time, deliver_time, attempt_count,
       next_attempt_time, last_error, settled_version)
    select $1::uuid, f.lease_id, f.slot_time, f.due_time, f.run_id, f.is_posted, f.outcome, f.fire_time, f.deliver_time,
      f.attempt_count, f.next_attempt_time, f.last_error, s.settled_version
    from fresh f
    left join settled s on s.lease_id = f.lease_id and s.slot_time = f.slot_time
    order by f.lease_id, f.slot_time
  ),
  counted as (
    ${countInto("settled")}
  )
  update cron c
  set state = n.state, next_slot_time = ${timeOf("n.slot")}, next_fire_time = ${timeOf("n.fire")}
  from unnest($10::uuid[], $11::int[], $12::bigint[], $13::bigint[]) as n(lease_id, state, slot, fire)
  where c.owner_id = $1::uuid and c.lease_id = any($10::uuid[]) and c.lease_id = n.lease_id`,
);

/** A run whose delivery is to be tried, with its schedule, whose columns start with `cron_`, and its payload. */
export type DueRunRow = { readonly now: DatabaseTime } & RunColumns & Readonly<Record<string, unknown>>;

/** What is known of a run that is being delivered. */
export interface RunColumns {
  readonly owner_id: AccountUuid;
  readonly lease_id: LeaseUuid;
  readonly slot_time: DatabaseTime;
  readonly due_time: DatabaseTime;
  readonly run_id: RunUuid;
  readonly attempt_count: number;
  readonly payload_id: string;
  readonly sealed_payload: Buffer;
}

const runColumns = (run: string, cron: string) => `
  ${run}.owner_id, ${run}.lease_id, ${run}.slot_time, ${run}.due_time, ${run}.run_id, ${run}.attempt_count,
  ${cron}.payload_id, ${cron}.sealed_payload, ${cronColumns(cron, "cron_")}`;

export const liveLease = (run: string) => `
  exists (
    select from lease l
    where l.owner_id = ${run}.owner_id and l.lease_id = ${run}.lease_id and ${isUnended("l")}
      and l.due_time > statement_timestamp()
  )`;

/**
 * Runs into leases whose next attempt is due: at most $1, without those of the leases $2. Leans on cron_run_due; no
 * lock.
 */
export const findDueRuns = readStatement<DueRunRow>(
  "find-due-cron-runs",
  `select statement_timestamp() as now, ${runColumns("r", "c")}
  from (
    select * from cron_run
    where outcome = ${runOutcomes.pending} and not is_posted and next_attempt_time <= statement_timestamp()
      and lease_id <> all($2::uuid[])
    order by next_attempt_time
    limit $1::int
  ) as r
  cross join lateral (select * from cron where owner_id = r.owner_id and lease_id = r.lease_id offset 0) as c
  where ${liveLease("r")}`,
);

/**
 * Locks a run that is still to be delivered, and was tried $4 times. $1: the owner, $2: the lease, $3: the slot in
 * microseconds.
 */
export const lockRun = writeStatement<{ readonly now: DatabaseTime }>(
  "lock-cron-run",
  `with locked as materialized (
    select lease_id from cron_run
    where owner_id = $1::uuid and lease_id = $2::uuid and slot_time = ${timeOf("$3::bigint")}
      and ${isPending("cron_run")} and attempt_count = $4::int
    for no key update
  )
  select clock_timestamp() as now from locked`,
);

/**
 * Records what became of an attempt of a run that was tried before: $5: its outcome, $6: how often it has been tried,
 * $7: why it failed, or null, $8: after how many microseconds it is tried again, or null, $9: whether its target has
 * ended, so that the schedule stops. $1: the owner, $2: the lease, $3: the slot in microseconds, $4: how often it had
 * been tried. Locks the lease, then the schedule, then the run. Gives nothing if another has recorded it since, or the
 * lease has ended.
 */
export const recordAttempt = writeStatement<{ readonly outcome: number }>(
  "record-cron-attempt",
  `with locked_lease as materialized (
    select lease_id, end_time, due_time from lease where owner_id = $1::uuid and lease_id = $2::uuid for no key update
  ),
  locked_cron as materialized (
    select c.lease_id
    from (select count(*) as leases from locked_lease) as waited
    join cron c on waited.leases > 0
    where c.owner_id = $1::uuid and c.lease_id = $2::uuid
    for no key update of c
  ),
  locked_run as materialized (
    select r.lease_id, r.slot_time, r.fire_time, r.last_error, clock_timestamp() as now
    from (select count(*) as crons from locked_cron) as waited
    join cron_run r on waited.crons > 0
    where r.owner_id = $1::uuid and r.lease_id = $2::uuid and r.slot_time = ${timeOf("$3::bigint")}
      and ${isPending("r")} and r.attempt_count = $4::int
    for no key update of r
  ),
  result as materialized (
    select r.lease_id, r.slot_time, r.fire_time, r.now, $5::smallint as outcome, $6::int as attempt_count,
      coalesce($7::text, r.last_error) as last_error,
      case when $5::int = ${runOutcomes.delivered} then r.now end as deliver_time
    from locked_run r
    join locked_lease l on l.lease_id = r.lease_id
    where l.end_time is null and l.due_time > r.now
  ),
  counted as (
    update lease l
    set content_bytes = l.content_bytes + ${lineBytes("r")}, content_version = l.content_version + 1
    from result r
    where l.owner_id = $1::uuid and l.lease_id = $2::uuid and r.outcome <> ${runOutcomes.pending}
    returning l.content_version
  ),
  stopped as (
    update cron c
    set state = ${cronStates.targetEnded}, next_slot_time = null, next_fire_time = null
    from result r
    where c.owner_id = $1::uuid and c.lease_id = $2::uuid and $9::boolean
  )
  update cron_run x
  set outcome = r.outcome, attempt_count = r.attempt_count, last_error = r.last_error, deliver_time = r.deliver_time,
    next_attempt_time = r.now + $8::bigint * interval '1 microsecond',
    settled_version = (select content_version from counted)
  from result r
  where x.owner_id = $1::uuid and x.lease_id = $2::uuid and x.slot_time = ${timeOf("$3::bigint")}
  returning x.outcome`,
);
