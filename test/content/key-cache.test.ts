import { afterEach, describe, expect, test, vi } from "vitest";
import { KeyCache } from "../../src/content/key-cache.ts";

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

function keyOf(byte: number): { key: Buffer } {
  return { key: Buffer.alloc(32, byte) };
}

describe("key cache", () => {
  test("a key is neither returned nor held once its age is over, though it was used all the time", () => {
    vi.useFakeTimers({ toFake: ["performance", "setInterval", "clearInterval"] });
    const cache = new KeyCache<string, { key: Buffer }>({ maxEntries: 10, maxAgeMs: 60_000 });
    cache.put("lease", keyOf(1));
    for (let second = 1; second < 50; second += 1) {
      vi.advanceTimersByTime(1000);
      expect(cache.get("lease")?.key).toEqual(Buffer.alloc(32, 1));
    }
    vi.advanceTimersByTime(11_000);
    expect(cache.size).toBe(0);
    expect(cache.get("lease")).toBeUndefined();
    expect(vi.getTimerCount()).toBe(0);
  });

  test("past its size it drops the key that was used longest ago", () => {
    const cache = new KeyCache<number, { key: Buffer }>({ maxEntries: 3, maxAgeMs: 60_000 });
    for (const id of [1, 2, 3]) {
      cache.put(id, keyOf(id));
    }
    cache.get(1);
    cache.put(4, keyOf(4));
    expect([1, 2, 3, 4].filter((id) => cache.get(id) !== undefined)).toEqual([1, 3, 4]);
    cache.clear();
  });

  test.each<[string, (cache: KeyCache<string, { key: Buffer }>) => void]>([
    ["forgotten", (cache) => cache.forget("lease")],
    ["replaced", (cache) => cache.put("lease", keyOf(2))],
    ["pushed out", (cache) => cache.put("other", keyOf(2))],
    ["cleared", (cache) => cache.clear()],
  ])("a key that is %s is overwritten in memory, and the copies that were handed out are not", (_how, drop) => {
    const allocate = vi.spyOn(Buffer, "allocUnsafeSlow");
    const cache = new KeyCache<string, { key: Buffer }>({ maxEntries: 1, maxAgeMs: 60_000 });
    const given = keyOf(1);
    cache.put("lease", given);
    const held = allocate.mock.results[0]?.value;
    const handedOut = cache.get("lease");
    expect(held).toEqual(Buffer.alloc(32, 1));
    drop(cache);
    expect(held).toEqual(Buffer.alloc(32));
    expect(handedOut?.key).toEqual(Buffer.alloc(32, 1));
    expect(given.key).toEqual(Buffer.alloc(32, 1));
    cache.clear();
  });
});
