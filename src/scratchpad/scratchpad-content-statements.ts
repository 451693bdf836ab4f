/** The statements that read a scratchpad as it was at one version, and that destroy it. */

import type { DatabaseTime } from "../database/row-types.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import { isUnended } from "../lease/lease-row.ts";
import { entryStates, type ValueColumns } from "./entry-row.ts";

/**
 * The values that there were at version $3 of lease $2 of owner $1, by key: those that were set by then, and replaced
 * or deleted later or not at all. `pad` is the lease. `page`: what of each table's is left out, in the order of keys,
 * by which both primary keys are walked.
 */
const basesAtVersion = (page: string) => `
  (
    select e.key, e.base_version, e.base_bytes, e.body_id, e.update_time, false as is_kept
    from scratchpad_entry e
    where e.owner_id = pad.owner_id and e.lease_id = pad.lease_id and e.state = ${entryStates.live}
      and e.base_version <= $3::bigint ${page}
  )
  union all
  (
    select e.key, e.base_version, e.base_bytes, e.body_id, e.update_time, true
    from scratchpad_kept e
    where e.owner_id = pad.owner_id and e.lease_id = pad.lease_id
      and e.base_version <= $3::bigint and e.gone_version > $3::bigint ${page}
  )`;

/** The appends to value `b` that there were then. */
const appendsAtVersion = `
  from scratchpad_append p
  where p.owner_id = pad.owner_id and p.lease_id = pad.lease_id and p.key = b.key
    and p.version > b.base_version and p.version <= $3::bigint and (p.gone_version is null or p.gone_version > $3::bigint)`;

const measured = (bases: string) => `
  select b.*, b.base_bytes + coalesce(x.bytes, 0)::int as value_bytes
  from (${bases}) as b
  left join lateral (select sum(p.body_bytes) as bytes ${appendsAtVersion}) as x on true`;

const livePad = `
  lease pad
  where pad.owner_id = $1::uuid and pad.lease_id = $2::uuid and ${isUnended("pad")}
    and pad.due_time > statement_timestamp()`;

/**
 * How much a scratchpad held at a version, and how many entries. No lock; walks it by the primary keys, without its
 * values.
 */
export const measureEntries = readStatement<{ total_bytes: bigint; item_count: bigint }>(
  "measure-entries",
  `select coalesce(sum(m.value_bytes), 0)::bigint as total_bytes, count(*) as item_count
  from (select pad.* from ${livePad}) as pad
  cross join lateral (${measured(basesAtVersion(""))}) as m`,
);

/** The entry of a version in which offset $4 lies, and where it starts. No lock; walks it as measureEntries does. */
export const findEntryAtOffset = readStatement<{ key: string; start_offset: bigint }>(
  "find-entry-at-offset",
  `select key, end_offset - value_bytes as start_offset
  from (
    select m.key, m.value_bytes, sum(m.value_bytes) over (order by m.key)::bigint as end_offset
    from (select pad.* from ${livePad}) as pad
    cross join lateral (${measured(basesAtVersion(""))}) as m
  ) as placed
  where end_offset > $4::bigint
  order by key
  limit 1`,
);

/** An entry as a claim delivers it. */
export interface SnapshotRow extends ValueColumns {
  readonly key: string;
  readonly value_bytes: number;
  readonly update_time: DatabaseTime;
}

const pageOfBases = `
  select * from (
    ${basesAtVersion("and e.key >= coalesce($4::text, '') and e.key > coalesce($5::text, '') order by e.key limit $6::int")}
  ) as either
  order by key
  limit $6::int`;

/**
 * A page of a version's entries, in the order of their keys: from key $4 on, or behind $5; at most $6, and of $7 bytes,
 * but at least one. None once the lease has ended. No lock; walks the primary keys, from where the page starts.
 */
export const readEntries = readStatement<SnapshotRow>(
  "read-entries",
  `select b.key, b.value_bytes, b.update_time, b.body_id,
    case when b.is_kept
      then (
        select sealed from scratchpad_kept
        where owner_id = $1::uuid and lease_id = $2::uuid and key = b.key and base_version = b.base_version
      )
      else (select sealed from scratchpad_entry where owner_id = $1::uuid and lease_id = $2::uuid and key = b.key)
    end as sealed,
    x.append_ids, x.append_bytes, x.sealed_appends
  from (select pad.* from ${livePad}) as pad
  cross join lateral (
    select * from (
      select o.*, sum(o.value_bytes) over (order by o.key) as bytes, row_number() over (order by o.key) as place
      from (${measured(pageOfBases)}) as o
    ) as page
    where page.bytes <= $7::bigint or page.place = 1
  ) as b
  left join lateral (
    select json_agg(p.body_id order by p.version) as append_ids, json_agg(p.body_bytes order by p.version) as append_bytes,
      string_agg(p.sealed, ''::bytea order by p.version) as sealed_appends
    ${appendsAtVersion}
  ) as x on true
  order by b.key`,
);

/**
 * Deletes rows of an ended scratchpad: its own row, and at most $3 of each other kind. Gives how many of each.
 */
export const deleteScratchpad = writeStatement<{ entries: number; appends: number; kept: number }>(
  "delete-scratchpad",
  `with entries as (
    delete from scratchpad_entry
    where ctid = any(array(
      select ctid from scratchpad_entry where owner_id = $1::uuid and lease_id = $2::uuid limit $3::int
    ))
    returning 1
  ),
  appends as (
    delete from scratchpad_append
    where ctid = any(array(
      select ctid from scratchpad_append where owner_id = $1::uuid and lease_id = $2::uuid limit $3::int
    ))
    returning 1
  ),
  kept as (
    delete from scratchpad_kept
    where ctid = any(array(
      select ctid from scratchpad_kept where owner_id = $1::uuid and lease_id = $2::uuid limit $3::int
    ))
    returning 1
  ),
  pad as (
    delete from scratchpad where owner_id = $1::uuid and lease_id = $2::uuid
  )
  select (select count(*) from entries)::int as entries, (select count(*) from appends)::int as appends,
    (select count(*) from kept)::int as kept`,
);
