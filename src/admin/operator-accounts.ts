/** Accounts as the operator handles them: made with their first key, credited, suspended and resumed. */
import {
  type CreateAccountRequest,
  CreateAccountRequestSchema,
  type CreditAccountRequest,
  CreditAccountRequestSchema,
} from "#gen/leasehold/v1/admin_pb.js";
import { type AccountRow, isAccountRow } from "../account/account-entities.ts";
import { ApiKeySecrets } from "../account/api-key-secrets.ts";
import type { ServerKeys } from "../content/server-keys.ts";
import type { Database } from "../database/database.ts";
import { notFound, outOfBounds } from "../errors/leasehold-error.ts";
import { digestRequest, requireSameRequest } from "../idempotency/idempotency.ts";
import { type AccountUuid, newUuid, parseId } from "../ids/ids.ts";
import {
  createAccount,
  creditAccount,
  findCredited,
  findMadeAccount,
  resumeAccount,
  suspendAccount,
} from "./admin-statements.ts";

/** An account and the secret of its first key. */
export interface MadeAccount {
  readonly account: AccountRow;
  readonly secret: string;
}

/** What the operator's accounts need. */
export interface OperatorAccountsOptions {
  readonly database: Database;
  readonly serverKeys: ServerKeys;
  /** The key that request digests are made with. */
  readonly digestKey: Uint8Array;
}

/** Handles accounts for the operator. */
export class OperatorAccounts {
  readonly #database: Database;
  readonly #digestKey: Uint8Array;
  readonly #secrets: ApiKeySecrets;

  constructor(options: OperatorAccountsOptions) {
    this.#database = options.database;
    this.#digestKey = options.digestKey;
    this.#secrets = new ApiKeySecrets(options.serverKeys);
  }

  /**
   * Makes an account, or finds the one that the request_id made before.
   *
   * @throws LeaseholdError REQUEST_ID_REUSED.
   */
  async make(request: CreateAccountRequest): Promise<MadeAccount> {
    const requestId = request.requestId === "" ? undefined : request.requestId.toLowerCase();
    const digests = digestRequest(this.#digestKey, CreateAccountRequestSchema, request);
    const keyId = newUuid<"key">();
    const secret = await this.#secrets.make(keyId, requestId !== undefined);
    const [made] = await this.#database.run(
      createAccount,
      [newUuid<"acc">(), request.name, keyId, secret.tokenHash, secret.tokenKeyVersion, requestId ?? null, digests],
      { repeatable: requestId !== undefined },
    );
    if (made !== undefined) {
      return { account: made, secret: secret.secret };
    }
    const [before] = await this.#database.run(findMadeAccount, [requestId ?? null]);
    if (before === undefined) {
      throw new Error("an account was made and then not found");
    }
    requireSameRequest(CreateAccountRequestSchema, before.digests, digests);
    return { account: before, secret: await this.#secrets.again(before) };
  }

  /**
   * Adds to a balance, once for each request_id. Gives the account as it is now.
   *
   * @throws LeaseholdError NOT_FOUND, OUT_OF_BOUNDS if the balance would be too large, or REQUEST_ID_REUSED.
   */
  async credit(request: CreditAccountRequest): Promise<AccountRow> {
    const accountId = accountUuidOf(request.accountId);
    const requestId = request.requestId === "" ? undefined : request.requestId.toLowerCase();
    const digests = digestRequest(this.#digestKey, CreditAccountRequestSchema, request);
    const [row] = await this.#database.run(
      creditAccount,
      [accountId, request.amountMicros, newUuid<"txn">(), requestId ?? null, digests],
      { repeatable: requestId !== undefined },
    );
    if (row !== undefined && isAccountRow(row)) {
      return row;
    }
    const [before] = requestId === undefined ? [] : await this.#database.run(findCredited, [requestId, accountId]);
    if (before !== undefined) {
      requireSameRequest(CreditAccountRequestSchema, before.digests, digests);
      if (isAccountRow(before)) {
        return before;
      }
    }
    if (row === undefined) {
      throw notFound("account");
    }
    if (row.outcome === "OUT_OF_BOUNDS") {
      throw outOfBounds("amount_micros", request.amountMicros, 1n, row.room_micros);
    }
    throw new Error(`a credit was refused for ${row.outcome}`);
  }

  /**
   * Stops an account. One that is stopped stays as it is.
   *
   * @throws LeaseholdError NOT_FOUND.
   */
  async suspend(accountId: string): Promise<AccountRow> {
    return await this.#change(suspendAccount, accountId);
  }

  /**
   * Lets an account go on. One that is not stopped stays as it is.
   *
   * @throws LeaseholdError NOT_FOUND.
   */
  async resume(accountId: string): Promise<AccountRow> {
    return await this.#change(resumeAccount, accountId);
  }

  async #change(statement: typeof suspendAccount, accountId: string): Promise<AccountRow> {
    const [row] = await this.#database.run(statement, [accountUuidOf(accountId)], { repeatable: true });
    if (row === undefined) {
      throw notFound("account");
    }
    return row;
  }
}

function accountUuidOf(accountId: string): AccountUuid {
  const uuid = parseId("acc", accountId);
  if (uuid === undefined) {
    throw notFound("account");
  }
  return uuid;
}
