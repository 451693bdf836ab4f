/** The statements that make one value of an entry and the many pieces that were appended to it. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { maxSealsPerKey } from "../content/sealing.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import type { AccountUuid, LeaseUuid } from "../ids/ids.ts";
import { isUnended, type LeaseRow, leaseColumns } from "../lease/lease-row.ts";
import { appendsOf, entryColumns, entryStates, type ValueColumns } from "./entry-row.ts";
import { disposal } from "./entry-statement-parts.ts";
import { appendOverheadBytes, longAppends } from "./scratchpad-details.ts";

/** Entries of so many appends that they are to be gathered: at most $1. Leans on scratchpad_entry_long; no lock. */
export const findLongEntries = readStatement<{ owner_id: AccountUuid; lease_id: LeaseUuid; key: string }>(
  "find-long-entries",
  `select owner_id, lease_id, key from scratchpad_entry where append_count >= ${longAppends} limit $1::int`,
);

/**
 * An entry of a live scratchpad that was appended to, and its lease. $1: the owner, $2: the lease, $3: the key. To be
 * read behind the lease's lock: what it is gathered to is what it is then. Leans on the primary keys.
 */
export const readAppendedEntry = readStatement<LeaseRow & ValueColumns>(
  "read-appended-entry",
  `select ${leaseColumns("l")}, ${entryColumns("e", "x")}
  from lease l
  join scratchpad_entry e on e.owner_id = $1::uuid and e.lease_id = $2::uuid and e.key = $3::text
  cross join lateral (
    ${appendsOf({ lease: "e.lease_id", key: "e.key", after: "e.base_version", condition: "p.gone_version is null" })}
  ) as x
  where l.owner_id = $1::uuid and l.lease_id = $2::uuid and l.variant = ${Lease_Variant.SCRATCHPAD}
    and ${isUnended("l")} and l.due_time > statement_timestamp() and l.seal_count < ${maxSealsPerKey}
    and e.state = ${entryStates.live} and e.append_count > 0`,
);

/**
 * Puts an entry's whole value in the place of its pieces, under its version: nobody is told of a change, and there is
 * none. $1: the owner, $2: the lease, whose lock is held, $3: the key, $4: the value's id, $5: the sealed value. Of
 * what claims may still read the pieces are kept. The lease takes a version, by which writes that wait for its lock
 * find out that the row is not as they have seen it.
 */
export const gatherAppends = writeStatement<{ appends: number }>(
  "gather-appends",
  `with replaced as materialized (
    select e.lease_id, e.key, coalesce(e.base_version <= newest_claimed_version($1::uuid, $2::uuid), false) as keeps,
      e.base_version, e.base_bytes, e.body_id, e.append_count as appends, e.version as new_version
    from scratchpad_entry e
    where e.owner_id = $1::uuid and e.lease_id = $2::uuid and e.key = $3::text
  ),
  ${disposal("replaced")},
  gathered as (
    update scratchpad_entry
    set base_version = version, base_bytes = value_bytes, append_count = 0, body_id = $4::uuid, sealed = $5::bytea
    where owner_id = $1::uuid and lease_id = $2::uuid and key = $3::text
  ),
  counted as (
    update lease l
    set content_version = l.content_version + 1, seal_count = l.seal_count + 1,
      overhead_bytes = l.overhead_bytes - ${appendOverheadBytes} * r.appends
    from replaced r
    where l.owner_id = $1::uuid and l.lease_id = $2::uuid
  )
  select appends from replaced`,
);
