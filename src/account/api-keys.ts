/** Keys of an account: made within the limits of the key that asks, and stopped. */
import type { Duration } from "@bufbuild/protobuf/wkt";
import { type CreateApiKeyRequest, CreateApiKeyRequestSchema } from "#gen/leasehold/v1/account_pb.js";
import type { ServerKeys } from "../content/server-keys.ts";
import type { Database } from "../database/database.ts";
import { LeaseholdError, notFound, outOfBounds } from "../errors/leasehold-error.ts";
import { digestRequest, requestIdReused, requireSameRequest } from "../idempotency/idempotency.ts";
import { type KeyUuid, newUuid } from "../ids/ids.ts";
import { microsOf } from "../proto-values/proto-time.ts";
import { type ApiKeyRow, isApiKeyRow } from "./account-entities.ts";
import { ApiKeySecrets } from "./api-key-secrets.ts";
import {
  type CreatedKeyRow,
  createApiKey,
  findMadeApiKey,
  maxKeysPerAccount,
  revokeApiKey,
} from "./api-key-statements.ts";
import { type Caller, requireAccess } from "./caller.ts";
import { firstScope, scopeBits, scopesToBits } from "./scopes.ts";

/** A key and its secret, which only the answer to its making shows. */
export interface MadeApiKey {
  readonly key: ApiKeyRow;
  readonly secret: string;
}

/** What keys need. */
export interface ApiKeysOptions {
  readonly database: Database;
  readonly serverKeys: ServerKeys;
  /** The key that request digests are made with. */
  readonly digestKey: Uint8Array;
}

interface Repeatable {
  readonly requestId: string;
  readonly digests: Buffer;
}

/** The longest life that can be asked for: ten years of 365.25 days. */
const maxTtlSeconds = 315_576_000n;

/** Makes keys and stops them. */
export class ApiKeys {
  readonly #database: Database;
  readonly #digestKey: Uint8Array;
  readonly #secrets: ApiKeySecrets;

  constructor(options: ApiKeysOptions) {
    this.#database = options.database;
    this.#digestKey = options.digestKey;
    this.#secrets = new ApiKeySecrets(options.serverKeys);
  }

  /**
   * Makes a key, or finds the one that the request_id made before: looked up again before any refusal, since a twin of
   * the call may have made it while this one waited.
   *
   * @throws LeaseholdError OUT_OF_BOUNDS, SCOPE_MISSING, SPEND_CEILING, LIMIT_REACHED, REQUEST_ID_REUSED, or the refusal of the key.
   */
  async make(caller: Caller, request: CreateApiKeyRequest): Promise<MadeApiKey> {
    const repeatable = this.#repeatable(request);
    const ttlMicros = ttlMicrosOf(request.ttl);
    const keyId = newUuid<"key">();
    const secret = await this.#secrets.make(keyId, repeatable !== undefined);
    const [row] = await this.#database.run(
      createApiKey,
      [
        caller.ownerId,
        caller.keyId,
        keyId,
        request.name,
        request.scopes.length === 0 ? null : scopesToBits(request.scopes),
        ttlMicros ?? null,
        request.spendCeilingMicros ?? null,
        secret.tokenHash,
        secret.tokenKeyVersion,
        repeatable?.requestId ?? null,
        repeatable?.digests ?? null,
      ],
      { repeatable: repeatable !== undefined },
    );
    if (row !== undefined && isApiKeyRow(row)) {
      return { key: row, secret: secret.secret };
    }
    const before = repeatable === undefined ? undefined : await this.#findMade(caller, repeatable);
    if (before === undefined) {
      throw refusal(row);
    }
    return before;
  }

  /**
   * Stops a key of the caller's account at once, and gives what it had left to spend back to the key that made it.
   *
   * @throws LeaseholdError NOT_FOUND, or the refusal of the caller's key.
   */
  async revoke(caller: Caller, keyId: KeyUuid): Promise<ApiKeyRow> {
    const values = [caller.ownerId, caller.keyId, keyId];
    const [row] = await this.#database.run(revokeApiKey, values, { repeatable: true });
    requireAccess(row?.access, "account");
    if (row === undefined || !isApiKeyRow(row)) {
      throw notFound("key");
    }
    return row;
  }

  #repeatable(request: CreateApiKeyRequest): Repeatable | undefined {
    const requestId = request.requestId.toLowerCase();
    if (requestId === "") {
      return undefined;
    }
    return { requestId, digests: digestRequest(this.#digestKey, CreateApiKeyRequestSchema, request) };
  }

  /**
   * The key that made it is part of the request, since what is unset follows from it: a second key of the account would
   * else be shown a secret with more scopes than its own.
   */
  async #findMade(caller: Caller, repeatable: Repeatable): Promise<MadeApiKey | undefined> {
    const values = [caller.ownerId, caller.keyId, scopeBits.account, repeatable.requestId];
    const [row] = await this.#database.run(findMadeApiKey, values);
    requireAccess(row?.access, "account");
    if (row === undefined || !isApiKeyRow(row) || row.digests === null) {
      return undefined;
    }
    if (row.maker_key_id !== caller.keyId) {
      throw requestIdReused("authorization");
    }
    requireSameRequest(CreateApiKeyRequestSchema, row.digests, repeatable.digests);
    return { key: row, secret: await this.#secrets.again(row) };
  }
}

function ttlMicrosOf(ttl: Duration | undefined): bigint | undefined {
  if (ttl !== undefined && ttl.seconds > maxTtlSeconds) {
    throw outOfBounds("ttl", ttl.seconds, 1n, maxTtlSeconds);
  }
  return microsOf(ttl);
}

function refusal(row: CreatedKeyRow | undefined): Error {
  switch (row?.outcome) {
    case "SCOPE_EXCEEDED": {
      const scope = firstScope(row.excess_scopes);
      const message = `The key lacks the scope "${scope}", and so cannot give it: ask for fewer, or use one that has it.`;
      return new LeaseholdError("SCOPE_MISSING", message, { metadata: { scope } });
    }
    case "SPEND_CEILING": {
      const message = `spend_ceiling_micros is ${row.asked_micros} and the key may spend ${row.remaining_micros} more: ask for less.`;
      const metadata = { price_micros: `${row.asked_micros}`, remaining_micros: `${row.remaining_micros}` };
      return new LeaseholdError("SPEND_CEILING", message, { metadata });
    }
    case "TOO_MANY":
      return new LeaseholdError("LIMIT_REACHED", `The account has ${maxKeysPerAccount} keys, as many as it can have.`, {
        metadata: { limit: "keys_per_account", limit_value: `${maxKeysPerAccount}`, value: `${maxKeysPerAccount}` },
      });
    case "CREDENTIAL_INVALID":
    case "SCOPE_MISSING":
    case "ACCOUNT_SUSPENDED":
    case undefined:
      requireAccess(row?.outcome, "account");
  }
  return new Error(`a key was refused for ${row?.outcome}`);
}
