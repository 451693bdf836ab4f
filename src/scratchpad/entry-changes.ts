/** Sets, deletes and appends to entries for their callers. */
import {
  type AppendToEntryRequest,
  AppendToEntryRequestSchema,
  type DeleteEntryRequest,
  DeleteEntryRequestSchema,
  type SetEntryRequest,
  SetEntryRequestSchema,
} from "#gen/leasehold/v1/scratchpad_pb.js";
import type { Caller } from "../account/caller.ts";
import { GroupCommit } from "../database/group-commit.ts";
import { idempotencyScope } from "../idempotency/idempotency.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import { leaseUuidOf } from "../lease/lease-service.ts";
import { microsOf } from "../proto-values/proto-time.ts";
import type { EntryReads, FoundPad } from "./entry-reads.ts";
import { noValue, sealValue } from "./entry-seals.ts";
import type { EntryWrite, EntryWrites, RepeatableCall } from "./entry-writes.ts";
import { entryTooLarge, isRefusedForAnother, refusedWrite } from "./refused-write.ts";
import { type WrittenRow, writeKinds } from "./write-entries-statement.ts";

/** What changes need. */
export interface EntryChangesOptions {
  readonly reads: EntryReads;
  readonly writes: EntryWrites;
  readonly seals: LeaseSeals;
}

interface Append {
  readonly caller: Caller;
  readonly pad: FoundPad;
  readonly key: string;
  readonly value: Uint8Array;
  readonly ttlMicros: bigint | undefined;
  readonly repeatable: RepeatableCall | undefined;
}

/** What became of an append: the write it was part of, and where its bytes went if that was done. */
interface Appended {
  readonly write: EntryWrite;
  readonly row: WrittenRow;
  readonly version: bigint;
  readonly offset: bigint;
}

/** Appends of this many bytes, and no more, go to one entry together. */
const maxAppendedBytes = 1_048_576;

/** Changes entries. */
export class EntryChanges {
  readonly #options: EntryChangesOptions;
  /** Appends to one entry that come together are one write. */
  readonly #appends: GroupCommit<Append, Appended>;

