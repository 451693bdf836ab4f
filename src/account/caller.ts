/** Who is calling: an API key's owner, found by hash and cached, since the hash of a key never changes its owner. */
import { LRUCache } from "lru-cache";
import type { Database } from "../database/database.ts";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import type { AccountUuid, KeyUuid } from "../ids/ids.ts";
import { checkToken, hashToken } from "../secrets/secret-token.ts";
import type { Call } from "../server/call.ts";
import { type Access, findAccess, findToken, tokenKinds } from "./caller-statements.ts";
import { scopeOfRpc } from "./rpc-scopes.ts";
import { type ScopeName, scopeBits } from "./scopes.ts";

/** A key that exists. Whether it may act is for the statement that acts to say. */
export interface Caller {
  readonly ownerId: AccountUuid;
  readonly keyId: KeyUuid;
}

/** How many keys' owners are remembered. An entry is about 300 bytes. */
const rememberedKeys = 50_000;

/** Finds callers. */
export class Callers {
  readonly #database: Database;
  readonly #byHash = new LRUCache<string, Caller>({ max: rememberedKeys });

  constructor(database: Database) {
    this.#database = database;
  }

  /**
   * The caller of a call.
   *
   * @throws LeaseholdError CREDENTIAL_MISSING or CREDENTIAL_INVALID.
   */
  async of(call: Call): Promise<Caller> {
    if (call.bearer === undefined) {
      throw new LeaseholdError("CREDENTIAL_MISSING", "Send an API key: authorization: Bearer lh_key_...");
    }
    requireWellFormed(call.bearer);
    const hash = hashToken(call.bearer);
    const cacheKey = hash.toString("base64");
    const known = this.#byHash.get(cacheKey);
    if (known !== undefined) {
      return known;
    }
    const [row] = await this.#database.run(findToken, [hash, tokenKinds.key]);
    if (row === undefined) {
      throw invalidCredential();
    }
    const caller = { ownerId: row.owner_id, keyId: row.thing_id as KeyUuid };
    this.#byHash.set(cacheKey, caller);
    return caller;
  }

  /** The caller of a call that may act within a scope now, for calls whose own work has no statement to ask it in. */
  async allowed(call: Call, scope: ScopeName): Promise<Caller> {
    const caller = await this.of(call);
    const [row] = await this.#database.run(findAccess, [caller.ownerId, caller.keyId, scopeBits[scope]]);
    requireAccess(row?.access, scope);
    return caller;
  }

  /** Refuses a call by a key that may not make it. For calls that are refused anyway: the credential comes first. */
  async authenticate(call: Call): Promise<void> {
    const scope = scopeOfRpc(call.method);
    if (scope !== undefined) {
      await this.allowed(call, scope);
    }
  }
}

/**
 * Turns what a statement found of the caller into a refusal.
 *
 * @throws LeaseholdError CREDENTIAL_INVALID, SCOPE_MISSING or ACCOUNT_SUSPENDED.
 */
export function requireAccess(access: Access | undefined, scope: ScopeName): void {
  if (access !== "OK") {
    throw accessRefusal(access, scope);
  }
}

/** The error of a key that may not act. Undefined: the key is gone. */
export function accessRefusal(access: Exclude<Access, "OK"> | undefined, scope: ScopeName): LeaseholdError {
  switch (access) {
    case "SCOPE_MISSING":
      return new LeaseholdError("SCOPE_MISSING", `The key lacks the scope "${scope}": use one that has it.`, {
        metadata: { scope },
      });
    case "ACCOUNT_SUSPENDED":
      return new LeaseholdError("ACCOUNT_SUSPENDED", "The account is suspended: ask the operator.");
    case "CREDENTIAL_INVALID":
    case undefined:
      return invalidCredential();
  }
}

/** The one answer to a credential that is malformed, unknown, expired or revoked. */
export function invalidCredential(): LeaseholdError {
  return new LeaseholdError(
    "CREDENTIAL_INVALID",
    "The credential is unknown, expired or revoked: check it, or make another.",
  );
}

function requireWellFormed(token: string): void {
  try {
    checkToken("key", token);
  } catch (error) {
    if (error instanceof LeaseholdError) {
      throw new LeaseholdError("CREDENTIAL_INVALID", "The API key is mistyped or cut: copy it again.");
    }
    throw error;
  }
}
