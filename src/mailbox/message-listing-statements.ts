/** The statements that look at messages and hold nothing. */
import { callerAccess } from "../account/caller-statements.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { readStatement } from "../database/statement.ts";
import type { MessageUuid } from "../ids/ids.ts";
import { leaseColumns, type MaybeLeaseRow } from "../lease/lease-row.ts";
import type { CallerColumns } from "../lease/lease-statements.ts";
import { messageStates } from "./mailbox-statements.ts";

/** What a page shows of a message. */
export interface ListedColumns {
  readonly sequence: bigint;
  readonly message_id: MessageUuid;
  readonly drop_time: DatabaseTime;
  readonly state: number;
  readonly is_held: boolean;
  readonly delivery_count: number;
  readonly visible_time: DatabaseTime | null;
  readonly dead_time: DatabaseTime | null;
  readonly dead_reason: number | null;
  readonly sealed: Buffer;
  readonly max_deliveries: number;
  /** Whether it is left to the next page. */
  readonly is_beyond: boolean;
}

/** A row of a page. A page without messages has one with none. */
export type ListedRow = CallerColumns &
  MaybeLeaseRow &
  (ListedColumns | { readonly [Name in keyof ListedColumns]: null });

/** What a listed message takes of an answer beside what is sealed, in bytes, at most. */
const listedOverheadBytes = 256;

/**
 * A page of messages. $1 to $3: the caller, $4: the lease, $5: the sequence before the first, $6: how many, $7: how many
 * bytes they take of an answer. The first row that is too many, or does not fit, comes without its content.
 */
function listing(candidates: string): string {
  return `with ${callerAccess({ owner: 1, key: 2, scope: 3 })}
  select caller.access, statement_timestamp() as now, ${leaseColumns("l")}, b.max_deliveries, m.sequence, m.message_id,
    m.drop_time, m.state, m.is_held, m.delivery_count, m.visible_time, m.dead_time, m.dead_reason, m.is_beyond,
    case when m.is_beyond then ''::bytea else m.sealed end as sealed
  from caller
  left join lateral (
    select * from lease where caller.access = 'OK' and owner_id = $1::uuid and lease_id = $4::uuid offset 0
  ) as l on true
  left join lateral (
    select max_deliveries from mailbox where owner_id = l.owner_id and lease_id = l.lease_id offset 0
  ) as b on l.end_time is null and l.due_time > statement_timestamp()
  left join lateral (
    select page.*, place > $6::int or (place > 1 and total_bytes > $7::bigint) as is_beyond
    from (
      select candidate.*, row_number() over in_order as place,
        sum(octet_length(sealed) + ${listedOverheadBytes}) over in_order as total_bytes
      from (${candidates}) as candidate
      window in_order as (order by sequence rows unbounded preceding)
    ) as page
    where place = 1 or total_bytes - octet_length(sealed) - ${listedOverheadBytes} <= $7::bigint
  ) as m on b.max_deliveries is not null
  order by m.sequence`;
}

/** Messages of every state that have not been acknowledged. Leans on the primary key. */
export const listMessages = readStatement<ListedRow>(
  "list-messages",
  listing(`
    select * from message
    where owner_id = l.owner_id and lease_id = l.lease_id and sequence > $5::bigint and state <> ${messageStates.kept}
    order by sequence
    limit $6::int + 1`),
);

/** Dead messages, those to be buried among them. Leans on message_dead and message_waiting. */
export const listDeadMessages = readStatement<ListedRow>(
  "list-dead-messages",
  listing(`
    select * from (
      (
        select * from message
        where lease_id = l.lease_id and state = ${messageStates.dead} and sequence > $5::bigint
        order by sequence
        limit $6::int + 1
      )
      union all
      (
        select * from message
        where lease_id = l.lease_id and state = ${messageStates.waiting} and visible_time <= statement_timestamp()
          and is_held and delivery_count >= b.max_deliveries and sequence > $5::bigint
        order by sequence
        limit $6::int + 1
      )
    ) as dead
    order by sequence
    limit $6::int + 1`),
);
