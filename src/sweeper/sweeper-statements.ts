/** The statements of the sweeper that belong to no one thing: tombstones, and how late it is. */
import { Claim_State } from "#gen/leasehold/v1/handoff_pb.js";
import type { DatabaseTime } from "../database/row-types.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import { idempotencyScope, requestWindowSeconds, windowedScopes } from "../idempotency/idempotency.ts";

/** How long a request_id is kept at least, whatever became of what it made, in seconds. */
const minRememberSeconds = 86_400;

/**
 * Reaps tombstones: $1 of those that ended $2 seconds ago and more, with all that hangs on them. The ledger stays.
 * Claims are found through their handoffs, which have the index.
 */
export const reapTombstones = writeStatement<{ lease_id: string }>(
  "reap-tombstones",
  `with candidate as materialized (
    select owner_id, lease_id from lease
    where destroy_time is not null and end_time <= statement_timestamp() - make_interval(secs => $2::bigint)
      and create_time <= statement_timestamp() - make_interval(secs => ${minRememberSeconds})
    order by end_time
    limit $1::int
  ),
  tokens as (
    delete from token t using candidate c where t.lease_id = c.lease_id
  ),
  handoffs as (
    delete from handoff h using candidate c where h.owner_id = c.owner_id and h.lease_id = c.lease_id
    returning h.owner_id, h.handoff_id
  ),
  claims as (
    delete from claim x using handoffs h where x.owner_id = h.owner_id and x.handoff_id = h.handoff_id
  ),
  requests as (
    delete from idempotency i using candidate c where i.owner_id = c.owner_id and i.lease_id = c.lease_id
  )
  delete from lease l using candidate c where l.owner_id = c.owner_id and l.lease_id = c.lease_id
  returning l.lease_id`,
);

/** Forgets the requests of credits once they are a day old: what they made does not live on. */
export const forgetCredits = writeStatement<{ request_id: string }>(
  "forget-credits",
  `delete from idempotency
  where lease_id is null and scope = ${idempotencyScope.creditAccount}
    and create_time <= statement_timestamp() - make_interval(secs => ${minRememberSeconds})
  returning request_id`,
);

/**
 * Forgets the requests about a lease's content whose window is over: $1 of them. Leans on idempotency_windowed.
 */
export const forgetWindowed = writeStatement<{ request_id: string }>(
  "forget-windowed",
  `delete from idempotency
  where ctid in (
    select ctid from idempotency
    where scope in (${windowedScopes.join(", ")})
      and create_time <= statement_timestamp() - make_interval(secs => ${requestWindowSeconds})
    order by create_time
    limit $1::int
    for update skip locked
  )
  returning request_id`,
);

/** Records that a task of the sweeper has just been done to its end. */
export const recordSweep = writeStatement<never>(
  "record-sweep",
  `insert into sweep_task (task, success_time) select task, clock_timestamp() from unnest($1::text[]) as task
  on conflict (task) do update set success_time = excluded.success_time`,
);

/** How late the sweeper is: its most overdue work, and how long ago its tasks that must not wait were last all done. Null before the first. */
export const findSweeperLag = readStatement<{
  now: DatabaseTime;
  overdue_since: DatabaseTime | null;
  last_round: DatabaseTime | null;
}>(
  "find-sweeper-lag",
  `select statement_timestamp() as now,
    least(
      (select min(due_time) from lease where end_time is null and due_time <= statement_timestamp()),
      (select min(end_time) from lease where end_time is not null and destroy_time is null),
      (
        select min(hold_expire_time) from claim
        where state in (${Claim_State.HELD}, ${Claim_State.DELIVERED}) and hold_expire_time <= statement_timestamp()
      )
    ) as overdue_since,
    (
      select min(success_time) from sweep_task where task in ('settle-claims', 'end-leases', 'destroy-content')
    ) as last_round`,
);
