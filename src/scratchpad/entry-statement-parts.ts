/** Parts of the statements that change entries: what becomes of values that are replaced, and of old deletions. */
import { entryStates } from "./entry-row.ts";
import { rememberedDeletions } from "./scratchpad-details.ts";

/**
 * CTEs that take values out of the rows in which a CTE's entries have them: into scratchpad_kept, and their appends
 * marked, if a claim may still read them (`keeps`); away otherwise. The CTE has lease_id, key, keeps, base_version,
 * base_bytes, body_id, appends (how many) and new_version. Appends are found entry by entry, and changed by their
 * place: a join, planned while the table is small, reads all of it.
 */
export function disposal(replaced: string): string {
  const appendsOf = (keeps: boolean) => `
    array(
      select a.place
      from ${replaced} r
      cross join lateral (
        select ctid as place from scratchpad_append
        where owner_id = $1::uuid and lease_id = r.lease_id and key = r.key and gone_version is null
        offset 0
      ) as a
      where r.appends > 0 and ${keeps ? "r.keeps" : "not r.keeps"}
    )`;
  return `
  kept_value as (
    insert into scratchpad_kept
      (owner_id, lease_id, base_version, gone_version, key, base_bytes, body_id, update_time, sealed)
    select $1::uuid, r.lease_id, r.base_version, r.new_version, r.key, r.base_bytes, r.body_id, v.update_time, v.sealed
    from ${replaced} r
    cross join lateral (
      select update_time, sealed from scratchpad_entry
      where owner_id = $1::uuid and lease_id = r.lease_id and key = r.key
      offset 0
    ) as v
    where r.keeps
  ),
  kept_appends as (
    update scratchpad_append a
    set gone_version = (select r.new_version from ${replaced} r where r.lease_id = a.lease_id and r.key = a.key)
    where a.ctid = any(${appendsOf(true)})
  ),
  dropped_appends as (
    delete from scratchpad_append where ctid = any(${appendsOf(false)})
  )`;
}

/**
 * CTEs that forget the oldest deletions of scratchpads that have more than are remembered. `leases` selects the ids of
 * those in which something was deleted, `changed` the keys of `gone.lease_id` whose rows this statement changes itself.
 */
export function forgetting(leases: string, changed: string): string {
  return `
  excess as materialized (
    select gone.lease_id, oldest.version
    from (${leases}) as gone
    cross join lateral (
      select version from scratchpad_entry
      where lease_id = gone.lease_id and state <> ${entryStates.live}
      order by version desc
      offset ${rememberedDeletions}
      limit 1
    ) as oldest
  ),
  forgotten as (
    delete from scratchpad_entry
    where ctid = any(array(
      select old.place
      from excess as gone
      cross join lateral (
        select ctid as place, key from scratchpad_entry
        where lease_id = gone.lease_id and state <> ${entryStates.live} and version <= gone.version
        offset 0
      ) as old
      where old.key not in (${changed})
    ))
  ),
  noted as (
    update scratchpad s
    set forgotten_version = greatest(s.forgotten_version, e.version)
    from excess e
    where s.owner_id = $1::uuid and s.lease_id = any(array(select lease_id from excess)) and s.lease_id = e.lease_id
  )`;
}
