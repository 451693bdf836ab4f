/** What secret tokens promise: they hold 32 bytes, tell every typo, and are stored as nothing but a hash. */
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  checkToken,
  deriveToken,
  formatToken,
  hashToken,
  randomToken,
  type TokenKind,
} from "../../src/secrets/secret-token.ts";

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const secrets = fc.uint8Array({ minLength: 32, maxLength: 32 });
const kinds = fc.constantFrom<TokenKind>("key", "claim");

test("a token is its kind, 32 bytes in 43 digits of base62 and a checksum of 6", () => {
  fc.assert(
    fc.property(kinds, secrets, (kind, secret) => {
      const token = formatToken(kind, secret);
      const [, digits = ""] = new RegExp(`^lh_${kind}_([0-9A-Za-z]{43})[0-9A-Za-z]{6}$`).exec(token) ?? [];
      const number = [...digits].reduce((sum, digit) => sum * 62n + BigInt(alphabet.indexOf(digit)), 0n);
      expect(number.toString(16).padStart(64, "0")).toBe(Buffer.from(secret).toString("hex"));
    }),
  );
});

test("the least and the greatest secret have tokens of the same length", () => {
  expect(formatToken("key", Buffer.alloc(32))).toMatch(/^lh_key_0{43}[0-9A-Za-z]{6}$/);
  expect(formatToken("key", Buffer.alloc(32, 0xff))).toHaveLength("lh_key_".length + 49);
});

test("a token that was made is well-formed, and of no other kind", () => {
  fc.assert(
    fc.property(secrets, (secret) => {
      checkToken("claim", formatToken("claim", secret));
      expect(isWellFormed("key", formatToken("claim", secret))).toBe(false);
    }),
  );
});

test("any one character mistyped is told without a look-up", () => {
  const token = randomToken("claim");
  for (let place = 0; place < token.length; place++) {
    for (const character of `${alphabet}-_ .\u00e9\u0660`) {
      const typo = token.slice(0, place) + character + token.slice(place + 1);
      expect(isWellFormed("claim", typo), `${character} at ${place} of ${token}`).toBe(typo === token);
    }
  }
});

test("two neighbours swapped, a character too few and one too many are told without a look-up", () => {
  const token = randomToken("key");
  for (let place = 0; place < token.length; place++) {
    const [before, after] = [token.slice(0, place), token.slice(place + 1)];
    const swapped = before + after.charAt(0) + token.charAt(place) + after.slice(1);
    expect(isWellFormed("key", swapped)).toBe(swapped === token);
    expect(isWellFormed("key", before + after)).toBe(false);
    expect(isWellFormed("key", `${before}0${token.slice(place)}`)).toBe(false);
  }
  for (const wrong of ["", " ", `${token} `, `${token}\n`, ` ${token}`, token.toLowerCase(), "lh_key_"]) {
    expect(isWellFormed("key", wrong)).toBe(false);
  }
});

test("a text of another form is refused although its checksum is right", () => {
  const secret = "0".repeat(43);
  expect(isWellFormed("key", withChecksum(`lh_key_${secret}`))).toBe(true);
  for (const body of ["lh_key_", `lh_key_${secret}0`, `lh_key_${secret.slice(1)}-`, `lh_claim_${secret}`, secret]) {
    expect(isWellFormed("key", withChecksum(body)), body).toBe(false);
  }
});

test("the refusal of a typo does not repeat the token", () => {
  const token = randomToken("key");
  const typo = `${token.slice(0, -1)}-`;
  expect(() => checkToken("key", typo)).toThrow(
    expect.objectContaining({
      reason: "TOKEN_MALFORMED",
      message: expect.not.stringContaining(token.slice(7, 20)),
      metadata: {},
    }),
  );
});

test("a derived token is the same each time, and another for another kind, thing, generation or server key", () => {
  const serverKey = Buffer.alloc(32, 1);
  const token = deriveToken("key", serverKey, "a", 1);
  checkToken("key", token);
  expect(deriveToken("key", serverKey, "a", 1)).toBe(token);
  const others = [
    deriveToken("claim", serverKey, "a", 1).replace("claim", "key"),
    deriveToken("key", serverKey, "b", 1),
    deriveToken("key", serverKey, "a", 2),
    deriveToken("key", Buffer.alloc(32, 2), "a", 1),
  ];
  expect(new Set([token, ...others].map((some) => some.slice(0, -6))).size).toBe(5);
});

test("random tokens do not repeat", () => {
  expect(new Set(Array.from({ length: 10_000 }, () => randomToken("key"))).size).toBe(10_000);
});

test("what is stored of a token is its SHA-256", () => {
  const token = randomToken("key");
  expect(hashToken(token).toString("hex")).toBe(createHash("sha256").update(token).digest("hex"));
});

function withChecksum(body: string): string {
  let rest = crc32(body);
  let checksum = "";
  for (; checksum.length < 6; rest = Math.floor(rest / 62)) {
    checksum = alphabet.charAt(rest % 62) + checksum;
  }
  return body + checksum;
}

function isWellFormed(kind: TokenKind, token: string): boolean {
  try {
    checkToken(kind, token);
    return true;
  } catch (error) {
    expect(error).toMatchObject({ reason: "TOKEN_MALFORMED" });
    return false;
  }
}
