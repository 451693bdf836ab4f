/** Design 3: a stream ends at its lease's time by a timer of its own, and nothing is asked while there is no stream. */
import { pino } from "pino";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Lease_EndReason } from "#gen/leasehold/v1/lease_pb.js";
import type { Database } from "../../src/database/database.ts";
import type { DatabaseTime } from "../../src/database/row-types.ts";
import type { LeaseRow } from "../../src/lease/lease-row.ts";
import { LeaseWatch } from "../../src/lease/lease-watch.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

const now = 1_000_000_000_000_000n as DatabaseTime;

function watched(dueInMs: number) {
  const row: Partial<LeaseRow> = {
    due_time: (now + BigInt(dueInMs) * 1_000n) as DatabaseTime,
    due_reason: Lease_EndReason.DURATION_ELAPSED,
  };
  return { lease: row as LeaseRow, now, cut: vi.fn() };
}

/** A database that is away: what a watch asks is counted, and never answered. */
function awayDatabase() {
  const run = vi.fn(() => new Promise(() => undefined));
  const database: Pick<Database, "run"> = { run: run as Database["run"] };
  return { run, watch: new LeaseWatch(database as Database, pino({ level: "silent" })) };
}

test("a stream is cut when its time is over, and not before, while the database is away", () => {
  const { watch } = awayDatabase();
  const stream = watched(3_600_000);
  watch.watch(stream);
  vi.advanceTimersByTime(3_600_000 - 1);
  expect(stream.cut).not.toHaveBeenCalled();
  vi.advanceTimersByTime(1);
  expect(stream.cut).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ reason: "LEASE_ENDED" }));
});

test("a lease whose time was over when it was read cuts its stream at once", () => {
  const { watch } = awayDatabase();
  const stream = watched(-5);
  watch.watch(stream);
  vi.advanceTimersByTime(1);
  expect(stream.cut).toHaveBeenCalledTimes(1);
});

test("one question serves all streams, within five seconds, and none is asked before it is answered, or once they have ended", () => {
  const { run, watch } = awayDatabase();
  vi.advanceTimersByTime(60_000);
  expect(run).not.toHaveBeenCalled();
  const stops = [watched(3_600_000), watched(3_600_000), watched(3_600_000)].map((stream) => watch.watch(stream));
  vi.advanceTimersByTime(4_999);
  expect(run).toHaveBeenCalledTimes(1);
  vi.advanceTimersByTime(60_000);
  expect(run).toHaveBeenCalledTimes(1);
  for (const stop of stops) {
    stop();
  }
  vi.advanceTimersByTime(60_000);
  expect(run).toHaveBeenCalledTimes(1);
});

test("a stream that has ended is not cut", () => {
  const { watch } = awayDatabase();
  const stream = watched(1_000);
  watch.watch(stream)();
  vi.advanceTimersByTime(10_000);
  expect(stream.cut).not.toHaveBeenCalled();
});
