/** The statements for those who wait: which mailboxes have something for them, and which deliveries are still held. */
import { readStatement } from "../database/statement.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import { messageStates } from "./mailbox-statements.ts";

/**
 * Which of the mailboxes $2 (of the owners $1) have something to be received, or will within $3 milliseconds. Two index
 * look-ups for each; no lock. Leans on message_ready and message_waiting.
 */
export const findReceivable = readStatement<{
  lease_id: LeaseUuid;
  /** How long until there is something. 0: there is. */
  visible_ms: number;
}>(
  "find-receivable",
  `select waited.lease_id, case when ready.sequence is not null then 0 else waiting.visible_ms end as visible_ms
  from unnest($1::uuid[], $2::uuid[]) as waited(owner_id, lease_id)
  left join lateral (
    select sequence from message
    where lease_id = waited.lease_id and state = ${messageStates.ready}
    order by sequence
    limit 1
  ) as ready on true
  left join lateral (
    select greatest(0, ceil(extract(epoch from visible_time - statement_timestamp()) * 1000))::int as visible_ms
    from message
    where lease_id = waited.lease_id and state = ${messageStates.waiting}
      and visible_time <= statement_timestamp() + $3::int * interval '1 millisecond'
    order by visible_time
    limit 1
  ) as waiting on ready.sequence is null
  where ready.sequence is not null or waiting.visible_ms is not null`,
);

/**
 * Which of the deliveries ($1: owners, $2: leases, $3: sequences, $4: numbers of holds) are still held, by their places
 * in the question, and for how long. Looks each up by full key; no lock. Only what is waiting is held: saying so would let
 * the plan read all that is waiting.
 */
export const findHeld = readStatement<{ place: number; remaining_ms: number }>(
  "find-held",
  `select asked.place::int as place,
    ceil(extract(epoch from m.visible_time - statement_timestamp()) * 1000)::int as remaining_ms
  from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::int[]) with ordinality
    as asked(owner_id, lease_id, sequence, hold_number, place)
  cross join lateral (
    select visible_time from message
    where owner_id = asked.owner_id and lease_id = asked.lease_id and sequence = asked.sequence
      and hold_number = asked.hold_number and is_held and visible_time > statement_timestamp()
    offset 0
  ) as m`,
);