  constructor(options: EntryChangesOptions) {
    this.#options = options;
    this.#appends = new GroupCommit({
      maxWeight: maxAppendedBytes,
      weigh: (append) => append.value.length,
      thingOf: (append) => append.repeatable?.requestId,
      serve: (_, appends) => this.#append(appends),
      isRepeatable: (append) => append.repeatable !== undefined,
    });
  }

  async set(caller: Caller, request: SetEntryRequest): Promise<{ version: bigint }> {
    const { writes, seals } = this.#options;
    const pad = await this.#padFor(caller, request, request.value.length);
    const repeatable = writes.repeatable(SetEntryRequestSchema, request);
    for (;;) {
      const write: EntryWrite = {
        caller,
        pad,
        kind: writeKinds.set,
        key: request.key,
        expectedVersion: request.expectedVersion,
        ttlMicros: microsOf(request.ttl),
        value: sealValue(seals, await seals.keyOf(pad), pad.lease_id, request.value),
        calls: [{ repeatable, step: 1, offsetBytes: 0 }],
      };
      const row = await writes.write(write);
      if (row.outcome === "DONE") {
        return { version: row.version ?? 0n };
      }
      await writes.requireAllowed(write, row);
      const before = await writes.findBefore(SetEntryRequestSchema, write, idempotencyScope.setEntry, repeatable);
      if (before !== undefined) {
        return { version: before.version };
      }
      if (row.outcome !== "SEEN") {
        throw refusedWrite(row, write);
      }
      // Seen, and forgotten since: its window was over.
    }
  }

  async delete(caller: Caller, request: DeleteEntryRequest): Promise<{ version: bigint }> {
    const { writes } = this.#options;
    const pad = await this.#padFor(caller, request, 0);
    const repeatable = writes.repeatable(DeleteEntryRequestSchema, request);
    for (;;) {
      const write: EntryWrite = {
        caller,
        pad,
        kind: writeKinds.delete,
        key: request.key,
        expectedVersion: request.expectedVersion,
        ttlMicros: undefined,
        value: noValue(),
        calls: [{ repeatable, step: 1, offsetBytes: 0 }],
      };
      const row = await writes.write(write);
      if (row.outcome === "DONE" || row.outcome === "ABSENT") {
        return { version: row.outcome === "DONE" ? (row.version ?? 0n) : 0n };
      }
      await writes.requireAllowed(write, row);
      const before = await writes.findBefore(DeleteEntryRequestSchema, write, idempotencyScope.deleteEntry, repeatable);
      if (before !== undefined) {
        return { version: before.version };
      }
      if (row.outcome !== "SEEN") {
        throw refusedWrite(row, write);
      }
    }
  }

  async append(caller: Caller, request: AppendToEntryRequest): Promise<{ version: bigint; offset: bigint }> {
    const { writes } = this.#options;
    const pad = await this.#padFor(caller, request, request.value.length);
    const { key, value } = request;
    const repeatable = writes.repeatable(AppendToEntryRequestSchema, request);
    const append = { caller, pad, key, value, ttlMicros: microsOf(request.ttl), repeatable };
    for (;;) {
      const { row, write, ...done } = await this.#appendOne(`${pad.lease_id} ${caller.keyId} ${key}`, append);
      if (row.outcome === "DONE") {
        return done;
      }
      await writes.requireAllowed(write, row);
      const scope = idempotencyScope.appendToEntry;
      const before = await writes.findBefore(AppendToEntryRequestSchema, write, scope, repeatable);
      if (before !== undefined) {
        return { version: before.version, offset: before.answer?.readBigInt64BE() ?? 0n };
      }
      if (row.outcome !== "SEEN") {
        throw refusedWrite(row, write);
      }
    }
  }

  /**
   * Together with others, or by itself if together they were refused: of one that does not fit, the others know
   * nothing.
   */
  async #appendOne(lane: string, append: Append): Promise<Appended> {
    const together = await this.#appends.submit(lane, append);
    const [alone] = isRefusedForAnother(together) ? await this.#append([append]) : [];
    return alone ?? together;
  }

  async #append(appends: readonly Append[]): Promise<Appended[]> {
    const [first] = appends;
    if (first === undefined) {
      return [];
    }
    const { seals, writes } = this.#options;
    const { caller, pad, key, ttlMicros } = first;
    const bytes = appends.length === 1 ? first.value : Buffer.concat(appends.map(({ value }) => value));
    let offsetBytes = 0;
    const calls = appends.map(({ repeatable, value }, index) => {
      const call = { repeatable, step: index + 1, offsetBytes };
      offsetBytes += value.length;
      return call;
    });
    const value = sealValue(seals, await seals.keyOf(pad), pad.lease_id, bytes);
    const write = { caller, pad, kind: writeKinds.append, key, expectedVersion: undefined, ttlMicros, value, calls };
    const row = await writes.write(write);
    const firstVersion = (row.version ?? 0n) - BigInt(calls.length);
    return calls.map((call) => ({
      write,
      row,
      version: firstVersion + BigInt(call.step),
      offset: BigInt((row.value_bytes ?? 0) + call.offsetBytes),
    }));
  }

  /**
   * The scratchpad of a request, as it is remembered if that allows the value: a refusal rests on what was read for it.
   *
   * @throws LeaseholdError BODY_TOO_LARGE, or whatever finding the lease is refused for.
   */
  async #padFor(caller: Caller, request: { readonly leaseId: string }, valueBytes: number): Promise<FoundPad> {
    const { reads } = this.#options;
    const leaseId = leaseUuidOf(request.leaseId);
    const remembered = await reads.place(caller, leaseId);
    if (valueBytes <= remembered.max_entry_bytes) {
      return remembered;
    }
    const pad = await reads.find(caller, "write", leaseId);
    throw entryTooLarge(pad.max_entry_bytes, valueBytes);
  }
}
