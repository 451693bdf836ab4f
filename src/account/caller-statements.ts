/** The statements that tell who is calling, and the part of every other statement that rechecks it. */
import { readStatement } from "../database/statement.ts";
import type { AccountUuid } from "../ids/ids.ts";

/** What a statement found of the caller's key: OK, or the reason to refuse it. */
export type Access = "OK" | "CREDENTIAL_INVALID" | "SCOPE_MISSING" | "ACCOUNT_SUSPENDED";

/** The Access of a key and its account, by their aliases, to a scope's bit. */
export function accessOf(key: string, account: string, scope: string): string {
  return `
    case
      when ${key}.revoke_time is not null or ${key}.expire_time <= statement_timestamp() then 'CREDENTIAL_INVALID'
      when ${key}.scopes & ${scope} = 0 then 'SCOPE_MISSING'
      when ${account}.suspend_time is not null then 'ACCOUNT_SUSPENDED'
      else 'OK'
    end`;
}

/**
 * A CTE `caller` with one column, `access`: the owner's own rows, read in the statement that acts, so that revoking and
 * suspending act at once without another round trip. No row means that the key is gone.
 */
export function callerAccess(parameters: { owner: number; key: number; scope: number }): string {
  return `
  caller as materialized (
    select ${accessOf("k", "a", `$${parameters.scope}::smallint`)} as access
    from api_key k
    join account a on a.owner_id = k.owner_id
    where k.owner_id = $${parameters.owner}::uuid and k.key_id = $${parameters.key}::uuid
  )`;
}

/** Finds a token's owner, thing, lease and variant by hash. Immutable, so the answer may be cached. */
export const findToken = readStatement<{
  owner_id: AccountUuid;
  thing_id: string;
  lease_id: string | null;
  variant: number | null;
}>(
  "find-token",
  `select t.owner_id, t.thing_id, t.lease_id, l.variant
  from token t
  left join lease l on l.owner_id = t.owner_id and l.lease_id = t.lease_id
  where t.token_hash = $1 and t.kind = $2`,
);

/** Whether the caller may act, for calls that have no statement of their own to ask it in. */
export const findAccess = readStatement<{ access: Access }>(
  "find-access",
  `with ${callerAccess({ owner: 1, key: 2, scope: 3 })} select access from caller`,
);

/** Kinds in `token.kind`. */
export const tokenKinds = { key: 1, claim: 2, drop: 3 } as const;

/**
 * The Access of the caller's key as it is once a statement has waited for its locks: what was revoked meanwhile is
 * found revoked. To be selected from a CTE that waits for them.
 */
export function accessAfterWait(parameters: { owner: number; key: number; scope: number }): string {
  const { owner, key, scope } = parameters;
  return `coalesce(key_access($${owner}::uuid, $${key}::uuid, $${scope}::smallint), 'CREDENTIAL_INVALID') as access`;
}
