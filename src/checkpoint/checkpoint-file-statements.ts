/** The statements about files that belong to no version: begun, kept alive, given up, and removed. */
import { accessAfterWait, callerAccess } from "../account/caller-statements.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import type { AccountUuid, LeaseUuid } from "../ids/ids.ts";
import { leaseColumns, type MaybeLeaseRow } from "../lease/lease-row.ts";
import type { CallerColumns } from "../lease/lease-statements.ts";

/** In `checkpoint_file.state`. */
export const fileState = { writing: 1, removing: 2 } as const;

/** A file, by its row. */
export interface FileRow {
  readonly owner_id: AccountUuid;
  readonly lease_id: LeaseUuid;
  readonly file_generation: number;
}

const parameters = { owner: 1, key: 2, scope: 3 };

/**
 * Gives a file of a caller's live lease its number, in the commit that makes its row. $4: the lease. Locks the lease, so
 * that no file begins once it has ended, then its checkpoint's row. No number comes back if the lease refuses.
 */
export const beginFile = writeStatement<CallerColumns & MaybeLeaseRow & { file_generation: number | null }>(
  "begin-checkpoint-file",
  `with ${callerAccess(parameters)},
  locked as materialized (
    select l.* from lease l
    where l.owner_id = $1::uuid and l.lease_id = $4::uuid and (select access from caller) = 'OK'
    for no key update
  ),
  clock as materialized (
    select clock_timestamp() as now, ${accessAfterWait(parameters)} from (select count(*) from locked) as waited
  ),
  numbered as (
    update checkpoint cp
    set file_generation = cp.file_generation + 1
    from locked l
    cross join clock c
    where cp.owner_id = $1::uuid and cp.lease_id = $4::uuid
      and c.access = 'OK' and l.end_time is null and l.due_time > c.now
    returning cp.file_generation, c.now
  ),
  begun as (
    insert into checkpoint_file (owner_id, lease_id, file_generation, state, touch_time)
    select $1::uuid, $4::uuid, file_generation, ${fileState.writing}, now from numbered
    returning file_generation
  )
  select clock.access, clock.now, ${leaseColumns("l")}, begun.file_generation
  from clock
  left join locked l on true
  left join begun on true`,
);

/** Makes the row of the first file of a lease that is about to be made. */
export const beginFirstFile = writeStatement<never>(
  "begin-first-checkpoint-file",
  `insert into checkpoint_file (owner_id, lease_id, file_generation, state, touch_time)
  values ($1::uuid, $2::uuid, $3::int, ${fileState.writing}, clock_timestamp())`,
);

/** Says that a file is still being written. No row: its writer was given up. */
export const touchFile = writeStatement<{ file_generation: number }>(
  "touch-checkpoint-file",
  `update checkpoint_file set touch_time = clock_timestamp()
  where owner_id = $1::uuid and lease_id = $2::uuid and file_generation = $3::int and state = ${fileState.writing}
  returning file_generation`,
);

/** Gives up a file that was being written, so that no put can take it. No row: one has. */
export const giveUpFile = writeStatement<{ file_generation: number }>(
  "give-up-checkpoint-file",
  `update checkpoint_file set state = ${fileState.removing}
  where owner_id = $1::uuid and lease_id = $2::uuid and file_generation = $3::int and state = ${fileState.writing}
  returning file_generation`,
);

/** Counts seals that a lease's key made for a file that came to nothing. $3: how many. */
export const countSeals = writeStatement<never>(
  "count-checkpoint-seals",
  "update lease set seal_count = seal_count + $3::bigint where owner_id = $1::uuid and lease_id = $2::uuid",
);

/** Forgets a file that is removed. */
export const forgetFile = writeStatement<never>(
  "forget-checkpoint-file",
  `delete from checkpoint_file
  where owner_id = $1::uuid and lease_id = $2::uuid and file_generation = $3::int`,
);

/** Gives up $1 of the files whose writers have said nothing for $2 seconds. Leans on checkpoint_file_by_time. */
export const giveUpSilentFiles = writeStatement<FileRow>(
  "give-up-silent-checkpoint-files",
  `with silent as materialized (
    select owner_id, lease_id, file_generation from checkpoint_file
    where state = ${fileState.writing} and touch_time <= statement_timestamp() - make_interval(secs => $2::bigint)
    order by touch_time
    limit $1::int
    for update skip locked
  )
  update checkpoint_file f
  set state = ${fileState.removing}
  from silent s
  where f.owner_id = s.owner_id and f.lease_id = s.lease_id and f.file_generation = s.file_generation
  returning f.owner_id, f.lease_id, f.file_generation`,
);

/** $1 of the files that are to be removed. Leans on checkpoint_file_by_time; no lock. */
export const findFilesToRemove = readStatement<FileRow>(
  "find-checkpoint-files-to-remove",
  `select owner_id, lease_id, file_generation from checkpoint_file
  where state = ${fileState.removing}
  order by touch_time
  limit $1::int`,
);
