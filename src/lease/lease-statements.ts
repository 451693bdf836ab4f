/** The statements that show leases and end them. */
import { LedgerEntry_Kind } from "#gen/leasehold/v1/account_pb.js";
import { Lease_EndReason } from "#gen/leasehold/v1/lease_pb.js";
import { type Access, accessAfterWait, accessOf, callerAccess } from "../account/caller-statements.ts";
import { ledgerAccount } from "../account/ledger.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import { idempotencyScope } from "../idempotency/idempotency.ts";
import type { AccountUuid, LeaseUuid } from "../ids/ids.ts";
import { isUnended, type LeaseRow, leaseColumns, type MaybeLeaseRow } from "./lease-row.ts";

/** What every statement by a caller returns beside its own columns. */
export interface CallerColumns {
  readonly access: Access;
  readonly now: DatabaseTime;
}

const caller = callerAccess({ owner: 1, key: 2, scope: 3 });

/**
 * Leases of one owner's, each asked for by a key: one row for each question, in order. $2: the keys, $3: the scope, $4:
 * the leases. Leans on the primary key; no lock.
 */
export const getLeases = readStatement<CallerColumns & MaybeLeaseRow>(
  "get-leases",
  `select case when k.key_id is null then 'CREDENTIAL_INVALID' else ${accessOf("k", "a", "$3::smallint")} end as access,
    statement_timestamp() as now, ${leaseColumns("l")}
  from unnest($2::uuid[], $4::uuid[]) with ordinality as asked(key_id, lease_id, ordinal)
  left join lateral (
    select * from api_key where owner_id = $1::uuid and key_id = asked.key_id offset 0
  ) as k on true
  left join lateral (
    select * from account where owner_id = k.owner_id offset 0
  ) as a on true
  left join lateral (
    select * from lease where owner_id = a.owner_id and lease_id = asked.lease_id offset 0
  ) as l on true
  order by asked.ordinal`,
);

/** A page of the caller's leases, newest first, before $4. $5: ended ones too. Leans on the primary key; no lock. */
export const listLeases = readStatement<CallerColumns & MaybeLeaseRow>(
  "list-leases",
  `with ${caller}
  select caller.access, statement_timestamp() as now, ${leaseColumns("l")}
  from caller
  left join lateral (
    select * from lease
    where caller.access = 'OK' and owner_id = $1::uuid and ($4::uuid is null or lease_id < $4::uuid)
      and ($5::boolean or (end_time is null and due_time > statement_timestamp()))
    order by lease_id desc
    limit $6::int
  ) as l on true
  order by l.lease_id desc`,
);

/** The lease that a request_id made before, and the digests it was made with. */
export const findCreated = readStatement<CallerColumns & { digests: Buffer | null } & MaybeLeaseRow>(
  "find-created",
  `with ${caller}
  select caller.access, statement_timestamp() as now, seen.digests, ${leaseColumns("l")}
  from caller
  left join idempotency seen on caller.access = 'OK' and seen.owner_id = $1::uuid
    and seen.scope = ${idempotencyScope.createLease} and seen.scope_id = $1::uuid and seen.request_id = $4::uuid
  left join lateral (select * from lease where owner_id = $1::uuid and lease_id = seen.thing_id offset 0) as l on true`,
);

/**
 * The body of the two statements that end leases of one owner. $1: the owner, $2: the leases.
 *
 * Locks: the account, the keys that paid, the leases, each by id: a refund moves money, and only the locked lease tells
 * whether there is one. If every lease was active before, and so is for good, there is none, and neither account nor key
 * is locked. A lease that is due ends at its due_time for its due_reason, whoever comes first; another ends
 * now for `reason`, or not at all if there is none. Key and sealed details go in the same commit, so the content cannot
 * be opened from then on.
 */
