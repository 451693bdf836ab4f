/** Tests how values are written on the command line, and how they and strangers' file names are shown. */
import { create } from "@bufbuild/protobuf";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { harmlessName, itemFileName } from "../../src/cli/download-target.ts";
import {
  parseByteCount,
  parseDollars,
  parseDuration,
  parseInteger,
  parseSize,
  parseTime,
  parseVersion,
} from "../../src/cli/parse-values.ts";
import {
  printableText,
  showBytes,
  showDollars,
  showDuration,
  showPairs,
  showPreview,
  showText,
} from "../../src/cli/show-values.ts";

test.for([
  ["90s", 90n],
  ["15m", 900n],
  ["24h", 86_400n],
  ["7d", 604_800n],
  ["2w", 1_209_600n],
  ["1h30m", 5_400n],
] as const)("the duration %s is %d seconds", ([text, seconds]) => {
  expect(parseDuration(text)).toBe(seconds);
});

test.for(["", "90", "s", "1.5h", "-1h", "1y", "1 h"])("%j is no duration", (text) => {
  expect(() => parseDuration(text)).toThrow("must be a duration");
});

test.for([
  ["1048576", 1_048_576n],
  ["10MiB", 10_485_760n],
  ["10mib", 10_485_760n],
  ["1.5GiB", 1_610_612_736n],
  ["10MB", 10_000_000n],
  ["0.5KB", 500n],
  ["1TiB", 1_099_511_627_776n],
  ["12B", 12n],
] as const)("the size %s is %d bytes", ([text, bytes]) => {
  expect(parseSize(text)).toBe(bytes);
});

test.for(["", "MiB", "1.5", "0.0001KB", "-1", "1e6", "10 apples", "10M"])("%j is no size", (text) => {
  expect(() => parseSize(text)).toThrow("must be a whole number of bytes");
});

test.for([
  ["10", 10_000_000n, "10.000000 USD"],
  ["0.25", 250_000n, "0.250000 USD"],
  ["$1.000001", 1_000_001n, "1.000001 USD"],
  ["0", 0n, "0.000000 USD"],
] as const)("the sum %s is %d micro-dollars, shown as %s", ([text, micros, shown]) => {
  expect(parseDollars(text)).toBe(micros);
  expect(showDollars(micros)).toBe(shown);
});

test.for(["", "1.0000001", "-1", "1,5", "ten"])("%j is no sum", (text) => {
  expect(() => parseDollars(text)).toThrow("must be a sum");
});

test("values are shown exactly, or rounded where that is said", () => {
  expect(showDollars(-1n)).toBe("-0.000001 USD");
  expect(showBytes(1_023n)).toBe("1023 bytes");
  expect(showBytes(1_536n)).toBe("1.5 KiB");
  expect(showDuration(create(DurationSchema, { seconds: 129_601n }))).toBe("1d 12h 1s");
  expect(showDuration(undefined)).toBe("0s");
});

test.for([
  ["report.pdf", "report.pdf"],
  ["../../etc/passwd", "passwd"],
  ["..\\..\\boot.ini", "boot.ini"],
  [".bashrc", "_bashrc"],
  ["..", "__"],
  ["a\u202Egpj.exe", "a_gpj.exe"],
  ["a\u0000b\nc", "a_b_c"],
  ["con: <it>?", "con_ _it__"],
  ["trailing. . ", "trailing"],
  ["日本語.txt", "日本語.txt"],
  ["", ""],
] as const)("a stranger's file name %j becomes %j", ([name, harmless]) => {
  expect(harmlessName(name)).toBe(harmless);
});

test("items of a claim have a file each, on any file system, whatever they are called", () => {
  const names = [
    "a/b",
    "c/b",
    "b",
    "B",
    "items.jsonl",
    "ITEMS.JSONL",
    "..",
    "/",
    "a".repeat(256),
    `${"a".repeat(255)}b`,
    "é",
  ];
  const files = names.map(itemFileName);
  expect(new Set([...files, "items.jsonl"].map((file) => file.toLowerCase()))).toHaveLength(names.length + 1);
  expect(files.filter((file) => /[/\\]/.test(file) || file.startsWith(".") || Buffer.byteLength(file) > 255)).toEqual(
    [],
  );
  expect(itemFileName("msg_01m88fq07ye00a2jfapw0jcydk")).toBe("msg_01m88fq07ye00a2jfapw0jcydk");
});

test("an amount is a whole number of 64 bits", () => {
  expect([parseInteger("-3"), parseInteger("+7"), parseInteger("9223372036854775807")]).toEqual([
    -3n,
    7n,
    2n ** 63n - 1n,
  ]);
  for (const text of ["9223372036854775808", "1.5", "", "one"]) {
    expect(() => parseInteger(text)).toThrow("must be a whole number");
  }
});

test("a size that is sent in 31 bits, and a version's number, are told from what is neither", () => {
  expect(parseByteCount("256KiB")).toBe(262_144);
  expect(() => parseByteCount("0")).toThrow("from 1 byte to less than 2GiB");
  expect(() => parseByteCount("2GiB")).toThrow("from 1 byte to less than 2GiB");
  expect([parseVersion("0"), parseVersion("12")]).toEqual([0n, 12n]);
  expect(() => parseVersion("01")).toThrow("must be a whole number");
});

test("a time has its offset from UTC, and is one that there is", () => {
  expect(parseTime("2026-12-24T18:00:00Z").getTime()).toBe(Date.UTC(2026, 11, 24, 18));
  expect(parseTime("2028-02-29T18:00:00.25+01:00").getTime()).toBe(Date.UTC(2028, 1, 29, 17, 0, 0, 250));
  for (const text of [
    "2026-12-24",
    "2026-12-24T18:00:00",
    "2026-02-30T18:00:00Z",
    "2026-12-24T25:00:00Z",
    "tomorrow",
  ]) {
    expect(() => parseTime(text)).toThrow("must be a time");
  }
});

test("a stranger's text shows as it is, and nothing in it acts on the terminal", () => {
  expect(showText("naïve \u{1f600} 日本語")).toBe("naïve \u{1f600} 日本語");
  expect(showText("a\u001b[2J\nb\u009b\u202e")).toBe("a\\u{1b}[2J\\u{a}b\\u{9b}\\u{202e}");
  expect(showPairs({ b: "2", a: "1\r" })).toBe("a=1\\u{d} b=2");
});

test.for([
  [Buffer.from("a\tb\r\nc\n"), "a\tb\nc\n"],
  [Buffer.from(""), ""],
  [Buffer.from("a\u001b[2J"), undefined],
  [Buffer.from("a\rb"), undefined],
  [Buffer.from([0xc3, 0x28]), undefined],
] as const)("the body %j as text is %j", ([body, text]) => {
  expect(printableText(body)).toBe(text);
});

test("a preview is one line, and of what is no text its size", () => {
  expect(showPreview(Buffer.from("one\n\n  two"))).toBe("one two");
  expect(showPreview(Buffer.from("x".repeat(50)))).toBe(`${"x".repeat(39)}…`);
  expect(showPreview(Buffer.from([0, 1, 2]))).toBe("(3 bytes)");
});
