/**
 * Increments counters: those of one entry that come together are one write, each with a version and a value of its own.
 */
import { LRUCache } from "lru-cache";
import { type IncrementEntryRequest, IncrementEntryRequestSchema } from "#gen/leasehold/v1/scratchpad_pb.js";
import type { Caller } from "../account/caller.ts";
import { GroupCommit } from "../database/group-commit.ts";
import { LeaseholdError, outOfBounds } from "../errors/leasehold-error.ts";
import { idempotencyScope } from "../idempotency/idempotency.ts";
import { leaseUuidOf } from "../lease/lease-service.ts";
import { microsOf } from "../proto-values/proto-time.ts";
import type { EntryChangesOptions } from "./entry-changes.ts";
import type { FoundPad } from "./entry-reads.ts";
import { openAnswer, sealAnswer, sealValue } from "./entry-seals.ts";
import type { EntryWrite, RepeatableCall, WriteCall } from "./entry-writes.ts";
import { isRefusedForAnother, refusedWrite } from "./refused-write.ts";
import { type WrittenRow, writeKinds } from "./write-entries-statement.ts";

interface Increment {
  readonly caller: Caller;
  readonly pad: FoundPad;
  readonly key: string;
  readonly delta: bigint;
  readonly ttlMicros: bigint | undefined;
  readonly repeatable: RepeatableCall | undefined;
}

/** A counter as it was last seen. Version 0: it is not there. */
interface Counter {
  readonly version: bigint;
  readonly value: bigint;
}

/** A counter after an increment; or the write that was not done, or an error. */
type Incremented = Counter | { readonly write: EntryWrite; readonly row: WrittenRow } | LeaseholdError;

const smallest = -(2n ** 63n);
const largest = 2n ** 63n - 1n;
const rememberedCounters = 10_000;
/** How often a counter is read anew because others changed it, each time one of them, before that is a fault. */
const maxTries = 1_000;

/**
 * A value is sealed, so Postgres cannot add to it: the process adds to the value it knows, and the write is for the
 * version that had it. What it knows of a counter is what it last wrote, and is read anew when that was not the last.
 * Nobody is refused for what it knows: it may be long over, and nobody's to know.
 */
export class EntryCounters {
  readonly #options: EntryChangesOptions;
  readonly #together: GroupCommit<Increment, Incremented>;
  /** One after the other: at once, each would push the others back. */
  readonly #alone: GroupCommit<Increment, Incremented>;
  readonly #known = new LRUCache<string, Counter>({ max: rememberedCounters });

