/** Changes entries: writes of one key that come together are one statement, each with an outcome of its own. */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { type Caller, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import type { Database } from "../database/database.ts";
import { type Again, again, GroupCommit } from "../database/group-commit.ts";
import { digestRequest, requireSameRequest } from "../idempotency/idempotency.ts";
import type { KeyUuid, LeaseUuid } from "../ids/ids.ts";
import type { Wakeups } from "../wakeups/wakeups.ts";
import type { EntryExpiry } from "./entry-expiry.ts";
import type { EntryReads, FoundPad } from "./entry-reads.ts";
import type { SealedValue } from "./entry-seals.ts";
import { isRefusalOfLease } from "./refused-write.ts";
import { findWritten, lockScratchpads, type WrittenRow, writeEntries, writeKinds } from "./write-entries-statement.ts";

/** What writes need. */
export interface EntryWritesOptions {
  readonly database: Database;
  readonly reads: EntryReads;
  readonly expiry: EntryExpiry;
  readonly wakeups: Wakeups;
  /** The key that request digests are made with. */
  readonly digestKey: Uint8Array;
}

/** A call that may be repeated, as its record is kept. */
export interface RepeatableCall {
  readonly requestId: string;
  readonly digests: Buffer;
}

/** A call that a write stands for. */
export interface WriteCall {
  readonly repeatable: RepeatableCall | undefined;
  /** Which of the write's versions is the call's: 1 for the first. */
  readonly step: number;
  /** Where in the write's bytes the call's start. */
  readonly offsetBytes: number;
  /** What else its answer needs, sealed. */
  readonly answer?: Buffer;
}

/** A change of one entry. */
export interface EntryWrite extends PadWrite {
  readonly caller: Caller;
  readonly pad: FoundPad;
}

/** A change of one entry, whoever makes it. */
export interface PadWrite {
  readonly pad: Pick<FoundPad, "owner_id" | "lease_id" | "max_entry_bytes">;
  readonly kind: (typeof writeKinds)[keyof typeof writeKinds];
  readonly key: string;
  readonly expectedVersion: bigint | undefined;
  readonly ttlMicros: bigint | undefined;
  readonly value: SealedValue;
  /** One for each of its versions. */
  readonly calls: readonly WriteCall[];
}

/** What a call with a request_id wrote before. */
export interface WrittenBefore {
  readonly version: bigint;
  readonly answer: Buffer | null;
}

/**
 * Small, so that while one batch is committed the next is sealed: 32 did 1.19 times as many as 128, at 64 callers of
 * one lease.
 */
const maxBatch = 32;
const maxBatchBytes = 4 * 1_048_576;
/** How many batches of one key are under way at once. */
const lanes = 2;

/** A write that is to be done behind its lease's lock. */
interface LateWrite {
  readonly write: EntryWrite;
  /** Whether entries whose time is over are to be removed before. */
  readonly isAfterExpired: boolean;
}

/** Writes entries. */
export class EntryWrites {
  readonly #options: EntryWritesOptions;
  readonly #batches: GroupCommit<EntryWrite, WrittenRow>;
  /** By themselves: what others of a first batch have done is not done again because a second one fails. */
  readonly #lateBatches: GroupCommit<LateWrite, WrittenRow>;

  constructor(options: EntryWritesOptions) {
    this.#options = options;
    this.#batches = new GroupCommit({
      maxBatch,
      maxWeight: maxBatchBytes,
      weigh: (write) => write.value.sealed.length,
      thingOf: entryOf,
      serve: async (_, writes) => (await this.#run(writes)).map(asOutcome),
      isRepeatable,
    });
    this.#lateBatches = new GroupCommit({
      maxBatch,
      maxWeight: maxBatchBytes,
      weigh: ({ write }) => write.value.sealed.length,
      thingOf: ({ write }) => entryOf(write),
      serve: async (_, late) => (await this.#runLate(late)).map(asOutcome),
      isRepeatable: ({ write }) => isRepeatable(write),
    });
  }

  /** Writes, and wakes those who watch. What was not done is told by the row's outcome. */
  async write(write: EntryWrite): Promise<WrittenRow> {
    const { caller, pad } = write;
    const lane = `${caller.ownerId} ${caller.keyId} ${laneOf(pad.lease_id)}`;
    let row = leavesOnlyRecord(write)
      ? await this.#lateBatches.submit(lane, { write, isAfterExpired: false })
      : await this.#batches.submit(lane, write);
    while (row.outcome === "STALE" || row.outcome === "EXPIRED") {
      row = await this.#lateBatches.submit(lane, { write, isAfterExpired: row.outcome === "EXPIRED" });
    }
    if (row.outcome === "DONE") {
      this.#options.wakeups.changed(pad.lease_id);
    }
    return row;
  }

  /** The record of a call that may be repeated. Undefined if it has no request_id. */
  repeatable<Desc extends DescMessage>(
    descriptor: Desc,
    request: MessageShape<Desc> & { readonly requestId: string },
  ): RepeatableCall | undefined {
    if (request.requestId === "") {
      return undefined;
    }
    const digests = digestRequest(this.#options.digestKey, descriptor, request);
    return { requestId: request.requestId.toLowerCase(), digests };
  }

  /**
   * What a call wrote before.
   *
   * @throws LeaseholdError REQUEST_ID_REUSED if it was another call.
   */
  async findBefore<Desc extends DescMessage>(
    descriptor: Desc,
    { caller, pad }: Pick<EntryWrite, "caller" | "pad">,
    scope: number,
    repeatable: RepeatableCall | undefined,
  ): Promise<WrittenBefore | undefined> {
    if (repeatable === undefined) {
      return undefined;
    }
    const values = [caller.ownerId, pad.lease_id, scope, repeatable.requestId];
    const [row] = await this.#options.database.run(findWritten, values);
    if (row !== undefined && row.digests.length > 0) {
      requireSameRequest(descriptor, row.digests, repeatable.digests);
    }
    return row;
  }

  /**
   * Refuses a write for its key or its lease, which comes before all else: what an earlier call was answered is not
   * told to those who may not call, nor after the end. A lease that refuses is read again, to say why.
   *
   * @throws LeaseholdError whatever finding the lease is refused for.
   */
  async requireAllowed({ caller, pad }: EntryWrite, row: WrittenRow): Promise<void> {
    requireAccess(row.access, "write");
    if (isRefusalOfLease(row.outcome)) {
      this.#options.reads.forget(caller, pad.lease_id);
      await this.#options.reads.find(caller, "write", pad.lease_id);
      throw new Error(`a write was refused for ${row.outcome} by a lease that allows it`);
    }
  }

  /** In a transaction that has the locks before the statement begins, which is then never stale. */
  async #runLate(late: readonly LateWrite[]): Promise<WrittenRow[]> {
    const { database, expiry } = this.#options;
    const writes = late.map(({ write }) => write);
    const ownerId = writes[0]?.caller.ownerId;
    for (const pad of padsOf(late.filter(({ isAfterExpired }) => isAfterExpired))) {
      await expiry.expire(pad.owner_id, pad.lease_id);
    }
    return await database.transaction(
      async (transaction) => {
        await transaction.run(lockScratchpads, [ownerId, padsOf(late).map(({ lease_id }) => lease_id)]);
        return await transaction.run(writeEntries, parametersOf(writes, keyIdOf(writes)));
      },
      { repeatable: writes.every(isRepeatable) },
    );
  }

  #run(writes: readonly EntryWrite[]): Promise<WrittenRow[]> {
    return this.#options.database.run(writeEntries, parametersOf(writes, keyIdOf(writes)));
  }
}

