/** The statements about a Storage lease's body: what is stored of it, who is writing it, and where it is read from. */

import { Lease_EndReason, Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { accessAfterWait, callerAccess } from "../account/caller-statements.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import { type LeaseRow, leaseColumns, type MaybeLeaseRow } from "../lease/lease-row.ts";
import type { CallerColumns } from "../lease/lease-statements.ts";

/** A body's place: first chunk, number of chunks, and the generation of the upload that wrote them. */
export type SegmentColumns = readonly [firstChunk: number, chunkCount: number, uploadGeneration: number];

/** What `storage_content` and `storage_segment` hold of one lease. Null before the first upload begins. */
export interface BodyColumns {
  readonly sealed_tail: Buffer | null;
  readonly segments: readonly SegmentColumns[] | null;
}

const parameters = { owner: 1, key: 2, scope: 3 };
const caller = callerAccess(parameters);
const stillAllowed = accessAfterWait(parameters);

function sealsAfter(lease: string): string {
  return `${lease}.seal_count + least($9::bigint, ${lease}.size_bytes) / 65536 + 1024`;
}

/**
 * Begins an upload: takes the next generation, which fails every earlier writer's commits. $5: the offset to go on
 * from, $6: whether what is stored is dropped (the lease is locked by an earlier statement of the transaction then, so
 * that every segment is visible to be dropped), $7: the most seals of a key, $8: how many bytes are sure to come, $9:
 * how many may come, or null. The seals that a writer may make are counted ahead, one for each chunk of 64 KiB that may
 * come and fits, and 1024 for commits, so that no crash loses the count.
 *
 * Locks the lease; compares the clock with the locked row. begun is false if the row refuses: the columns say why.
 */
export const beginUpload = writeStatement<
  CallerColumns & MaybeLeaseRow & { upload_generation: number | null; sealed_tail: Buffer | null; seals_left: boolean }
>(
  "begin-upload",
  `with ${caller},
  locked as materialized (
    select l.* from lease l
    where l.owner_id = $1::uuid and l.lease_id = $4::uuid and (select access from caller) = 'OK'
    for no key update
  ),
  clock as materialized (
    select clock_timestamp() as now, ${stillAllowed} from (select count(*) from locked) as waited
  ),
  allowed as materialized (
    select l.owner_id, l.lease_id from locked l cross join clock c
    where c.access = 'OK' and l.variant = ${Lease_Variant.STORAGE} and l.end_time is null and l.due_time > c.now and l.active_time is null
      and (l.content_bytes = $5::bigint or $6::boolean) and $8::bigint <= l.size_bytes - $5::bigint
      and ${sealsAfter("l")} <= $7::bigint
  ),
  dropped as (
    delete from storage_segment s using allowed a
    where $6::boolean and s.owner_id = a.owner_id and s.lease_id = a.lease_id
  ),
  counted as (
    update lease l
    set seal_count = ${sealsAfter("l")}, content_bytes = case when $6::boolean then 0 else l.content_bytes end
    from allowed a
    where l.owner_id = a.owner_id and l.lease_id = a.lease_id
  ),
  begun as (
    insert into storage_content as content (owner_id, lease_id, upload_generation)
    select a.owner_id, a.lease_id, 1 from allowed a
    on conflict (owner_id, lease_id) do update
    set upload_generation = content.upload_generation + 1,
      sealed_tail = case when $6::boolean then null else content.sealed_tail end
    returning upload_generation, sealed_tail
  )
  select clock.access, clock.now, ${leaseColumns("l")},
    begun.upload_generation, begun.sealed_tail, ${sealsAfter("l")} <= $7::bigint as seals_left
  from clock
  left join locked l on true
  left join begun on true`,
);

/** Locks a lease of the caller's, so that the next statement of the transaction sees all that is committed of it. */
export const lockLease = writeStatement<{ lease_id: LeaseUuid }>(
  "lock-lease",
  "select lease_id from lease where owner_id = $1::uuid and lease_id = $2::uuid for no key update",
);

/**
 * Moves what is stored of a body, once it is synced. $5: the writer's generation, $6: the offset it began from or last
 * committed, $7: the new one, $8: the sealed tail, $9: the first chunk of its segment, $10: how many chunks that has,
 * $11: the sealed details of the finished lease, null if it goes on.
 *
 * Locks the lease, then the content. moved is false if a later writer began, or the row refuses.
 */
export const commitUpload = writeStatement<
  CallerColumns & MaybeLeaseRow & { upload_generation: number | null; moved: boolean }
>(
  "commit-upload",
  `with ${caller},
  locked as materialized (
    select l.* from lease l
    where l.owner_id = $1::uuid and l.lease_id = $4::uuid and (select access from caller) = 'OK'
    for no key update
  ),
  content as materialized (
    select c.upload_generation
    from (select count(*) as leases from locked) as waited
    join storage_content c on waited.leases > 0
    where c.owner_id = $1::uuid and c.lease_id = $4::uuid
    for no key update of c
  ),
  clock as materialized (
    select clock_timestamp() as now, ${stillAllowed} from (select count(*) from content) as waited
  ),
  allowed as materialized (
    select l.owner_id, l.lease_id, c.now from locked l cross join clock c cross join content
    where c.access = 'OK' and l.end_time is null and l.due_time > c.now and l.active_time is null
      and content.upload_generation = $5::int and l.content_bytes = $6::bigint
  ),
  placed as (
    insert into storage_segment (owner_id, lease_id, first_chunk, chunk_count, upload_generation)
    select a.owner_id, a.lease_id, $9::bigint, $10::bigint, $5::int from allowed a where $10::bigint > 0
    on conflict (owner_id, lease_id, first_chunk) do update set chunk_count = excluded.chunk_count
  ),
  tail as (
    update storage_content c set sealed_tail = $8::bytea from allowed a
    where c.owner_id = a.owner_id and c.lease_id = a.lease_id
  ),
  moved as (
    update lease l
    set content_bytes = $7::bigint,
      active_time = case when $11::bytea is not null then a.now end,
      due_time = case when $11::bytea is not null then l.expire_time else l.due_time end,
      due_reason = case when $11::bytea is not null then ${Lease_EndReason.DURATION_ELAPSED} else l.due_reason end,
      sealed_details = coalesce($11::bytea, l.sealed_details)
    from allowed a
    where l.owner_id = a.owner_id and l.lease_id = a.lease_id
    returning ${leaseColumns("l")}
  ),
  shown as (
    select ${leaseColumns("moved")}, true as moved from moved
    union all
    select ${leaseColumns("locked")}, false from locked where not exists (select from moved)
  )
  select clock.access, clock.now, ${leaseColumns("s")}, (select upload_generation from content) as upload_generation,
    coalesce(s.moved, false) as moved
  from clock
  left join shown s on true`,
);

const bodyColumns = `
  c.sealed_tail,
  (
    select jsonb_agg(jsonb_build_array(s.first_chunk, s.chunk_count, s.upload_generation) order by s.first_chunk)
    from storage_segment s
    where s.owner_id = l.owner_id and s.lease_id = l.lease_id
  ) as segments`;

/** A caller's lease with its body. No lock. */
export const findBodyOfCaller = readStatement<CallerColumns & MaybeLeaseRow & BodyColumns>(
  "find-body-of-caller",
  `with ${caller}
  select caller.access, statement_timestamp() as now, ${leaseColumns("l")}, ${bodyColumns}
  from caller
  left join lease l on caller.access = 'OK' and l.owner_id = $1::uuid and l.lease_id = $4::uuid
  left join storage_content c on c.owner_id = l.owner_id and c.lease_id = l.lease_id`,
);

/** The body of a lease that an earlier statement has allowed to be read. No lock. */
export const findBody = readStatement<{ now: CallerColumns["now"] } & LeaseRow & BodyColumns>(
  "find-body",
  `select statement_timestamp() as now, ${leaseColumns("l")}, ${bodyColumns}
  from lease l
  left join storage_content c on c.owner_id = l.owner_id and c.lease_id = l.lease_id
  where l.owner_id = $1::uuid and l.lease_id = $2::uuid`,
);

/**
 * As findBody, for several leases of one owner at once: one row for each question, in order. $2: the leases. Each is
 * looked up by key: plain joins, planned while the tables are small, read all of an owner's rows (0.03 of the rate at
 * 100,000 leases).
 */
export const findBodies = readStatement<{ now: CallerColumns["now"] } & MaybeLeaseRow & BodyColumns>(
  "find-bodies",
  `select statement_timestamp() as now, ${leaseColumns("l")}, ${bodyColumns}
  from unnest($2::uuid[]) with ordinality as asked(lease_id, ordinal)
  left join lateral (
    select * from lease where owner_id = $1::uuid and lease_id = asked.lease_id offset 0
  ) as l on true
  left join lateral (
    select * from storage_content where owner_id = $1::uuid and lease_id = asked.lease_id offset 0
  ) as c on true
  order by asked.ordinal`,
);

/**
 * Deletes the rows of ended leases' bodies. $1, $2: the owners and the leases. The arrays stand in the conditions beside
 * the pairs, so that rows are found by key whatever the plan was made for.
 */
export const deleteBodies = writeStatement<never>(
  "delete-bodies",
  `with gone as materialized (
    select * from unnest($1::uuid[], $2::uuid[]) as g(owner_id, lease_id)
  ),
  segments as (
    delete from storage_segment s using gone g
    where s.owner_id = any($1::uuid[]) and s.lease_id = any($2::uuid[])
      and s.owner_id = g.owner_id and s.lease_id = g.lease_id
  )
  delete from storage_content c using gone g
  where c.owner_id = any($1::uuid[]) and c.lease_id = any($2::uuid[])
    and c.owner_id = g.owner_id and c.lease_id = g.lease_id`,
);

/**
 * Which of these leases' files no row accounts for: an upload's row is committed before its first file is made, and
 * deleted after the last is gone. Leans on storage_content_by_lease, as the owner of a file is not known.
 */
export const findOrphansAmong = readStatement<{ lease_id: LeaseUuid }>(
  "find-storage-orphans",
  `select candidate.lease_id
  from unnest($1::uuid[]) as candidate(lease_id)
  where not exists (select from storage_content c where c.lease_id = candidate.lease_id)`,
);
