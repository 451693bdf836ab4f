/** Gives lease keys to those who seal and open content: makes them, unwraps them, and keeps them for a minute. */
import { KeyCache } from "./key-cache.ts";
import type { KeyFolder } from "./key-folder.ts";
import { makeLeaseKey, unwrapLeaseKey, wrapLeaseKey, wrappedKeyId } from "./lease-key.ts";

/**
 * A cached key is proof of nothing: ask for a key only after a statement has confirmed that the lease may be used.
 * Every key returned is the caller's own copy. A cached key is returned only for the very bytes it was unwrapped from,
 * so a lease whose key was replaced elsewhere gets the new one.
 */
export class LeaseKeyring {
  readonly #folder: KeyFolder;
  readonly #cache: KeyCache<string, { readonly key: Buffer; readonly wrapped: Uint8Array }>;

  constructor(folder: KeyFolder, options: { readonly maxEntries?: number; readonly maxAgeMs?: number } = {}) {
    this.#folder = folder;
    this.#cache = new KeyCache({ maxEntries: options.maxEntries ?? 10_000, maxAgeMs: options.maxAgeMs ?? 60_000 });
  }

  /** A new key for a lease that ends in this epoch. Store `wrapped` and `epochKeyId` in the lease's row. */
  async make(leaseId: string, epochStartSeconds: number): Promise<NewLeaseKey> {
    const epochKey = await this.#folder.epochKey(epochStartSeconds);
    const key = makeLeaseKey();
    const wrapped = wrapLeaseKey(epochKey, key, { installationId: this.#folder.installationId, leaseId });
    this.#cache.put(leaseId, { key, wrapped });
    return { key, wrapped, epochKeyId: epochKey.keyId };
  }

  /** The key in a lease's row. Throws KeyFolderError when the epoch's key is gone, ContentCorruptError for bad bytes. */
  async unwrap(leaseId: string, epochStartSeconds: number, wrapped: Uint8Array): Promise<Buffer> {
    const cached = this.#cache.get(leaseId);
    if (cached !== undefined && Buffer.compare(cached.wrapped, wrapped) === 0) {
      return cached.key;
    }
    const epochKey = await this.#folder.existingEpochKey(epochStartSeconds, wrappedKeyId(wrapped));
    const key = unwrapLeaseKey(epochKey, wrapped, { installationId: this.#folder.installationId, leaseId });
    this.#cache.put(leaseId, { key, wrapped: Uint8Array.from(wrapped) });
    return key;
  }

  /** Overwrites the lease's cached key, because the lease ended or its key was replaced. */
  forget(leaseId: string): void {
    this.#cache.forget(leaseId);
  }

  /** Overwrites all cached keys, for the end of the process. */
  clear(): void {
    this.#cache.clear();
  }
}

export interface NewLeaseKey {
  readonly key: Buffer;
  readonly wrapped: Buffer;
  readonly epochKeyId: string;
}
