/** The statements that read Checkpoint leases, and those that destroy what an ended one held. */
import { accessOf } from "../account/caller-statements.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import { leaseColumns } from "../lease/lease-row.ts";
import type { CallerColumns } from "../lease/lease-statements.ts";
import { type FoundRow, type VersionRow, versionColumns } from "./checkpoint-row.ts";

/** The version in `asked`, of lease `l` and its checkpoint `cp`. Each look-up is by a whole key: see getLeases. */
const joinVersion = `
  left join lateral (
    select workflow_id, retained_versions from checkpoint where owner_id = l.owner_id and lease_id = l.lease_id offset 0
  ) as cp on true
  left join lateral (
    select case when asked.version = 0 then l.content_version else asked.version end as version
  ) as wanted on true
  left join lateral (
    select * from checkpoint_version
    where owner_id = l.owner_id and lease_id = l.lease_id
      and slot = (wanted.version % cp.retained_versions)::int and version = wanted.version
    offset 0
  ) as v on true`;

/**
 * Versions of one owner's checkpoints, each asked for by a key: one row for each question, in order. $2: the keys, $3:
 * the scope, $4: leases, $5: workflows, of which either may be null; $6: versions, 0 for the latest, -1 for none. A
 * workflow alone stands for the latest lease that was made for it. All of a row is of one moment. No lock.
 */
export const getCheckpoints = readStatement<CallerColumns & FoundRow>(
  "get-checkpoints",
  `select case when k.key_id is null then 'CREDENTIAL_INVALID' else ${accessOf("k", "a", "$3::smallint")} end as access,
    statement_timestamp() as now, ${leaseColumns("l")}, cp.workflow_id, cp.retained_versions, ${versionColumns("v")}
  from unnest($2::uuid[], $4::uuid[], $5::text[], $6::bigint[]) with ordinality
    as asked(key_id, lease_id, workflow_id, version, ordinal)
  left join lateral (
    select * from api_key where owner_id = $1::uuid and key_id = asked.key_id offset 0
  ) as k on true
  left join lateral (select * from account where owner_id = k.owner_id offset 0) as a on true
  left join lateral (
    select w.lease_id from checkpoint_workflow w
    where asked.lease_id is null and w.owner_id = $1::uuid and w.workflow_id = asked.workflow_id
    offset 0
  ) as named on true
  left join lateral (
    select * from lease where owner_id = a.owner_id and lease_id = coalesce(asked.lease_id, named.lease_id) offset 0
  ) as l on true
  ${joinVersion}
  order by asked.ordinal`,
);

/** As getCheckpoints, of leases that an earlier statement has allowed to be read. $2: leases, $3: versions. No lock. */
export const findCheckpoints = readStatement<FoundRow>(
  "find-checkpoints",
  `select statement_timestamp() as now, ${leaseColumns("l")}, cp.workflow_id, cp.retained_versions, ${versionColumns("v")}
  from unnest($2::uuid[], $3::bigint[]) with ordinality as asked(lease_id, version, ordinal)
  left join lateral (
    select * from lease where owner_id = $1::uuid and lease_id = asked.lease_id offset 0
  ) as l on true
  ${joinVersion}
  order by asked.ordinal`,
);

/** A version of a page, without its tail. */
export type ListedVersion = Omit<VersionRow, "sealed_tail">;

/**
 * The versions of a lease below $3 (null: all), newest first, at most $4, without their tails. A lease keeps at most a
 * hundred: they are read by the front of the primary key, and sorted. No lock.
 */
export const listVersions = readStatement<ListedVersion>(
  "list-checkpoint-versions",
  `select version, body_id, body_bytes, create_time as put_time, file_generation, file_chunks,
    sealed_details as sealed_checkpoint
  from checkpoint_version
  where owner_id = $1::uuid and lease_id = $2::uuid and ($3::bigint is null or version < $3::bigint)
  order by version desc
  limit $4::int`,
);

/** The lease that holds a workflow. */
export const findHolder = readStatement<{ lease_id: LeaseUuid | null }>(
  "find-checkpoint-holder",
  "select checkpoint_holder($1::uuid, $2::text) as lease_id",
);

/**
 * Deletes the rows of ended leases. A workflow's row goes if it still names one of them: one that names a later lease by
 * the time it is locked stays. Those rows are locked in the order in which leases are made for them, and deleted by their
 * place: a join, planned while the table is small, reads all of it. Leans on the indexes by lease, and of versions on the
 * primary key.
 */
export const deleteCheckpoints = writeStatement<never>(
  "delete-checkpoints",
  `with gone as materialized (
    select * from unnest($1::uuid[], $2::uuid[]) as g(owner_id, lease_id)
  ),
  named as materialized (
    select w.owner_id, w.workflow_id
    from gone g
    cross join lateral (
      select owner_id, workflow_id from checkpoint_workflow where lease_id = g.lease_id and owner_id = g.owner_id offset 0
    ) as w
  ),
  locked as materialized (
    select w.place
    from (select * from named order by owner_id, workflow_id) as n
    cross join lateral (
      select ctid as place from checkpoint_workflow
      where owner_id = n.owner_id and workflow_id = n.workflow_id and lease_id = any($2::uuid[])
      for update
    ) as w
  ),
  workflows as (
    delete from checkpoint_workflow where ctid = any(array(select place from locked))
  ),
  versions as (
    delete from checkpoint_version v using gone g
    where v.owner_id = any($1::uuid[]) and v.lease_id = any($2::uuid[]) and v.owner_id = g.owner_id and v.lease_id = g.lease_id
  ),
  files as (
    delete from checkpoint_file f using gone g
    where f.lease_id = any($2::uuid[]) and f.owner_id = g.owner_id and f.lease_id = g.lease_id
  )
  delete from checkpoint c using gone g
  where c.lease_id = any($2::uuid[]) and c.owner_id = g.owner_id and c.lease_id = g.lease_id`,
);

/**
 * Which of these leases' files no row accounts for: a file's row, or its lease's, is committed before it is made, and
 * deleted after it is gone. Leans on the indexes by lease, as the owner of a file is not known.
 */
export const findCheckpointOrphans = readStatement<{ lease_id: LeaseUuid }>(
  "find-checkpoint-orphans",
  `select candidate.lease_id
  from unnest($1::uuid[]) as candidate(lease_id)
  where not exists (select from checkpoint c where c.lease_id = candidate.lease_id)
    and not exists (select from checkpoint_file f where f.lease_id = candidate.lease_id)`,
);
