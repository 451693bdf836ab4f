/** The statements that tell how late slots fire. */
import { readStatement } from "../database/statement.ts";
import { isUnended } from "../lease/lease-row.ts";
import { cronStates } from "./cron-row.ts";

/** How late the most overdue slot of a live lease is, in microseconds. Null if none is. Leans on cron_due. */
export const findOverdueFiring = readStatement<{ overdue_micros: bigint | null }>(
  "find-overdue-firing",
  `select (extract(epoch from statement_timestamp() - min(c.next_fire_time)) * 1000000)::bigint as overdue_micros
  from cron c
  where c.state = ${cronStates.running} and c.next_fire_time <= statement_timestamp()
    and exists (
      select from lease l
      where l.owner_id = c.owner_id and l.lease_id = c.lease_id and ${isUnended("l")}
        and l.due_time > statement_timestamp()
    )`,
);

/**
 * How late slots fired, of the latest 10,000 of the last five minutes, in microseconds. Null if none has. Leans on
 * cron_run_fired.
 */
export const findFiringLag = readStatement<{
  median_micros: bigint | null;
  p99_micros: bigint | null;
  longest_micros: bigint | null;
}>(
  "find-firing-lag",
  `select (percentile_cont(0.5) within group (order by micros))::bigint as median_micros,
    (percentile_cont(0.99) within group (order by micros))::bigint as p99_micros, max(micros)::bigint as longest_micros
  from (
    select extract(epoch from fire_time - due_time) * 1000000 as micros
    from cron_run
    where fire_time > statement_timestamp() - interval '5 minutes'
    order by fire_time desc
    limit 10000
  ) as fired`,
);
