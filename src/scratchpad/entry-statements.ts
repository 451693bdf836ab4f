/** The statements that read entries: one by its key, a page by prefix, and what changed since a version. */
import { accessOf, callerAccess } from "../account/caller-statements.ts";
import { readStatement } from "../database/statement.ts";
import { leaseColumns, type MaybeLeaseRow } from "../lease/lease-row.ts";
import type { CallerColumns } from "../lease/lease-statements.ts";
import { appendsOf, type EntryRow, entryColumns, entryStates, type MaybeEntryRow } from "./entry-row.ts";

/** A lease of the caller's, what its scratchpad's row says, and an entry of it. */
export type FoundEntryRow = CallerColumns & MaybeLeaseRow & MaybeEntryRow & { readonly max_entry_bytes: number | null };

/** Whether entry `e` is there at the time of the statement. */
const isThere = `e.state = ${entryStates.live} and coalesce(e.expire_time, 'infinity') > statement_timestamp()`;

const currentAppends = (entry: string) =>
  appendsOf({
    lease: `${entry}.lease_id`,
    key: `${entry}.key`,
    after: `${entry}.base_version`,
    condition: `p.gone_version is null and ${entry}.append_count > 0`,
  });

/**
 * Entries of one owner's scratchpads, each asked for by a key: one row for each question, in order. $2: API keys, $3:
 * the scope, $4: leases, $5: keys, null for none. All of a row is of one moment. No lock; every look-up is by a whole
 * key.
 */
export const getEntries = readStatement<FoundEntryRow>(
  "get-entries",
  `select case when k.key_id is null then 'CREDENTIAL_INVALID' else ${accessOf("k", "a", "$3::smallint")} end as access,
    statement_timestamp() as now, ${leaseColumns("l")}, s.max_entry_bytes, ${entryColumns("e", "x")}
  from unnest($2::uuid[], $4::uuid[], $5::text[]) with ordinality as asked(key_id, lease_id, entry_key, ordinal)
  left join lateral (
    select * from api_key where owner_id = $1::uuid and key_id = asked.key_id offset 0
  ) as k on true
  left join lateral (select * from account where owner_id = k.owner_id offset 0) as a on true
  left join lateral (
    select * from lease where owner_id = a.owner_id and lease_id = asked.lease_id offset 0
  ) as l on true
  left join lateral (
    select max_entry_bytes from scratchpad where owner_id = l.owner_id and lease_id = l.lease_id offset 0
  ) as s on true
  left join lateral (
    select * from scratchpad_entry e
    where e.owner_id = l.owner_id and e.lease_id = l.lease_id and e.key = asked.entry_key and ${isThere}
    offset 0
  ) as e on true
  left join lateral (${currentAppends("e")}) as x on true
  order by asked.ordinal`,
);

const caller = { owner: 1, key: 2, scope: 3 };

/** The largest key with a prefix is that and code points of four bytes each, up to 256 bytes. */
const hasPrefix = (prefix: string) =>
  `e.key >= ${prefix} and e.key <= ${prefix} || repeat(chr(1114111), 64) and starts_with(e.key, ${prefix})`;

/**
 * A page of entries with a prefix, in the order of their keys. $1 to $3: the caller, $4: the lease, $5: the prefix, $6:
 * the key that the page starts behind, or null, $7: how many at most, $8: whether with values, $9: how many bytes of
 * values at most, but at least one. found_count tells how many the page had before it was cut for those. One row with
 * null entry columns if there are none. All of it is of one moment. No lock; walks the primary key.
 */
export const listEntries = readStatement<FoundEntryRow & { readonly found_count: bigint | null }>(
  "list-entries",
  `with ${callerAccess(caller)}
  select caller.access, statement_timestamp() as now, ${leaseColumns("l")}, s.max_entry_bytes, ${entryColumns("e", "x")},
    e.found_count
  from caller
  left join lease l on caller.access = 'OK' and l.owner_id = $1::uuid and l.lease_id = $4::uuid
  left join scratchpad s on s.owner_id = l.owner_id and s.lease_id = l.lease_id
  left join lateral (
    select * from (
      select *, sum(page.value_bytes) over (order by page.key) as bytes, row_number() over (order by page.key) as place,
        count(*) over () as found_count
      from (
        select e.owner_id, e.lease_id, e.key, e.version, e.base_version, e.value_bytes, e.append_count, e.update_time,
          e.expire_time, e.body_id, case when $8::boolean then e.sealed end as sealed
        from scratchpad_entry e
        where e.owner_id = l.owner_id and e.lease_id = l.lease_id and ${hasPrefix("$5::text")}
          and e.key > coalesce($6::text, '') and ${isThere}
        order by e.key
        limit $7::int
      ) as page
    ) as measured
    where not $8::boolean or measured.bytes <= $9::bigint or measured.place = 1
  ) as e on true
  left join lateral (${currentAppends("e")} and $8::boolean) as x on true
  order by e.key`,
);