/** The parameters of writeEntries, for writes by one key, or by none if the server itself delivers. */
export function parametersOf(writes: readonly PadWrite[], keyId: KeyUuid | null): unknown[] {
  const column = <Value>(of: (write: PadWrite) => Value) => writes.map(of);
  const calls = writes.flatMap((write, index) =>
    write.calls.flatMap(({ repeatable, ...call }) =>
      repeatable === undefined ? [] : [{ ...call, ...repeatable, ordinal: index + 1 }],
    ),
  );
  return [
    writes[0]?.pad.owner_id,
    keyId,
    scopeBits.write,
    column(({ pad }) => pad.lease_id),
    column(({ kind }) => kind),
    column(({ key }) => key),
    column(({ expectedVersion }) => expectedVersion ?? null),
    column(({ ttlMicros }) => ttlMicros ?? null),
    column((write) => write.calls.length),
    column(({ value }) => value.bodyId),
    column(({ value }) => value.bodyBytes),
    column(({ value }) => value.sealed.length),
    column(({ pad }) => pad.max_entry_bytes),
    calls.map(({ ordinal }) => ordinal),
    calls.map(({ requestId }) => requestId),
    calls.map(({ digests }) => digests),
    calls.map(({ step }) => step),
    calls.map(({ offsetBytes }) => offsetBytes),
    calls.map(({ answer }) => answer ?? null),
    Buffer.concat(writes.map(({ value }) => value.sealed)),
  ];
}

function keyIdOf([first]: readonly EntryWrite[]): KeyUuid | null {
  return first?.caller.keyId ?? null;
}

function padsOf(late: readonly LateWrite[]): FoundPad[] {
  return [...new Map(late.map(({ write }) => [write.pad.lease_id, write.pad])).values()];
}

function entryOf({ pad, key }: EntryWrite): string {
  return `${pad.lease_id} ${key}`;
}

function isRepeatable({ calls }: EntryWrite): boolean {
  return calls.every((call) => call.repeatable !== undefined);
}

/** Whether a write may leave a record and no version: only behind the lock is such a record seen for certain. */
function leavesOnlyRecord({ kind, calls }: EntryWrite): boolean {
  return kind === writeKinds.delete && calls.some((call) => call.repeatable !== undefined);
}

function asOutcome(row: WrittenRow): WrittenRow | Again {
  return row.outcome === "AGAIN" ? again : row;
}

/** Writes to different leases meet on no row: while one batch is committed, another is sealed and sent. */
function laneOf(leaseId: LeaseUuid): number {
  return Number.parseInt(leaseId.slice(-2), 16) % lanes;
}
