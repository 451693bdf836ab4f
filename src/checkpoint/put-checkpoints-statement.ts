/** The statement that puts checkpoints, and the one that finds a put by its request_id. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { accessAfterWait, callerAccess } from "../account/caller-statements.ts";
import { maxSealsPerKey } from "../content/sealing.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import { idempotencyScope } from "../idempotency/idempotency.ts";
import type { CallerColumns } from "../lease/lease-statements.ts";
import { fileState } from "./checkpoint-file-statements.ts";

/** What became of one put. AGAIN: one before it in the batch was to the same lease. LOST: its file was given up. */
export type PutOutcome =
  | "DONE"
  | "SEEN"
  | "AGAIN"
  | "NOT_FOUND"
  | "ENDED"
  | "WRONG_VARIANT"
  | "MISMATCH"
  | "SEALS"
  | "LOST"
  | "REFUSED";

/** One row for each put, in order. */
export type PutRow = CallerColumns & {
  readonly outcome: PutOutcome;
  /** The latest version: the one that was put, or the one there is if nothing was. */
  readonly version: bigint | null;
  /** The file of the version that was pushed out. */
  readonly pushed_generation: number | null;
};

const parameters = { owner: 1, key: 2, scope: 3 };

/**
 * Puts versions to different leases of one owner. $4: leases, $5: expected_versions or null, $6: request_ids or
 * null, $7: digests, $8: ids of the bodies, $9: their sizes, $10: their files or null, $11: how many chunks those have,
 * $12, $13: how many bytes of $14 are the sealed details and the sealed tail of each, in order. One parameter of bytes
 * goes as it is, where an array of them goes as text of twice the length, and what is not in a row of a CTE is not copied
 * with it.
 *
 * Locks the leases by id, then the rows of the files. The latest version is on the lease's row; what is read of
 * `checkpoint` never changes. A version takes the row of the one it pushes out, which is retained_versions before it and
 * may have been committed during the wait, unseen by this statement: the insert meets it by its key all the same, where a
 * delete would leave it. A put to a lease that another of the batch goes to comes again, to be judged by what that left.
 *
 * The workflow and the body's size are judged before, by what never changes; the lease's check holds the same line. A
 * request_id that was used before is met by the primary key of `idempotency`, also if that was during the wait.
 */