function endLeases(allowed: string, stillAllowed: string, reason: Lease_EndReason | "null"): string {
  return `
  locked_account as materialized (
    select owner_id, balance_micros from account
    where owner_id = $1::uuid and ${allowed} and exists (
      select from lease
      where owner_id = $1::uuid and lease_id = any($2::uuid[]) and active_time is null and ${isUnended("lease")}
    )
    for no key update
  ),
  locked_key as materialized (
    select k.key_id, k.spent_micros
    from locked_account a
    join api_key k on k.owner_id = a.owner_id
    where k.key_id in (select key_id from lease where owner_id = $1::uuid and lease_id = any($2::uuid[]))
    order by k.key_id
    for no key update of k
  ),
  locked_lease as materialized (
    select l.*
    from (select count(*) as keys from locked_key) as waited
    join lease l on waited.keys >= 0
    where l.owner_id = $1::uuid and l.lease_id = any($2::uuid[]) and ${allowed}
    order by l.lease_id
    for no key update of l
  ),
  clock as materialized (
    select clock_timestamp() as now, ${stillAllowed} from (select count(*) from locked_lease) as waited
  ),
  ending as materialized (
    select l.*, c.now, least(c.now, l.due_time) as ended_at,
      case when l.due_time <= c.now then l.due_reason else ${reason}::smallint end as ended_for,
      l.active_time is null as refunded
    from locked_lease l
    cross join clock c
    where c.access = 'OK' and l.end_time is null and (l.due_time <= c.now or ${reason}::smallint is not null)
  ),
  ended as (
    update lease l
    set end_time = e.ended_at, end_reason = e.ended_for, wrapped_key = null, sealed_details = null, labels = null
    from ending e
    where l.owner_id = $1::uuid and l.lease_id = any($2::uuid[]) and l.lease_id = e.lease_id and ${isUnended("l")}
    returning ${leaseColumns("l")}
  ),
  refund as materialized (
    select e.lease_id, e.key_id, e.price_micros, e.now,
      sum(e.price_micros) over (order by e.lease_id) as running_micros
    from ending e
    join ended on ended.lease_id = e.lease_id
    where e.refunded
  ),
  credited as (
    update account a
    set balance_micros = l.balance_micros + total.price_micros
    from locked_account l, (select sum(price_micros)::bigint as price_micros, count(*) as leases from refund) as total
    where a.owner_id = l.owner_id and total.leases > 0
  ),
  unspent as (
    update api_key k
    set spent_micros = l.spent_micros - total.price_micros
    from locked_key l, (select key_id, sum(price_micros)::bigint as price_micros from refund group by key_id) as total
    where k.owner_id = $1::uuid and k.key_id = l.key_id and total.key_id = l.key_id
  ),
  booked as (
    insert into ledger_entry
      (owner_id, entry_id, transaction_id, ledger_account, kind, amount_micros, balance_after_micros, lease_id, create_time)
    select $1::uuid, uuidv7(), r.lease_id, side.ledger_account, ${LedgerEntry_Kind.REFUND}, side.amount_micros,
      side.balance_after_micros, r.lease_id, r.now
    from refund r
    cross join locked_account l
    cross join lateral (
      values (${ledgerAccount.balance}, r.price_micros, l.balance_micros + r.running_micros), (${ledgerAccount.revenue}, -r.price_micros, null)
    ) as side(ledger_account, amount_micros, balance_after_micros)
    order by r.lease_id, side.ledger_account
  )`;
}

const ender = { owner: 1, key: 3, scope: 4 };

/** Ends a caller's leases now. $3, $4: the caller's key and scope. Rows: each of the leases, as it is after. */
export const endLeasesOfCaller = writeStatement<CallerColumns & MaybeLeaseRow>(
  "end-leases-of-caller",
  `with ${callerAccess(ender)},
  ${endLeases("(select access from caller) = 'OK'", accessAfterWait(ender), Lease_EndReason.OWNER_DELETED)}
  select clock.access, clock.now, ${leaseColumns("shown")}
  from clock
  left join (
    select ${leaseColumns("ended")} from ended
    union all
    select ${leaseColumns("l")} from locked_lease l where l.end_time is not null
  ) as shown on true`,
);