  constructor(options: EntryChangesOptions) {
    this.#options = options;
    const serve = (_: string, increments: readonly Increment[]) => this.#add(increments);
    const isRepeatable = (increment: Increment) => increment.repeatable !== undefined;
    this.#together = new GroupCommit({
      thingOf: (increment) => increment.repeatable?.requestId,
      serve,
      isRepeatable,
    });
    this.#alone = new GroupCommit({ maxBatch: 1, serve, isRepeatable });
  }

  async increment(caller: Caller, request: IncrementEntryRequest): Promise<Counter> {
    const { reads, writes } = this.#options;
    const pad = await reads.place(caller, leaseUuidOf(request.leaseId));
    const repeatable = writes.repeatable(IncrementEntryRequestSchema, request);
    const { key, delta = 1n } = request;
    const increment = { caller, pad, key, delta, ttlMicros: microsOf(request.ttl), repeatable };
    for (;;) {
      const outcome = await this.#incrementOne(`${pad.lease_id} ${caller.keyId} ${key}`, increment);
      if ("value" in outcome) {
        return outcome;
      }
      if (!(outcome instanceof LeaseholdError)) {
        await writes.requireAllowed(outcome.write, outcome.row);
      }
      const before = await this.#findBefore(increment);
      if (before !== undefined) {
        return before;
      }
      if (outcome instanceof LeaseholdError) {
        throw outcome;
      }
      if (outcome.row.outcome !== "SEEN") {
        throw refusedWrite(outcome.row, outcome.write);
      }
    }
  }

  async #findBefore({ caller, pad, repeatable }: Increment): Promise<Counter | undefined> {
    const { seals, writes } = this.#options;
    const scope = idempotencyScope.incrementEntry;
    const before = await writes.findBefore(IncrementEntryRequestSchema, { caller, pad }, scope, repeatable);
    if (before === undefined || before.answer === null || repeatable === undefined) {
      return undefined;
    }
    const key = await seals.keyOf(pad);
    const value = openAnswer(seals, key, pad.lease_id, repeatable.requestId, before.answer);
    return { version: before.version, value };
  }

  /** Together with others, or by itself if together they were refused. */
  async #incrementOne(lane: string, increment: Increment): Promise<Incremented> {
    const together = await this.#together.submit(lane, increment);
    const isRefused = "row" in together && isRefusedForAnother(together);
    return isRefused ? await this.#alone.submit(lane, increment) : together;
  }

  async #add(increments: readonly Increment[]): Promise<Incremented[]> {
    const [first] = increments;
    if (first === undefined) {
      return [];
    }
    const id = `${first.pad.lease_id} ${first.key}`;
    for (let tries = 0; tries < maxTries; tries++) {
      const known = this.#known.get(id);
      const counter = known ?? (await this.#look(first));
      if (counter === undefined) {
        return increments.map(() => notACounter());
      }
      const sums = addAll(counter.value, increments);
      const added = increments.filter((_, index) => typeof sums[index] === "bigint");
      const last = sums.findLast((sum) => typeof sum === "bigint");
      if (typeof last !== "bigint") {
        if (known === undefined) {
          return sums.filter((sum) => typeof sum !== "bigint");
        }
        this.#known.delete(id);
        continue;
      }
      const write = await this.#writeOf(
        added,
        counter,
        sums.filter((sum) => typeof sum === "bigint"),
      );
      const row = await this.#options.writes.write(write);
      if (row.outcome === "DONE" && row.version !== null) {
        this.#known.set(id, { version: row.version, value: last });
        let version = row.version - BigInt(added.length);
        return sums.map((sum) => {
          if (typeof sum !== "bigint") {
            return sum;
          }
          version += 1n;
          return { version, value: sum };
        });
      }
      this.#known.delete(id);
      if (row.outcome !== "MISMATCH") {
        return increments.map(() => ({ write, row }));
      }
    }
    throw new Error(`a counter was changed by others ${maxTries} times while it was incremented`);
  }

  /** The counter as it is. Undefined if the entry is none. */
  async #look({ caller, pad, key }: Increment): Promise<Counter | undefined> {
    const entry = await this.#options.reads.look(caller, pad.lease_id, key);
    if (entry === undefined) {
      return { version: 0n, value: 0n };
    }
    const value = parseCounter(entry.value);
    return value === undefined ? undefined : { version: entry.version, value };
  }

  async #writeOf(increments: readonly Increment[], counter: Counter, sums: readonly bigint[]): Promise<EntryWrite> {
    const { seals } = this.#options;
    const { caller, pad, key, ttlMicros } = increments[0] as Increment;
    const leaseKey = await seals.keyOf(pad);
    const calls = increments.map(({ repeatable }, index): WriteCall => {
      const call = { repeatable, step: index + 1, offsetBytes: 0 };
      return repeatable === undefined
        ? call
        : { ...call, answer: sealAnswer(seals, leaseKey, pad.lease_id, repeatable.requestId, sums[index] ?? 0n) };
    });
    return {
      caller,
      pad,
      kind: writeKinds.count,
      key,
      expectedVersion: counter.version,
      ttlMicros,
      value: sealValue(seals, leaseKey, pad.lease_id, Buffer.from(`${sums.at(-1)}`)),
      calls,
    };
  }
}

/** The sums in order; an error in place of one that would leave the range, which the next ones know nothing of. */
function addAll(start: bigint, increments: readonly Increment[]): (bigint | LeaseholdError)[] {
  let value = start;
  return increments.map(({ delta }) => {
    const sum = value + delta;
    if (sum < smallest || sum > largest) {
      return outOfBounds("delta", delta, smallest - value, largest - value);
    }
    value = sum;
    return sum;
  });
}

/** A counter's value: a decimal integer of 64 bits, as `String` writes it. Undefined if the bytes are none. */
function parseCounter(value: Buffer): bigint | undefined {
  const text = value.length > 20 ? "" : value.toString("latin1");
  if (!/^(0|-?[1-9][0-9]{0,18})$/.test(text)) {
    return undefined;
  }
  const parsed = BigInt(text);
  return parsed < smallest || parsed > largest ? undefined : parsed;
}

function notACounter(): LeaseholdError {
  return new LeaseholdError("NOT_A_COUNTER", "The entry's value is not a decimal 64-bit integer: set it to one first.");
}