export const putCheckpoints = writeStatement<PutRow>(
  "put-checkpoints",
  `with ${callerAccess(parameters)},
  input as materialized (
    select *, sum(details_bytes + tail_bytes) over (order by ordinal)::int - details_bytes - tail_bytes + 1 as sealed_start
    from unnest(
      $4::uuid[], $5::bigint[], $6::uuid[], $7::bytea[], $8::uuid[], $9::bigint[], $10::int[], $11::bigint[], $12::int[],
      $13::int[]
    ) with ordinality as item(
      lease_id, expected_version, request_id, digests, body_id, body_bytes, file_generation, file_chunks,
      details_bytes, tail_bytes, ordinal
    )
  ),
  locked as materialized (
    select l.lease_id, l.variant, l.end_time, l.due_time, l.content_version, l.seal_count
    from lease l
    where l.owner_id = $1::uuid and l.lease_id = any($4::uuid[]) and (select access from caller) = 'OK'
    order by l.lease_id
    for no key update
  ),
  held_file as materialized (
    select f.lease_id, f.file_generation
    from (select count(*) as leases from locked) as waited
    join checkpoint_file f on waited.leases > 0
    where f.owner_id = $1::uuid and f.lease_id = any($4::uuid[]) and f.file_generation = any($10::int[])
      and f.state = ${fileState.writing}
    order by f.lease_id, f.file_generation
    for update of f
  ),
  clock as materialized (
    select clock_timestamp() as now, ${accessAfterWait(parameters)}
    from (select count(*) from locked) as waited
    cross join (select count(*) from held_file) as waited_too
  ),
  judged as materialized (
    select i.*, c.now, cp.retained_versions, l.content_version + 1 as version, l.content_version as latest_version,
      l.seal_count + i.file_chunks + 2 as seal_count,
      case
        when c.access <> 'OK' then 'REFUSED'
        when l.lease_id is null then 'NOT_FOUND'
        when l.end_time is not null or l.due_time <= c.now then 'ENDED'
        when l.variant <> ${Lease_Variant.CHECKPOINT} then 'WRONG_VARIANT'
        when row_number() over (partition by i.lease_id order by i.ordinal) > 1 then 'AGAIN'
        when i.expected_version <> l.content_version then 'MISMATCH'
        when l.seal_count + i.file_chunks + 2 > ${maxSealsPerKey} then 'SEALS'
        when i.file_generation is not null and f.file_generation is null then 'LOST'
        else 'DONE'
      end as outcome
    from input i
    cross join clock c
    left join locked l on l.lease_id = i.lease_id
    left join lateral (
      select retained_versions from checkpoint where owner_id = $1::uuid and lease_id = i.lease_id offset 0
    ) as cp on true
    left join held_file f on f.lease_id = i.lease_id and f.file_generation = i.file_generation
  ),
  remembered as (
    insert into idempotency
      (owner_id, scope, scope_id, request_id, digests, thing_id, thing_number, lease_id, create_time)
    select $1::uuid, ${idempotencyScope.putCheckpoint}, lease_id, request_id, digests, body_id, version, lease_id, now
    from judged
    where outcome = 'DONE' and request_id is not null
    order by lease_id
    on conflict do nothing
    returning thing_id
  ),
  won as materialized (
    select * from judged
    where outcome = 'DONE' and (request_id is null or body_id in (select thing_id from remembered))
  ),
  stored as (
    insert into checkpoint_version as v
      (owner_id, lease_id, slot, version, body_id, body_bytes, create_time, file_generation, file_chunks, sealed_details,
       sealed_tail)
    select $1::uuid, lease_id, (version % retained_versions)::int, version, body_id, body_bytes, now, file_generation,
      file_chunks, substring($14::bytea from sealed_start for details_bytes),
      substring($14::bytea from sealed_start + details_bytes for tail_bytes)
    from won
    order by lease_id
    on conflict (owner_id, lease_id, slot) do update
    set version = excluded.version, body_id = excluded.body_id, body_bytes = excluded.body_bytes,
      create_time = excluded.create_time, file_generation = excluded.file_generation,
      file_chunks = excluded.file_chunks, sealed_details = excluded.sealed_details, sealed_tail = excluded.sealed_tail
    returning v.lease_id, old.file_generation as pushed_generation
  ),
  pushed_out as (
    insert into checkpoint_file (owner_id, lease_id, file_generation, state, touch_time)
    select $1::uuid, s.lease_id, s.pushed_generation, ${fileState.removing}, c.now
    from stored s
    cross join clock c
    where s.pushed_generation is not null
  ),
  taken as (
    delete from checkpoint_file f
    using won w
    where f.owner_id = $1::uuid and f.lease_id = any($4::uuid[]) and f.file_generation = any($10::int[])
      and f.lease_id = w.lease_id and f.file_generation = w.file_generation
  ),
  moved as (
    update lease l
    set content_version = w.version, content_bytes = w.body_bytes, seal_count = w.seal_count
    from won w
    where l.owner_id = $1::uuid and l.lease_id = any($4::uuid[]) and l.lease_id = w.lease_id
  )
  select c.access, c.now,
    case when j.outcome = 'DONE' and w.ordinal is null then 'SEEN' else j.outcome end as outcome,
    case when w.ordinal is null then j.latest_version else w.version end as version, s.pushed_generation
  from judged j
  cross join clock c
  left join won w on w.ordinal = j.ordinal
  left join stored s on s.lease_id = w.lease_id
  order by j.ordinal`,
);

/** What a request_id put before. $1: the owner, $2: the lease, $3: the request_id. */
export const findPut = readStatement<{ digests: Buffer; version: bigint; put_time: DatabaseTime }>(
  "find-put",
  `select digests, thing_number as version, create_time as put_time from idempotency
  where owner_id = $1::uuid and scope = ${idempotencyScope.putCheckpoint} and scope_id = $2::uuid
    and request_id = $3::uuid`,
);
