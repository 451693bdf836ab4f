/** What ids promise: one text for each UUID, the order of the UUIDs, and ids of one process that ascend. */
import fc from "fast-check";
import { afterEach, expect, test, vi } from "vitest";
import { formatId, newUuid, parseId, type Uuid } from "../../src/ids/ids.ts";

const uuids = fc.uuid({ version: [1, 2, 3, 4, 5, 6, 7, 8] }).map((uuid) => uuid as Uuid<"lse">);
const anyUuids = fc
  .uint8Array({ minLength: 16, maxLength: 16 })
  .map((bytes) => Buffer.from(bytes).toString("hex"))
  .map((hex) => hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-") as Uuid<"lse">);

afterEach(() => {
  vi.restoreAllMocks();
});

test("an id is the prefix and the UUID's number in 26 digits of Crockford base32", () => {
  fc.assert(
    fc.property(fc.oneof(uuids, anyUuids), (uuid) => {
      let number = BigInt(`0x${uuid.replaceAll("-", "")}`);
      let digits = "";
      for (; digits.length < 26; number /= 32n) {
        digits = "0123456789abcdefghjkmnpqrstvwxyz".charAt(Number(number % 32n)) + digits;
      }
      expect(formatId("lse", uuid)).toBe(`lse_${digits}`);
    }),
  );
});

test("an id and its UUID are two forms of one value", () => {
  fc.assert(
    fc.property(anyUuids, (uuid) => {
      expect(parseId("lse", formatId("lse", uuid))).toBe(uuid);
    }),
  );
});

test("ids sort as their UUIDs do", () => {
  fc.assert(
    fc.property(anyUuids, anyUuids, (a, b) => {
      expect(formatId("lse", a) < formatId("lse", b)).toBe(a < b);
    }),
  );
});

test("a text that is not an id of the kind has no UUID", () => {
  const id = formatId("lse", newUuid<"lse">());
  const wrong = [
    "",
    "lse_",
    id.slice(0, -1),
    `${id}0`,
    id.toUpperCase(),
    id.replace("lse_", "acc_"),
    id.replace("lse_", "lse-"),
    id.replace("lse_", "Lse_"),
    `lse_8${id.slice(5)}`,
    `lse_z${id.slice(5)}`,
    ..."ilou-_ .\u0000\u00e9\u0660\uff10".split("").map((character) => id.slice(0, -1) + character),
  ];
  for (const text of wrong) {
    expect(parseId("lse", text), JSON.stringify(text)).toBeUndefined();
  }
});

test("every text is either no id or the one form of a UUID", () => {
  const texts = fc.string({
    unit: fc.constantFrom(..."0123456789abcdefghijklmnopqrstuvwxyz"),
    minLength: 26,
    maxLength: 26,
  });
  fc.assert(
    fc.property(texts, (text) => {
      const uuid = parseId("lse", `lse_${text}`);
      expect(uuid === undefined || formatId("lse", uuid) === `lse_${text}`).toBe(true);
    }),
  );
});

test("a new UUID is of version 7 and carries the time it was made at, in milliseconds", () => {
  vi.spyOn(Date, "now").mockReturnValue(0x0fff_abcd_ef01);
  expect(newUuid<"lse">()).toMatch(/^0fffabcd-ef01-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test("new UUIDs ascend, also within a millisecond, past its last and when the clock is set back", () => {
  const now = vi.spyOn(Date, "now").mockReturnValue(0x0fff_abcd_f000);
  let last = newUuid<"lse">();
  for (let count = 0; count < 10_000; count++) {
    if (count === 5_000) {
      now.mockReturnValue(1_000);
    }
    const next = newUuid<"lse">();
    expect(next > last).toBe(true);
    last = next;
  }
});

test("new UUIDs do not repeat", () => {
  const seen = new Set(Array.from({ length: 50_000 }, () => newUuid<"lse">().slice(-16)));
  expect(seen.size).toBe(50_000);
});
