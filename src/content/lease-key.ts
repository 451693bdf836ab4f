/** The random key of one lease, and its form in the database: wrapped under the key of the epoch the lease ends in. */
import { randomBytes } from "node:crypto";
import { ContentCorruptError } from "./content-corrupt-error.ts";
import type { EpochKey } from "./key-folder.ts";
import { keyBytes, open, type SealContext, seal, sealOverheadBytes } from "./sealing.ts";
import { readUuid, uuidBytes, writeUuid } from "./uuid-bytes.ts";

/** 32 random bytes. */
export function makeLeaseKey(): Buffer {
  return randomBytes(keyBytes);
}

/**
 * The key as it is stored: epoch key id (16 bytes), nonce (12), ciphertext (32), tag (16). It opens only for this
 * installation, lease and epoch.
 */
export function wrapLeaseKey(epochKey: EpochKey, leaseKey: Uint8Array, owner: LeaseKeyOwner): Buffer {
  const wrapped = Buffer.allocUnsafeSlow(wrappedKeyBytes);
  writeUuid(epochKey.keyId, wrapped, 0);
  seal(epochKey.key, leaseKey, wrapContext(epochKey, owner)).copy(wrapped, uuidBytes);
  return wrapped;
}

/** The key that `wrapLeaseKey` was given. Throws ContentCorruptError when anything of it, or of its place, differs. */
export function unwrapLeaseKey(epochKey: EpochKey, wrapped: Uint8Array, owner: LeaseKeyOwner): Buffer {
  if (wrappedKeyId(wrapped) !== epochKey.keyId) {
    throw new ContentCorruptError("UNAUTHENTIC", `the key of lease ${owner.leaseId} is not under ${epochKey.keyId}`);
  }
  return open(epochKey.key, wrapped.subarray(uuidBytes), wrapContext(epochKey, owner));
}

/** The id of the epoch key that opens these bytes. Throws ContentCorruptError when they are not a wrapped key. */
export function wrappedKeyId(wrapped: Uint8Array): string {
  if (wrapped.length !== wrappedKeyBytes) {
    throw new ContentCorruptError("TRUNCATED", `${wrapped.length} bytes are not a wrapped key of ${wrappedKeyBytes}`);
  }
  return readUuid(wrapped, 0);
}

export interface LeaseKeyOwner {
  readonly installationId: string;
  readonly leaseId: string;
}

export const wrappedKeyBytes = uuidBytes + keyBytes + sealOverheadBytes;

function wrapContext(epochKey: EpochKey, owner: LeaseKeyOwner): SealContext {
  return { ...owner, kind: "lease_key", objectId: `${epochKey.startSeconds}`, partIndex: 0, final: true };
}
