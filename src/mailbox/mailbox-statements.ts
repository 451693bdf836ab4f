/** The statements about a mailbox as a whole: how it is made, what droppers are told of it, and how it is destroyed. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { accessAfterWait, callerAccess, tokenKinds } from "../account/caller-statements.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { readStatement, writeStatement } from "../database/statement.ts";
import { idempotencyScope } from "../idempotency/idempotency.ts";
import type { MessageUuid } from "../ids/ids.ts";
import { type LeaseRow, leaseColumns, type MaybeLeaseRow } from "../lease/lease-row.ts";
import type { CallerColumns } from "../lease/lease-statements.ts";
import type { VariantCreation } from "../lease/lease-variant.ts";

/** States in `message.state`. */
export const messageStates = { ready: 1, waiting: 2, blocked: 3, dead: 4, kept: 5 } as const;

/** What mailboxCreation reads from `p.terms`. */
export interface MailboxTerms {
  readonly maxMessageBytes: number;
  readonly maxMessages: number;
  readonly maxDeliveries: number;
  /** In hex. */
  readonly dropTokenHash: string;
  readonly tokenKeyVersion: number;
  readonly hasWebhook: boolean;
}

/** The rows of new mailboxes: the mailbox and its first drop token. */
export const mailboxCreation: VariantCreation = {
  ctes: `
  made_mailbox as (
    insert into mailbox
      (owner_id, lease_id, max_message_bytes, max_messages, max_deliveries, drop_token_hash, drop_token_key_version,
       has_webhook)
    select $1::uuid, p.lease_id, (p.terms->>'maxMessageBytes')::int, (p.terms->>'maxMessages')::int,
      (p.terms->>'maxDeliveries')::int, decode(p.terms->>'dropTokenHash', 'hex'), (p.terms->>'tokenKeyVersion')::int,
      (p.terms->>'hasWebhook')::boolean
    from paid p
    where p.variant = ${Lease_Variant.MAILBOX}
  ),
  made_drop_token as (
    insert into token (token_hash, kind, owner_id, thing_id, lease_id)
    select decode(p.terms->>'dropTokenHash', 'hex'), ${tokenKinds.drop}, $1::uuid, p.lease_id, p.lease_id
    from paid p
    where p.variant = ${Lease_Variant.MAILBOX}
  )`,
};

/** What a dropper must know of a mailbox before anything is sealed for it. $3: the drop token's hash. No lock. */
export const findDropTerms = readStatement<
  { now: DatabaseTime; max_message_bytes: number | null; is_current: boolean | null } & LeaseRow
>(
  "find-drop-terms",
  `select statement_timestamp() as now, ${leaseColumns("l")}, m.max_message_bytes,
    m.drop_token_hash = $3::bytea
      or coalesce(m.old_token_hash = $3::bytea and m.old_token_expire_time > statement_timestamp(), false) as is_current
  from lease l
  left join mailbox m on m.owner_id = l.owner_id and m.lease_id = l.lease_id
  where l.owner_id = $1::uuid and l.lease_id = $2::uuid`,
);

/** The message that a request_id dropped into a mailbox before. $3: the request_id. */
export const findDropped = readStatement<{ digests: Buffer; message_id: MessageUuid; sequence: bigint }>(
  "find-dropped",
  `select digests, thing_id as message_id, thing_number as sequence
  from idempotency
  where owner_id = $1::uuid and scope = ${idempotencyScope.dropMessage} and scope_id = $2::uuid and request_id = $3::uuid`,
);

const rotator = { owner: 1, key: 2, scope: 3 };

/** What a mailbox's row says of its drop tokens. Null where there is no mailbox. */
export interface DropTokenColumns {
  readonly drop_token_generation: number | null;
  readonly drop_token_key_version: number | null;
  readonly old_token_expire_time: DatabaseTime | null;
}

/**
 * A mailbox of the caller's, and the generation that a request_id made before. $4: the lease, $5: the request_id or
 * null. No lock.
 */
export const findDropToken = readStatement<
  CallerColumns & MaybeLeaseRow & DropTokenColumns & { seen_generation: bigint | null; digests: Buffer | null }
