import { createDecipheriv, randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ContentCorruptError } from "../../src/content/content-corrupt-error.ts";
import {
  encodeSealContext,
  maxSealsPerKey,
  open,
  type SealContext,
  seal,
  sealInto,
  sealOverheadBytes,
} from "../../src/content/sealing.ts";

const key = Buffer.alloc(32, 7);
const context: SealContext = {
  installationId: "0192f0c1-2a3b-7c4d-8e5f-001122334455",
  leaseId: "0192f0c1-2a3b-7c4d-8e5f-66778899aabb",
  kind: "content",
  objectId: "3",
  partIndex: 5_000_000_000,
  final: false,
};

describe("sealing", () => {
  test("what was sealed opens to the same bytes, whatever its length, and is 28 bytes longer", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 5000 }), (plaintext) => {
        const sealed = seal(key, plaintext, context);
        expect(sealed.length).toBe(plaintext.length + sealOverheadBytes);
        expect(open(key, sealed, context).equals(plaintext)).toBe(true);
      }),
    );
  });

  test.each<[string, Partial<SealContext>]>([
    ["installation", { installationId: "0192f0c1-2a3b-7c4d-8e5f-001122334456" }],
    ["lease", { leaseId: "0192f0c1-2a3b-7c4d-8e5f-66778899aabc" }],
    ["kind", { kind: "conten" }],
    ["object", { objectId: "4" }],
    ["part index", { partIndex: 5_000_000_001 }],
    ["high half of the part index", { partIndex: 5_000_000_000 % 2 ** 32 }],
    ["final flag", { final: true }],
  ])("sealed bytes do not open in another %s", (_part, change) => {
    const sealed = seal(key, Buffer.from("secret"), context);
    expect(() => open(key, sealed, { ...context, ...change })).toThrow(ContentCorruptError);
    expect(open(key, sealed, context).toString()).toBe("secret");
  });

  test("sealed bytes do not open when any bit of them changed", () => {
    const sealed = seal(key, Buffer.from("a secret of some length"), context);
    for (let bit = 0; bit < sealed.length * 8; bit += 1) {
      const changed = Buffer.from(sealed);
      changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      expect(() => open(key, changed, context)).toThrow(expect.objectContaining({ reason: "UNAUTHENTIC" }));
    }
  });

  test("sealed bytes do not open when cut, wherever, or under another key", () => {
    const sealed = seal(key, Buffer.from("secret"), context);
    for (let length = 0; length < sealed.length; length += 1) {
      const reason = length < sealOverheadBytes ? "TRUNCATED" : "UNAUTHENTIC";
      expect(() => open(key, sealed.subarray(0, length), context)).toThrow(expect.objectContaining({ reason }));
    }
    expect(() => open(randomBytes(32), sealed, context)).toThrow(ContentCorruptError);
  });

  test("no nonce repeats, and equal plaintexts do not look alike", () => {
    const seals = Array.from({ length: 20_000 }, () => seal(key, Buffer.from("same"), context));
    expect(new Set(seals.map((sealed) => sealed.toString("hex", 0, 12))).size).toBe(seals.length);
    expect(new Set(seals.map((sealed) => sealed.toString("hex", 12))).size).toBe(seals.length);
  });

  test("two different contexts never encode to the same bytes", () => {
    const text = fc.string({ maxLength: 4, unit: fc.constantFrom("a", "b", "\0", "\u0001", "é") });
    const variable = fc.record({ kind: text, objectId: text, partIndex: fc.nat(3), final: fc.boolean() });
    fc.assert(
      fc.property(variable, variable, (one, other) => {
        const sameContext = JSON.stringify(one) === JSON.stringify(other);
        const sameBytes = encodeSealContext({ ...context, ...one }).equals(encodeSealContext({ ...context, ...other }));
        expect(sameBytes).toBe(sameContext);
      }),
      { numRuns: 2000 },
    );
  });

  test("the stored format stays: what was sealed long ago opens, and any AES-256-GCM can open what is sealed now", () => {
    const old = Buffer.from("0000000000000000000000015b2dc9149d52cf9d47b71f80c6925c9165386a02", "hex");
    expect(open(key, old, context).toString()).toBe("kept");
    const aad = Buffer.from(
      "010192f0c12a3b7c4d8e5f0011223344550192f0c12a3b7c4d8e5f66778899aabb0007636f6e74656e7400013300000001" +
        "2a05f20000",
      "hex",
    );
    const sealed = seal(key, Buffer.from("kept"), context);
    const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(0, 12));
    decipher.setAAD(aad).setAuthTag(sealed.subarray(16));
    expect(Buffer.concat([decipher.update(sealed.subarray(12, 16)), decipher.final()]).toString()).toBe("kept");
  });

  test("sealing into a buffer touches only its own place, and refuses a place that is too small", () => {
    const target = Buffer.alloc(100, 0xee);
    expect(sealInto(key, Buffer.from("secret"), context, target, 10)).toBe(34);
    expect(open(key, target.subarray(10, 44), context).toString()).toBe("secret");
    expect(target.subarray(0, 10).every((byte) => byte === 0xee)).toBe(true);
    expect(target.subarray(44).every((byte) => byte === 0xee)).toBe(true);
    expect(() => sealInto(key, Buffer.from("secret"), context, target, 67)).toThrow(RangeError);
    expect(() => sealInto(key, Buffer.from("secret"), context, target, -1)).toThrow(RangeError);
  });

  test("nothing is sealed under a key that was dropped, or that is no key", () => {
    expect(() => seal(Buffer.alloc(32), Buffer.from("secret"), context)).toThrow(/all-zero key/);
    expect(() => seal(Buffer.alloc(16, 1), Buffer.from("secret"), context)).toThrow();
  });

  test("a context that is not one is refused", () => {
    expect(() => encodeSealContext({ ...context, leaseId: context.leaseId.toUpperCase() })).toThrow(TypeError);
    expect(() => encodeSealContext({ ...context, leaseId: "../../etc/passwd" })).toThrow(TypeError);
    expect(() => encodeSealContext({ ...context, partIndex: -1 })).toThrow(RangeError);
    expect(() => encodeSealContext({ ...context, partIndex: 0.5 })).toThrow(RangeError);
    expect(() => encodeSealContext({ ...context, objectId: "x".repeat(65_536) })).toThrow(RangeError);
  });

  test("a key is replaced before random nonces become likely to meet", () => {
    expect(maxSealsPerKey).toBeLessThanOrEqual(2 ** 32);
  });
});
