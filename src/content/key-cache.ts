/** A bounded cache of secret keys that forgets each of them after a set time. */

/**
 * Keys are copied on the way in and out. So nobody holds the buffer that is overwritten with zeros when an entry is
 * dropped, and a stream that outlives the entry goes on with the key it was given.
 *
 * No entry is returned, or left in memory, for longer than `maxAgeMs`. Past `maxEntries` the least recently used goes.
 */
export class KeyCache<Id, Value extends { readonly key: Buffer }> {
  readonly #entries = new Map<Id, Entry<Value>>();
  readonly #maxEntries: number;
  readonly #sweepIntervalMs: number;
  readonly #usableMs: number;
  #sweepTimer: NodeJS.Timeout | undefined;

  constructor(options: { readonly maxEntries: number; readonly maxAgeMs: number }) {
    this.#maxEntries = options.maxEntries;
    this.#sweepIntervalMs = options.maxAgeMs / 12;
    this.#usableMs = options.maxAgeMs - this.#sweepIntervalMs;
  }

  get(id: Id): Value | undefined {
    const entry = this.#entries.get(id);
    if (entry === undefined) {
      return undefined;
    }
    if (this.#isOver(entry)) {
      this.forget(id);
      return undefined;
    }
    this.#entries.delete(id);
    this.#entries.set(id, entry);
    return withCopiedKey(entry.value);
  }

  put(id: Id, value: Value): void {
    this.forget(id);
    this.#entries.set(id, { value: withCopiedKey(value), putMs: performance.now() });
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#maxEntries) {
        break;
      }
      this.forget(oldest);
    }
    this.#sweepTimer ??= setInterval(() => this.#sweep(), this.#sweepIntervalMs).unref();
  }

  /** Overwrites the key and drops the entry; does nothing where there is none. */
  forget(id: Id): void {
    const entry = this.#entries.get(id);
    if (entry !== undefined) {
      entry.value.key.fill(0);
      this.#entries.delete(id);
    }
  }

  clear(): void {
    for (const id of this.#entries.keys()) {
      this.forget(id);
    }
    clearInterval(this.#sweepTimer);
    this.#sweepTimer = undefined;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** One timer over all entries: 10,000 entries take about 0.1 ms every five seconds; a timer each would cost more. */
  #sweep(): void {
    for (const [id, entry] of this.#entries) {
      if (this.#isOver(entry)) {
        this.forget(id);
      }
    }
    if (this.#entries.size === 0) {
      this.clear();
    }
  }

  #isOver(entry: Entry<Value>): boolean {
    return performance.now() - entry.putMs >= this.#usableMs;
  }
}

interface Entry<Value> {
  readonly value: Value;
  readonly putMs: number;
}

/** Memory of its own, never a slice of Node's shared pool, so that a key lies beside no bytes that are sent. */
export function withCopiedKey<Value extends { readonly key: Buffer }>(value: Value): Value {
  const key = Buffer.allocUnsafeSlow(value.key.length);
  value.key.copy(key);
  return { ...value, key };
}
