/** The statements that remove entries whose time is over, and values that no claim reads any more. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { readStatement, writeStatement } from "../database/statement.ts";
import type { AccountUuid, LeaseUuid } from "../ids/ids.ts";
import { entryStates } from "./entry-row.ts";
import { disposal, forgetting } from "./entry-statement-parts.ts";
import { appendOverheadBytes, entryOverheadBytes } from "./scratchpad-details.ts";

/** What a statement removed. STALE: the scratchpad changed while it waited for the lock, and nothing was done. */
export interface ExpiredRow {
  readonly is_stale: boolean;
  readonly entries: number;
}

/**
 * Removes entries of a live scratchpad whose time is over: $3 of them, each with a version of its own. $1: the owner,
 * $2: the lease. No row if there is no such lease, or if it has ended. Locks the lease; see writeEntries for what rests
 * on that. Leans on scratchpad_entry_expiring.
 */
export const expireEntries = writeStatement<ExpiredRow>(
  "expire-entries",
  `with locked as materialized (
    select * from lease
    where owner_id = $1::uuid and lease_id = $2::uuid and variant = ${Lease_Variant.SCRATCHPAD}
    for no key update
  ),
  pad as materialized (
    select l.*, clock_timestamp() as now, newest_claimed_version($1::uuid, $2::uuid) as claimed_version,
      l.content_version <> (select content_version from lease where owner_id = $1::uuid and lease_id = $2::uuid) as is_stale
    from locked l
  ),
  open_pad as materialized (
    select * from pad where end_time is null and due_time > now
  ),
  due as materialized (
    select p.lease_id, e.key, coalesce(e.base_version <= p.claimed_version, false) as keeps, e.base_version,
      e.base_bytes, e.body_id, e.append_count as appends, e.value_bytes,
      p.content_version + row_number() over (order by e.expire_time, e.key) as new_version
    from open_pad p
    cross join lateral (
      select * from scratchpad_entry
      where lease_id = p.lease_id and state = ${entryStates.live} and expire_time <= p.now
      order by expire_time
      limit $3::int
    ) as e
    where not p.is_stale
  ),
  ${disposal("due")},
  removed as (
    update scratchpad_entry e
    set state = ${entryStates.expired}, version = d.new_version, value_bytes = 0, base_bytes = 0, append_count = 0,
      base_version = d.new_version, expire_time = null, sealed = ''
    from due d
    where e.owner_id = $1::uuid and e.lease_id = $2::uuid and e.key = any(array(select key from due)) and e.key = d.key
  ),
  total as materialized (
    select lease_id, count(*) as entries, sum(value_bytes)::bigint as bytes, max(new_version) as version,
      sum(${entryOverheadBytes} + octet_length(key) + ${appendOverheadBytes} * appends)::bigint as overhead_bytes
    from due
    group by lease_id
  ),
  counted as (
    update lease l
    set content_bytes = p.content_bytes - t.bytes, content_items = p.content_items - t.entries,
      overhead_bytes = p.overhead_bytes - t.overhead_bytes, content_version = t.version
    from total t
    cross join open_pad p
    where l.owner_id = $1::uuid and l.lease_id = $2::uuid
  ),
  ${forgetting("select lease_id from total", "select key from due")}
  select p.is_stale, coalesce((select entries from total), 0)::int as entries from open_pad p`,
);

/** Scratchpads that have entries whose time is over, by at most $1 of those. Leans on scratchpad_entry_due; no lock. */
export const findExpired = readStatement<{ owner_id: AccountUuid; lease_id: LeaseUuid }>(
  "find-expired-entries",
  `select distinct owner_id, lease_id
  from (
    select owner_id, lease_id from scratchpad_entry
    where state = ${entryStates.live} and expire_time <= statement_timestamp() and version > 0
    order by expire_time
    limit $1::int
  ) as expired`,
);

/**
 * Scratchpads that keep values which no open claim reads any more: at most $1. Steps from lease to lease by
 * scratchpad_kept_by_lease, however many values each keeps, and looks at the one that went first.
 */
export const findIdleKeptValues = readStatement<{ owner_id: AccountUuid; lease_id: LeaseUuid }>(
  "find-idle-kept-values",
  `with recursive keeper as (
    (
      select owner_id, lease_id, gone_version from scratchpad_kept
      where base_version > 0
      order by lease_id, gone_version
      limit 1
    )
    union all
    select next.owner_id, next.lease_id, next.gone_version
    from keeper k
    cross join lateral (
      select owner_id, lease_id, gone_version from scratchpad_kept
      where lease_id > k.lease_id and base_version > 0
      order by lease_id, gone_version
      limit 1
    ) as next
  )
  select owner_id, lease_id from keeper
  where gone_version <= coalesce(oldest_claimed_version(owner_id, lease_id), gone_version)
  limit $1::int`,
);

/**
 * Removes values of a scratchpad that were kept for claims, and went before the oldest that is open was made: at most
 * $3, and the appends of the same entries. A claim made after this statement began is of a later version than all that
 * it sees kept, and reads none of it.
 */
export const deleteKeptValues = writeStatement<{ base_version: bigint }>(
  "delete-kept-values",
  `with claimed as materialized (
    select oldest_claimed_version($1::uuid, $2::uuid) as version
  ),
  oldest as materialized (
    select k.place, k.gone_version, k.key
    from claimed c
    cross join lateral (
      select ctid as place, gone_version, key from scratchpad_kept
      where lease_id = $2::uuid and owner_id = $1::uuid and base_version > 0
        and gone_version <= coalesce(c.version, 9223372036854775807)
      order by gone_version
      limit $3::int
    ) as k
  ),
  appends as (
    delete from scratchpad_append
    where ctid = any(array(
      select a.place
      from oldest o
      cross join lateral (
        select ctid as place from scratchpad_append
        where owner_id = $1::uuid and lease_id = $2::uuid and key = o.key and gone_version = o.gone_version
        offset 0
      ) as a
    ))
  )
  delete from scratchpad_kept
  where ctid = any(array(select place from oldest))
  returning base_version`,
);