/** Where the first of the appends to entry `e` under a condition starts. Leans on the primary key. */
function firstAppend(condition: string): string {
  return `
    select p.offset_bytes from scratchpad_append p
    where p.owner_id = $1::uuid and p.lease_id = e.lease_id and p.key = e.key and p.gone_version is null
      and e.append_count > 0 and ${condition}
    order by p.version
    limit 1`;
}

/** A change of an entry. Null columns: there was none. */
export type ChangedEntryRow = Pick<FoundEntryRow, "access" | "now"> &
  MaybeLeaseRow &
  (ChangeRow | { readonly [Name in keyof ChangeRow]: null }) & {
    /** The last deletion that cannot be told any more. */
    readonly forgotten_version: bigint | null;
  };

/** One change: an entry as it is now, or that it is gone. */
export type ChangeRow = Omit<EntryRow, "sealed"> & {
  readonly state: number;
  /** Null: the watcher has the value, but for the appends that are told. */
  readonly sealed: Buffer | null;
  /** Where in the value the first of the appends starts. */
  readonly offset_bytes: number | null;
  /** How many changes the page had before it was cut for the bytes it tells. */
  readonly found_count: bigint;
};

/**
 * What changed in the entries with a prefix behind a version, in the order of versions. $1 to $3: the caller, $4: the
 * lease, $5: the prefix, $6: the version, $7: how many at most, $8: how many bytes the values told before one may have,
 * $9: the version up to which deletions are not of interest, $10: the version of which the watcher has everything, $11:
 * the lease's version at the watcher's last look, of which it has been told what changed last up to $6. One row with
 * null entry columns if nothing changed. All of it is of one moment. No lock; walks scratchpad_entry_by_version.
 *
 * Of an entry that was set before $6 the watcher has what there was then, unless it changed again before the last look:
 * then that look has left it for later, and the watcher has of it what there was at $10.
 */
export const findChanges = readStatement<ChangedEntryRow>(
  "find-entry-changes",
  `with ${callerAccess(caller)}
  select caller.access, statement_timestamp() as now, ${leaseColumns("l")}, s.forgotten_version, e.state,
    ${entryColumns("e", "x")}, x.offset_bytes, e.found_count
  from caller
  left join lease l on caller.access = 'OK' and l.owner_id = $1::uuid and l.lease_id = $4::uuid
  left join scratchpad s on s.owner_id = l.owner_id and s.lease_id = l.lease_id
  left join lateral (
    select * from (
      select page.*, sum(page.told_bytes) over (order by page.version) - page.told_bytes as bytes_before,
        count(*) over () as found_count
      from (
        select e.lease_id, e.key, e.state, e.version, e.base_version, e.value_bytes, e.append_count, e.update_time,
          e.expire_time, e.body_id, had.version as had_version, case when had.version is null then e.sealed end as sealed,
          e.value_bytes - coalesce(news.offset_bytes, 0) as told_bytes
        from (
          select * from scratchpad_entry e
          where e.lease_id = l.lease_id and e.owner_id = l.owner_id and e.version > 0
            and e.version > $6::bigint and starts_with(e.key, $5::text)
            and case
              when e.state = ${entryStates.live} then coalesce(e.expire_time, 'infinity') > statement_timestamp()
              else e.version > $9::bigint
            end
          order by e.version
          limit $7::int
        ) as e
        cross join lateral (
          select case
            when e.base_version <= $6::bigint and (${firstAppend("p.version > $6::bigint and p.version <= $11::bigint")}) is null
              then $6::bigint
            when e.base_version <= $10::bigint then $10::bigint
          end as version
          offset 0
        ) as had
        left join lateral (${firstAppend("p.version > had.version")}) as news on true
      ) as page
    ) as measured
    where measured.bytes_before < $8::bigint
  ) as e on true
  left join lateral (
    ${appendsOf({
      lease: "e.lease_id",
      key: "e.key",
      after: "coalesce(e.had_version, e.base_version)",
      condition: "p.gone_version is null and e.append_count > 0",
    })}
  ) as x on true
  order by e.version`,
);
