/** Tests what `leasehold pad watch` shows of a stream that breaks within the changes of one moment. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { WatchEntriesResponse_Change as Change, WatchEntriesResponseSchema } from "#gen/leasehold/v1/scratchpad_pb.js";
import { ShownChanges } from "../../src/cli/shown-changes.ts";

function set(key: string, version: bigint, text: string, caughtUpVersion = 0n) {
  const value = Buffer.from(text);
  const entry = { key, version, value, valueBytes: BigInt(value.length) };
  return create(WatchEntriesResponseSchema, { change: Change.SET, entry, caughtUpVersion });
}

function appended(key: string, version: bigint, offset: bigint, text: string, caughtUpVersion = 0n) {
  const value = Buffer.from(text);
  const entry = { key, version, value, valueBytes: offset + BigInt(value.length) };
  return create(WatchEntriesResponseSchema, { change: Change.APPENDED, entry, offset, caughtUpVersion });
}

test("what comes again after a break within one moment is not shown twice, and what changed meanwhile is", () => {
  const shown = new ShownChanges(undefined);
  expect(shown.newsIn(set("a", 1n, "one"))).toMatchObject({ change: Change.SET });
  expect(shown.newsIn(set("b", 2n, "two"))).toMatchObject({ change: Change.SET });
  expect(shown.resumption()).toEqual({});
  expect(shown.newsIn(set("a", 1n, "one")).entry).toBeUndefined();
  expect(shown.newsIn(set("b", 3n, "three", 3n))).toMatchObject({ change: Change.SET, entry: { version: 3n } });
  expect(shown.resumption()).toEqual({ afterVersion: 3n });
});

test("what is not shown again still tells how far the stream has come", () => {
  const shown = new ShownChanges(4n);
  shown.newsIn(set("a", 5n, "one"));
  expect(shown.resumption()).toEqual({ afterVersion: 4n });
  expect(shown.newsIn(set("a", 5n, "one", 5n))).toEqual(create(WatchEntriesResponseSchema, { caughtUpVersion: 5n }));
  expect(shown.resumption()).toEqual({ afterVersion: 5n });
});

test("of what was appended, only the bytes that were not shown are", () => {
  const shown = new ShownChanges(4n);
  shown.newsIn(appended("log", 5n, 10n, "abc"));
  const news = shown.newsIn(appended("log", 7n, 10n, "abcdef", 7n));
  expect(news).toMatchObject({ change: Change.APPENDED, offset: 13n, caughtUpVersion: 7n, entry: { valueBytes: 16n } });
  expect(Buffer.from(news.entry?.value ?? []).toString()).toBe("def");
});
