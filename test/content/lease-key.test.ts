import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { KeyFolder } from "../../src/content/key-folder.ts";
import {
  makeLeaseKey,
  unwrapLeaseKey,
  wrapLeaseKey,
  wrappedKeyBytes,
  wrappedKeyId,
} from "../../src/content/lease-key.ts";
import { LeaseKeyring } from "../../src/content/lease-keyring.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const installationId = "0192f0c1-2a3b-7c4d-8e5f-001122334455";
const leaseId = "0192f0c1-2a3b-7c4d-8e5f-66778899aabb";
const otherId = "0192f0c1-2a3b-7c4d-8e5f-66778899aabc";
const owner = { installationId, leaseId };
const epochKey = { keyId: "b3a1f0de-9b1c-4f0e-8d3a-0123456789ab", startSeconds: 7200, key: Buffer.alloc(32, 9) };

function openFolder(dir: string): Promise<KeyFolder> {
  return KeyFolder.open({ dir, installationId, epochLengthSeconds: 3600, createIfMissing: true });
}

describe("wrapping a lease's key", () => {
  test("a wrapped key names its epoch key and unwraps to the same key", () => {
    const leaseKey = makeLeaseKey();
    const wrapped = wrapLeaseKey(epochKey, leaseKey, owner);
    expect(wrapped.length).toBe(wrappedKeyBytes);
    expect(wrappedKeyId(wrapped)).toBe(epochKey.keyId);
    expect(unwrapLeaseKey(epochKey, wrapped, owner)).toEqual(leaseKey);
    expect(wrapped.includes(leaseKey)).toBe(false);
    expect(makeLeaseKey().equals(leaseKey)).toBe(false);
  });

  test("a wrapped key opens for no other installation, lease, epoch or epoch key", () => {
    const wrapped = wrapLeaseKey(epochKey, makeLeaseKey(), owner);
    const corrupt = expect.objectContaining({ reason: "UNAUTHENTIC" });
    expect(() => unwrapLeaseKey(epochKey, wrapped, { installationId: otherId, leaseId })).toThrow(corrupt);
    expect(() => unwrapLeaseKey(epochKey, wrapped, { installationId, leaseId: otherId })).toThrow(corrupt);
    expect(() => unwrapLeaseKey({ ...epochKey, startSeconds: 3600 }, wrapped, owner)).toThrow(corrupt);
    expect(() => unwrapLeaseKey({ ...epochKey, key: Buffer.alloc(32, 8) }, wrapped, owner)).toThrow(corrupt);
    expect(() => unwrapLeaseKey({ ...epochKey, keyId: otherId }, wrapped, owner)).toThrow(corrupt);
  });

  test("bytes that are not a wrapped key are refused", () => {
    const wrapped = wrapLeaseKey(epochKey, makeLeaseKey(), owner);
    expect(() => wrappedKeyId(wrapped.subarray(1))).toThrow(expect.objectContaining({ reason: "TRUNCATED" }));
    expect(() => unwrapLeaseKey(epochKey, Buffer.alloc(0), owner)).toThrow(
      expect.objectContaining({ reason: "TRUNCATED" }),
    );
  });
});

describe("the keyring", () => {
  test("a key made by one process is unwrapped by another from its row", async () => {
    const dir = join(temporaryFolder(), "keys");
    const made = await new LeaseKeyring(await openFolder(dir)).make(leaseId, 7200);
    expect(wrappedKeyId(made.wrapped)).toBe(made.epochKeyId);
    const elsewhere = new LeaseKeyring(await openFolder(dir));
    expect(await elsewhere.unwrap(leaseId, 7200, made.wrapped)).toEqual(made.key);
  });

  test("a cached key serves until it is forgotten; then only the key folder can bring it back", async () => {
    const dir = join(temporaryFolder(), "keys");
    const folder = await openFolder(dir);
    const keyring = new LeaseKeyring(folder);
    const { key, wrapped } = await keyring.make(leaseId, 7200);
    await folder.destroyEpoch(7200);
    expect(await keyring.unwrap(leaseId, 7200, wrapped)).toEqual(key);
    keyring.forget(leaseId);
    await expect(keyring.unwrap(leaseId, 7200, wrapped)).rejects.toMatchObject({ reason: "KEY_MISSING" });
  });

  test("a lease whose key was replaced elsewhere gets the key of its row, not the cached one", async () => {
    const dir = join(temporaryFolder(), "keys");
    const keyring = new LeaseKeyring(await openFolder(dir));
    await keyring.make(leaseId, 7200);
    const replacement = await new LeaseKeyring(await openFolder(dir)).make(leaseId, 7200);
    expect(await keyring.unwrap(leaseId, 7200, replacement.wrapped)).toEqual(replacement.key);
  });

  test("once the epoch's key is destroyed, a kept copy of the row and a new key for the epoch open nothing", async () => {
    const dir = join(temporaryFolder(), "keys");
    const { wrapped } = await new LeaseKeyring(await openFolder(dir)).make(leaseId, 7200);
    const path = join(dir, "epoch-7200.key");
    const { keyId, key: _key, ...rest } = JSON.parse(readFileSync(path, "utf8"));
    rmSync(path);
    writeFileSync(path, JSON.stringify({ ...rest, keyId, key: Buffer.alloc(32, 1).toString("base64") }));
    const keyring = new LeaseKeyring(await openFolder(dir));
    await expect(keyring.unwrap(leaseId, 7200, wrapped)).rejects.toMatchObject({ reason: "UNAUTHENTIC" });
  });
});