/** Ends those of an owner's leases that are due. Rows: the leases that this statement ended, for destruction. */
export const endDueLeases = writeStatement<LeaseRow>(
  "end-due-leases",
  `with ${endLeases("true", "'OK' as access", "null")}
  select ${leaseColumns("ended")} from ended`,
);

/** Leases that are due and not ended, the most overdue first, without locking them. $1: how many, $2: of other owners. */
export const findDueLeases = readStatement<{ owner_id: AccountUuid; lease_id: LeaseUuid }>(
  "find-due-leases",
  `select owner_id, lease_id from lease
  where end_time is null and due_time <= statement_timestamp() and owner_id <> all($2::uuid[])
  order by due_time
  limit $1::int`,
);

/** Leases that ended and are not destroyed, the oldest end first, without locking them. $1: how many, $2: other than these. */
export const findUndestroyedLeases = readStatement<{ owner_id: AccountUuid; lease_id: LeaseUuid; variant: number }>(
  "find-undestroyed-leases",
  `select owner_id, lease_id, variant from lease
  where end_time is not null and destroy_time is null and lease_id <> all($2::uuid[])
  order by end_time
  limit $1::int`,
);

/**
 * Records that nothing of these leases' content is left in the live system, and forgets what their requests held. Locks
 * the leases by id, so that sweepers who meet on some of them wait for each other and do not deadlock.
 */
export const markDestroyed = writeStatement<{ owner_id: AccountUuid; lease_id: LeaseUuid; destroy_time: DatabaseTime }>(
  "mark-destroyed",
  `with gone as materialized (
    select l.owner_id, l.lease_id
    from unnest($1::uuid[], $2::uuid[]) as g(owner_id, lease_id)
    join lease l on l.owner_id = g.owner_id and l.lease_id = g.lease_id
    where l.end_time is not null and l.destroy_time is null
    order by l.owner_id, l.lease_id
    for no key update of l
  ),
  forgotten as (
    update idempotency i
    set digests = '', answer = null
    from gone g
    where i.owner_id = g.owner_id and i.lease_id = g.lease_id
  )
  update lease l
  set destroy_time = clock_timestamp()
  from gone g
  where l.owner_id = g.owner_id and l.lease_id = g.lease_id and l.destroy_time is null
  returning l.owner_id, l.lease_id, l.destroy_time`,
);

/** Which of these leases can no longer be read, so that their streams are cut. */
export const findEndedAmong = readStatement<LeaseRow & { now: DatabaseTime }>(
  "find-ended-among",
  `select statement_timestamp() as now, ${leaseColumns("l")}
  from unnest($1::uuid[], $2::uuid[]) as watched(owner_id, lease_id)
  cross join lateral (
    select * from lease where owner_id = watched.owner_id and lease_id = watched.lease_id offset 0
  ) as l
  where l.end_time is not null or l.due_time <= statement_timestamp()`,
);

/** Which of these callers may no longer act. $1: their places in the question, $2, $3, $4: owner, key and scope of each. */
export const findRefusedAmong = readStatement<{ ordinal: number; access: Exclude<Access, "OK"> }>(
  "find-refused-among",
  `select ordinal, access
  from unnest($1::int[], $2::uuid[], $3::uuid[], $4::smallint[]) as asked(ordinal, owner_id, key_id, scope)
  cross join lateral (
    select ${accessOf("k", "a", "asked.scope")} as access
    from api_key k
    join account a on a.owner_id = k.owner_id
    where k.owner_id = asked.owner_id and k.key_id = asked.key_id
    offset 0
  ) as caller
  where access <> 'OK'`,
);

/** A lease that an earlier statement has allowed to be read, as it is now. No lock. */
export const findReadLease = readStatement<{ now: DatabaseTime } & LeaseRow>(
  "find-read-lease",
  `select statement_timestamp() as now, ${leaseColumns("l")} from lease l where l.owner_id = $1::uuid and l.lease_id = $2::uuid`,
);
