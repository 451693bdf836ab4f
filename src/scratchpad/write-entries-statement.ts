/** The statement that changes entries: a batch of one key's, in one round trip and one commit. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { accessAfterWait, callerAccess } from "../account/caller-statements.ts";
import { maxSealsPerKey } from "../content/sealing.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import { idempotencyScope } from "../idempotency/idempotency.ts";
import type { CallerColumns } from "../lease/lease-statements.ts";
import { entryStates } from "./entry-row.ts";
import { disposal, forgetting } from "./entry-statement-parts.ts";
import { appendOverheadBytes, entryOverheadBytes } from "./scratchpad-details.ts";

/** What a write does to its entry. COUNT: as SET, but an entry that is there keeps its time. */
export const writeKinds = { set: 1, delete: 2, append: 3, count: 4 } as const;

/**
 * What became of one write. ABSENT: there was nothing to delete. SEEN: one of its request_ids wrote before. AGAIN: it
 * does not fit with those before it. STALE: somebody else changed the scratchpad while this statement waited for its
 * lock. EXPIRED: entries whose time is over are to be removed first.
 */
export type WriteOutcome =
  | "DONE"
  | "ABSENT"
  | "SEEN"
  | "AGAIN"
  | "STALE"
  | "EXPIRED"
  | "NOT_FOUND"
  | "ENDED"
  | "WRONG_VARIANT"
  | "MISMATCH"
  | "ENTRY_FULL"
  | "FULL"
  | "SEALS"
  | "REFUSED";

/** One row for each write, in order. */
export type WrittenRow = CallerColumns & {
  readonly outcome: WriteOutcome;
  /** DONE: the entry's version. Otherwise the one it is at, 0 if it is not there. */
  readonly version: bigint | null;
  /** How long the entry's value was before the write. */
  readonly value_bytes: number | null;
  readonly used_bytes: bigint | null;
  readonly size_bytes: bigint | null;
};

const parameters = { owner: 1, key: 2, scope: 3 };
const scopeOfKind = `
  (array[${idempotencyScope.setEntry}, ${idempotencyScope.deleteEntry}, ${idempotencyScope.appendToEntry},
    ${idempotencyScope.incrementEntry}])`;

/**
 * Writes different entries of one owner's scratchpads. $2 is null if the server itself delivers for the owner. $4:
 * leases, $5: kinds, $6: keys, $7: expected versions or null, $8: ttls in microseconds or null, $9: how many versions
 * each takes, $10: ids of the values, $11: their sizes, $12: how many bytes of $20 each is sealed in, in order, $13:
 * the largest value of an entry of each lease. A write may stand for several calls: of those with a request_id $14
 * tells the write's ordinal, $15 the request_id, $16 the digests, $17 which of the write's versions is the call's, $18
 * where in its bytes the call's start, $19 what else the answer needs, or null.
 *
 * Locks the leases by id. All else that the verdict rests on belongs to the lease and changes only with its
 * content_version: if that is as this statement's snapshot shows it, everything is as the snapshot shows it. If it is
 * not, the write is STALE, and is done by a second statement behind the lock. Claims change it not, so they are asked
 * for by a volatile function. Neither does a delete that finds nothing, which leaves a record if it has a request_id: a
 * delete with one is to be sent behind the lock at once. No two writes of a batch are to one entry.
 */
