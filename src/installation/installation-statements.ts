/** The statements about the installation: which it is, which of its epochs' keys are needed, and which are destroyed. */
import type { DatabaseTime } from "../database/row-types.ts";
import { readStatement, writeStatement } from "../database/statement.ts";

/** Makes the installation's row, unless there is one. */
export const insertInstallation = writeStatement<never>(
  "insert-installation",
  "insert into installation (installation_id) values ($1::uuid) on conflict do nothing",
);

/** The installation, and whether any lease still needs a key. */
export const findInstallation = readStatement<{
  installation_id: string;
  destroyed_through_seconds: bigint;
  has_keys: boolean;
  now: DatabaseTime;
}>(
  "find-installation",
  `select installation_id, destroyed_through_seconds, clock_timestamp() as now,
    exists (select from lease where wrapped_key is not null and end_time is null and due_time > statement_timestamp()) as has_keys
  from installation`,
);

/** The epoch keys that leases which have not ended are sealed under. */
export const findNeededEpochs = readStatement<{ epoch_seconds: bigint; key_id: string }>(
  "find-needed-epochs",
  `select distinct epoch_seconds, encode(substring(wrapped_key from 1 for 16), 'hex')::uuid as key_id
  from lease
  where end_time is null and due_time > statement_timestamp() and wrapped_key is not null
  order by epoch_seconds`,
);

/**
 * Epochs that are over, with a spare one behind them, the oldest first. $1: the epochs that have keys, $2: an epoch's
 * length in seconds. An epoch whose key is gone is among them until its leases are told so: a crash may have come
 * between. None is from the first on that has a lease which has not ended, so that the high-water mark never passes a
 * key that is still kept. Leans on lease_epoch.
 */
export const findFinishedEpochs = readStatement<{ epoch_seconds: bigint; now: DatabaseTime }>(
  "find-finished-epochs",
  `with over as materialized (
    select epoch_seconds from unnest($1::bigint[]) as kept(epoch_seconds)
    where to_timestamp(epoch_seconds + 2 * $2::bigint) <= statement_timestamp()
    union
    select epoch_seconds from lease
    where unrecoverable_time is null
      and epoch_seconds <= extract(epoch from statement_timestamp())::bigint - 2 * $2::bigint
  )
  select epoch_seconds, statement_timestamp() as now
  from over
  where epoch_seconds < coalesce(
    (
      select min(l.epoch_seconds) from over
      join lease l on l.epoch_seconds = over.epoch_seconds and l.unrecoverable_time is null and l.end_time is null
    ),
    9223372036854775807
  )
  order by epoch_seconds`,
);

/** Moves the high-water mark, once the keys up to it are destroyed, and tells the leases that no copy can be read now. */
export const markEpochDestroyed = writeStatement<never>(
  "mark-epoch-destroyed",
  `with moved as (
    update installation set destroyed_through_seconds = greatest(destroyed_through_seconds, $1::bigint)
  )
  update lease set unrecoverable_time = clock_timestamp()
  where epoch_seconds = $1::bigint and unrecoverable_time is null and end_time is not null`,
);
