/** The secrets of API keys: derived where a repeat of the call that made the key must show it again, and random otherwise. */
import type { ServerKeys } from "../content/server-keys.ts";
import type { KeyUuid } from "../ids/ids.ts";
import { deriveToken, hashToken, randomToken } from "../secrets/secret-token.ts";
import type { ApiKeyRow } from "./account-entities.ts";

/** A new secret, and what the rows keep of it. */
export interface NewApiKeySecret {
  readonly secret: string;
  readonly tokenHash: Buffer;
  /** The version of the server key it is derived from. Null: it is random. */
  readonly tokenKeyVersion: number | null;
}

/** A key keeps its secret for life, and gives way to another key: so its secrets have one generation. */
const generation = 1;

/** Makes secrets. */
export class ApiKeySecrets {
  readonly #serverKeys: ServerKeys;

  constructor(serverKeys: ServerKeys) {
    this.#serverKeys = serverKeys;
  }

  /** A secret for a new key. `repeatable`: the call that makes the key has a request_id. */
  async make(keyId: KeyUuid, repeatable: boolean): Promise<NewApiKeySecret> {
    if (!repeatable) {
      const secret = randomToken("key");
      return { secret, tokenHash: hashToken(secret), tokenKeyVersion: null };
    }
    const serverKey = await this.#serverKeys.latest();
    const secret = deriveToken("key", serverKey.key, keyId, generation);
    return { secret, tokenHash: hashToken(secret), tokenKeyVersion: serverKey.version };
  }

  /** The secret of a key that a request_id made before. */
  async again(row: Pick<ApiKeyRow, "key_id" | "token_key_version">): Promise<string> {
    if (row.token_key_version === null) {
      throw new Error("a key was found by its request_id and has no secret to show again");
    }
    const serverKey = await this.#serverKeys.get(row.token_key_version);
    return deriveToken("key", serverKey.key, row.key_id, generation);
  }
}