>(
  "find-drop-token",
  `with ${callerAccess(rotator)}
  select caller.access, statement_timestamp() as now, ${leaseColumns("l")},
    m.drop_token_generation, m.drop_token_key_version, m.old_token_expire_time,
    seen.thing_number as seen_generation, seen.digests
  from caller
  left join lease l on caller.access = 'OK' and l.owner_id = $1::uuid and l.lease_id = $4::uuid
  left join mailbox m on m.owner_id = l.owner_id and m.lease_id = l.lease_id
  left join idempotency seen on l.lease_id is not null and seen.owner_id = $1::uuid
    and seen.scope = ${idempotencyScope.rotateDropToken} and seen.scope_id = $1::uuid and seen.request_id = $5::uuid`,
);

/** How many drop tokens a mailbox can have, one after the other: those it had are told from those nobody ever had. */
export const maxDropTokensPerLease = 1_000;

/**
 * Replaces a mailbox's drop token. $4: the lease, $5: the generation that is replaced, $6: the new token's hash, $7: the
 * grace of the old one in seconds, $8: request_id or null, $9: its digests. The grace is cut to the lease's end.
 *
 * Locks the lease, then the mailbox. is_rotated is false if the row refuses, if another replaced the token meanwhile, or
 * if the request_id did so before.
 */
export const rotateDropToken = writeStatement<
  CallerColumns & MaybeLeaseRow & DropTokenColumns & { is_rotated: boolean }
>(
  "rotate-drop-token",
  `with ${callerAccess(rotator)},
  locked as materialized (
    select l.* from lease l
    where l.owner_id = $1::uuid and l.lease_id = $4::uuid and (select access from caller) = 'OK'
    for no key update
  ),
  locked_mailbox as materialized (
    select m.*
    from (select count(*) as leases from locked) as waited
    join mailbox m on waited.leases > 0
    where m.owner_id = $1::uuid and m.lease_id = $4::uuid
    for no key update of m
  ),
  clock as materialized (
    select clock_timestamp() as now, ${accessAfterWait(rotator)} from (select count(*) from locked_mailbox) as waited
  ),
  allowed as materialized (
    select l.owner_id, l.lease_id, m.drop_token_hash, c.now,
      case when $7::bigint > 0 then least(c.now + make_interval(secs => $7::bigint), l.due_time) end as old_expire_time
    from locked l
    cross join locked_mailbox m
    cross join clock c
    where c.access = 'OK' and l.end_time is null and l.due_time > c.now and m.drop_token_generation = $5::int
      and $5::int < ${maxDropTokensPerLease}
  ),
  remembered as (
    insert into idempotency (owner_id, scope, scope_id, request_id, digests, thing_id, thing_number, lease_id, create_time)
    select owner_id, ${idempotencyScope.rotateDropToken}, owner_id, $8::uuid, $9::bytea, lease_id, $5::int + 1, lease_id, now
    from allowed
    where $8::uuid is not null
    on conflict do nothing
    returning thing_id
  ),
  won as materialized (
    select * from allowed where $8::uuid is null or exists (select from remembered)
  ),
  named as (
    insert into token (token_hash, kind, owner_id, thing_id, lease_id)
    select $6::bytea, ${tokenKinds.drop}, owner_id, lease_id, lease_id from won
  ),
  rotated as (
    update mailbox m
    set drop_token_hash = $6::bytea, drop_token_generation = $5::int + 1,
      old_token_hash = case when w.old_expire_time is not null then w.drop_token_hash end,
      old_token_expire_time = w.old_expire_time
    from won w
    where m.owner_id = w.owner_id and m.lease_id = w.lease_id
    returning m.drop_token_generation, m.drop_token_key_version, m.old_token_expire_time
  )
  select clock.access, clock.now, ${leaseColumns("l")}, rotated.drop_token_generation is not null as is_rotated,
    coalesce(rotated.drop_token_generation, m.drop_token_generation) as drop_token_generation,
    coalesce(rotated.drop_token_key_version, m.drop_token_key_version) as drop_token_key_version,
    rotated.old_token_expire_time
  from clock
  left join locked l on true
  left join locked_mailbox m on true
  left join rotated on true`,
);