export const writeEntries = writeStatement<WrittenRow>(
  "write-entries",
  `with ${callerAccess(parameters)},
  input as materialized (
    select *, sum(sealed_bytes) over (order by ordinal)::int - sealed_bytes + 1 as sealed_start
    from unnest(
      $4::uuid[], $5::int[], $6::text[], $7::bigint[], $8::bigint[], $9::int[], $10::uuid[], $11::int[], $12::int[],
      $13::int[]
    ) with ordinality as item(
      lease_id, kind, key, expected_version, ttl_micros, versions, body_id, body_bytes, sealed_bytes, max_entry_bytes, ordinal
    )
  ),
  call as materialized (
    select c.*, i.lease_id, ${scopeOfKind}[i.kind] as scope,
      row_number() over (partition by i.lease_id, i.kind, c.request_id order by c.place) > 1 as is_twin
    from unnest($14::bigint[], $15::uuid[], $16::bytea[], $17::int[], $18::int[], $19::bytea[]) with ordinality
      as c(ordinal, request_id, digests, step, offset_bytes, answer, place)
    join input i on i.ordinal = c.ordinal
  ),
  known as materialized (
    select c.ordinal, bool_or(c.is_twin) as has_twin, bool_or(seen.request_id is not null) as is_seen,
      count(c.answer) as answers
    from call c
    left join lateral (
      select request_id from idempotency
      where owner_id = $1::uuid and scope = c.scope and scope_id = c.lease_id and request_id = c.request_id
      offset 0
    ) as seen on true
    group by c.ordinal
  ),
  locked as materialized (
    select l.lease_id, l.variant, l.size_bytes, l.end_time, l.due_time, l.content_bytes, l.content_items,
      l.content_version, l.overhead_bytes, l.seal_count
    from lease l
    where l.owner_id = $1::uuid and l.lease_id = any($4::uuid[])
      and ($2::uuid is null or (select access from caller) = 'OK')
    order by l.lease_id
    for no key update
  ),
  clock as materialized (
    select waited.now, case when $2::uuid is null then 'OK' else waited.access end as access
    from (
      select clock_timestamp() as now, ${accessAfterWait(parameters)} from (select count(*) from locked) as waited
    ) as waited
  ),
  pad as materialized (
    select l.*, c.now, l.content_bytes + l.overhead_bytes as used_bytes,
      newest_claimed_version($1::uuid, l.lease_id) as claimed_version,
      shown.content_version <> l.content_version as is_stale, expired.key is not null as has_expired
    from locked l
    cross join clock c
    left join lateral (
      select content_version from lease where owner_id = $1::uuid and lease_id = l.lease_id offset 0
    ) as shown on true
    left join lateral (
      select key from scratchpad_entry
      where lease_id = l.lease_id and state = ${entryStates.live} and expire_time <= c.now
      limit 1
    ) as expired on true
  ),
  met as materialized (
    select i.*, coalesce(e.state = ${entryStates.live}, false) as is_live, e.version as live_version,
      e.base_version as live_base_version, e.base_bytes as live_base_bytes, e.append_count as live_appends,
      e.body_id as live_body_id, e.expire_time as live_expire_time,
      case when e.state = ${entryStates.live} then e.value_bytes else 0 end as live_bytes,
      case when e.state = ${entryStates.live}
        then e.value_bytes + ${entryOverheadBytes} + octet_length(i.key) + ${appendOverheadBytes} * e.append_count
        else 0
      end as live_room
    from input i
    left join lateral (
      select * from scratchpad_entry where owner_id = $1::uuid and lease_id = i.lease_id and key = i.key offset 0
    ) as e on true
  ),
  measured as materialized (
    select m.*,
      case
        when m.kind = ${writeKinds.delete} then 0
        when m.kind = ${writeKinds.append} and m.is_live then m.live_bytes + m.body_bytes
        else m.body_bytes
      end as new_bytes,
      case
        when m.kind = ${writeKinds.delete} then -m.live_room
        when m.kind = ${writeKinds.append} and m.is_live then m.body_bytes + ${appendOverheadBytes}
        else m.body_bytes + ${entryOverheadBytes} + octet_length(m.key) - m.live_room
      end as more_room
    from met m
  ),
  judged as materialized (
    select m.*, case when m.kind = ${writeKinds.delete} then 0 else 1 + coalesce(k.answers, 0) end as seals,
      p.content_version, p.used_bytes, p.size_bytes, p.due_time, p.claimed_version, c.now,
      case
        when c.access <> 'OK' then 'REFUSED'
        when p.lease_id is null then 'NOT_FOUND'
        when p.end_time is not null or p.due_time <= c.now then 'ENDED'
        when p.variant <> ${Lease_Variant.SCRATCHPAD} then 'WRONG_VARIANT'
        when p.is_stale then 'STALE'
        when p.has_expired then 'EXPIRED'
        when k.is_seen then 'SEEN'
        when k.has_twin then 'AGAIN'
        when m.expected_version <> case when m.is_live then m.live_version else 0 end then 'MISMATCH'
        when m.kind = ${writeKinds.delete} and not m.is_live then 'ABSENT'
        when m.new_bytes > m.max_entry_bytes then 'ENTRY_FULL'
        when m.kind <> ${writeKinds.delete}
          and p.seal_count + (select count(*) from input) + (select count(*) from call) > ${maxSealsPerKey} then 'SEALS'
        when m.more_room > 0 and p.used_bytes + m.more_room > p.size_bytes then 'FULL'
      end as refusal
    from measured m
    cross join clock c
    left join pad p on p.lease_id = m.lease_id
    left join known k on k.ordinal = m.ordinal
  ),
  fitted as materialized (
    select j.*,
      j.refusal is null and j.more_room > 0
        and j.used_bytes + sum(j.more_room) filter (where j.refusal is null) over in_order > j.size_bytes as is_misfit
    from judged j
    window in_order as (partition by j.lease_id order by j.ordinal)
  ),
  verdict as materialized (
    select f.*,
      case
        when f.refusal is not null then f.refusal
        when bool_or(f.is_misfit) over (partition by f.lease_id order by f.ordinal) then 'AGAIN'
        else 'DONE'
      end as outcome
    from fitted f
  ),
  won as materialized (
    select v.*,
      v.content_version + sum(v.versions) over (partition by v.lease_id order by v.ordinal)::bigint as new_version
    from verdict v
    where v.outcome = 'DONE'
  ),
  remembered as (
    insert into idempotency
      (owner_id, scope, scope_id, request_id, digests, thing_id, thing_number, lease_id, create_time, answer)
    select $1::uuid, c.scope, c.lease_id, c.request_id, c.digests, v.body_id,
      case when w.ordinal is null then 0 else w.new_version - w.versions + c.step end, c.lease_id, v.now,
      case when v.kind = ${writeKinds.append} then int8send(v.live_bytes + c.offset_bytes) else c.answer end
    from call c
    join verdict v on v.ordinal = c.ordinal
    left join won w on w.ordinal = c.ordinal
    where v.outcome in ('DONE', 'ABSENT')
    order by c.lease_id, c.request_id
  ),
  replaced as materialized (
    select lease_id, key, coalesce(live_base_version <= claimed_version, false) as keeps,
      live_base_version as base_version, live_base_bytes as base_bytes, live_body_id as body_id, live_appends as appends,
      new_version
    from won
    where is_live and kind <> ${writeKinds.append}
  ),
  ${disposal("replaced")},
  written as (
    insert into scratchpad_entry as e
      (owner_id, lease_id, key, state, version, base_version, base_bytes, value_bytes, append_count, body_id, update_time,
       expire_time, sealed)
    select $1::uuid, w.lease_id, w.key,
      case when w.kind = ${writeKinds.delete} then ${entryStates.deleted} else ${entryStates.live} end,
      w.new_version,
      case when w.kind = ${writeKinds.append} and w.is_live then w.live_base_version else w.new_version end,
      case when w.kind = ${writeKinds.append} and w.is_live then w.live_base_bytes else w.new_bytes end,
      w.new_bytes,
      case when w.kind = ${writeKinds.append} and w.is_live then w.live_appends + 1 else 0 end,
      case when w.kind = ${writeKinds.append} and w.is_live then w.live_body_id else w.body_id end,
      w.now,
      case
        when w.kind = ${writeKinds.delete} then null
        when w.kind in (${writeKinds.append}, ${writeKinds.count}) and w.is_live then w.live_expire_time
        else least(w.now + w.ttl_micros * interval '1 microsecond', case when w.ttl_micros is not null then w.due_time end)
      end,
      case when w.kind = ${writeKinds.append} and w.is_live then ''
        else substring($20::bytea from w.sealed_start for w.sealed_bytes)
      end
    from won w
    order by w.lease_id, w.key
    on conflict (owner_id, lease_id, key) do update
    set state = excluded.state, version = excluded.version, base_version = excluded.base_version,
      base_bytes = excluded.base_bytes, value_bytes = excluded.value_bytes, append_count = excluded.append_count,
      body_id = excluded.body_id, update_time = excluded.update_time, expire_time = excluded.expire_time,
      sealed = case when excluded.append_count > 0 then e.sealed else excluded.sealed end
  ),
  appended as (
    insert into scratchpad_append (owner_id, lease_id, version, key, offset_bytes, body_bytes, body_id, sealed)
    select $1::uuid, lease_id, new_version, key, live_bytes, body_bytes, body_id,
      substring($20::bytea from sealed_start for sealed_bytes)
    from won
    where kind = ${writeKinds.append} and is_live
    order by lease_id, new_version
  ),
  total as materialized (
    select lease_id, sum(new_bytes - live_bytes)::bigint as bytes,
      sum(more_room - (new_bytes - live_bytes))::bigint as overhead_bytes,
      sum(case when kind = ${writeKinds.delete} then -1 when is_live then 0 else 1 end) as items,
      max(new_version) as version, sum(seals)::bigint as seals,
      bool_or(kind = ${writeKinds.delete}) as has_deleted
    from won
    group by lease_id
  ),
  counted as (
    update lease l
    set content_bytes = p.content_bytes + t.bytes, content_items = p.content_items + t.items,
      overhead_bytes = p.overhead_bytes + t.overhead_bytes, content_version = t.version, seal_count = p.seal_count + t.seals
    from total t
    join pad p on p.lease_id = t.lease_id
    where l.owner_id = $1::uuid and l.lease_id = any($4::uuid[]) and l.lease_id = t.lease_id
  ),
  ${forgetting("select lease_id from total where has_deleted", "select key from input where lease_id = gone.lease_id")}
  select c.access, c.now, v.outcome, v.live_bytes as value_bytes, v.used_bytes, v.size_bytes,
    case when v.outcome = 'DONE' then w.new_version when v.is_live then v.live_version else 0 end as version
  from verdict v
  cross join clock c
  left join won w on w.ordinal = v.ordinal
  order by v.ordinal`,
);

/**
 * Locks leases, so that a statement behind it in the transaction sees them as they are. $1: the owner, $2: the leases.
 */
export const lockScratchpads = writeStatement<never>(
  "lock-scratchpads",
  `select from lease where owner_id = $1::uuid and lease_id = any($2::uuid[]) order by lease_id for no key update`,
);

/**
 * What a call with a request_id wrote before. $1: the owner, $2: the lease, $3: the call's scope, $4: the request_id.
 */
export const findWritten = readStatement<{ digests: Buffer; version: bigint; answer: Buffer | null }>(
  "find-written",
  `select digests, thing_number as version, answer from idempotency
  where owner_id = $1::uuid and scope = $3::smallint and scope_id = $2::uuid and request_id = $4::uuid`,
);
