/** Settles deliveries by their receipts: those who meet on one mailbox are served by one statement, each with its own outcomes. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { ReceiptResult_Outcome as Outcome } from "#gen/leasehold/v1/mailbox_pb.js";
import { type Caller, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import type { Database, Statement } from "../database/database.ts";
import { type Again, again, GroupCommit } from "../database/group-commit.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { notFound } from "../errors/leasehold-error.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import { isLeaseRow, requireLive, requireVariant } from "../lease/lease-row.ts";
import type { Wakeups } from "../wakeups/wakeups.ts";
import { type DeliveryName, parseReceipt } from "./receipt.ts";
import { ackMessages, extendMessages, nackMessages, type SettledRow } from "./receipt-statements.ts";
import type { ReceiveWindows } from "./receive-windows.ts";

/** What settling needs. */
export interface SettlementsOptions {
  readonly database: Database;
  readonly wakeups: Wakeups;
  readonly windows: ReceiveWindows;
}

/** One way to settle. */
interface Way {
  readonly statement: Statement<SettledRow>;
  readonly done: Outcome;
  /** Of a receipt that stands in a batch again, behind the one that was settled. */
  readonly repeated: Outcome;
  /** Whether the deliveries are over with it. */
  readonly endsHold: boolean;
}

const ways = {
  ack: { statement: ackMessages, done: Outcome.ACKED, repeated: Outcome.ALREADY_GONE, endsHold: true },
  nack: { statement: nackMessages, done: Outcome.NACKED, repeated: Outcome.STALE, endsHold: true },
  extend: { statement: extendMessages, done: Outcome.EXTENDED, repeated: Outcome.EXTENDED, endsHold: false },
} as const satisfies Record<string, Way>;

/** The deliveries of one call. */
interface Item {
  readonly way: Way;
  readonly caller: Caller;
  readonly leaseId: LeaseUuid;
  /** One for each receipt. Undefined for one that names nothing of the mailbox. */
  readonly names: readonly (DeliveryName | undefined)[];
  /** The delay or the length of the hold. */
  readonly micros: bigint;
}

/** What became of one call's deliveries. */
export interface Settled {
  /** One for each receipt, in order. */
  readonly outcomes: readonly Outcome[];
  /** Until when extended holds last. Null if none was. */
  readonly holdExpireTime: DatabaseTime | null;
}

/** How many deliveries one statement settles, unless a single call has more. */
const settledAtOnce = 2_000;

/** Acknowledges, gives back and extends. Each is safe to repeat: the second time finds nothing to be done. */
export class Settlements {
  readonly #options: SettlementsOptions;
  readonly #batches: GroupCommit<Item, Settled>;

  constructor(options: SettlementsOptions) {
    this.#options = options;
    this.#batches = new GroupCommit({
      maxWeight: settledAtOnce,
      weigh: (item) => item.names.length,
      serve: (_, items) => this.#serve(items),
      isRepeatable: () => true,
    });
  }

  /**
   * Settles the deliveries of one call.
   *
   * @throws LeaseholdError NOT_FOUND, LEASE_ENDED, WRONG_VARIANT, or the refusal of the key.
   */
  async settle(
    by: keyof typeof ways,
    caller: Caller,
    leaseId: LeaseUuid,
    receipts: readonly string[],
    micros: bigint,
  ): Promise<Settled> {
    const names = receipts.map((receipt) => parseReceipt(leaseId, receipt));
    const lane = [by, caller.ownerId, leaseId, caller.keyId, micros].join(" ");
    return await this.#batches.submit(lane, { way: ways[by], caller, leaseId, names, micros });
  }

  /** All of one lane: one way, one key, one mailbox, one delay. */
  async #serve(items: readonly Item[]): Promise<readonly (Settled | Again)[]> {
    const [first] = items;
    if (first === undefined) {
      return [];
    }
    const { way, leaseId } = first;
    const { served, holdNumbers } = gather(items);
    const row = await this.#run(first, holdNumbers);
    requireAccess(row?.access, "write");
    if (row === undefined || !isLeaseRow(row)) {
      throw notFound("lease");
    }
    requireLive(row, row.now);
    requireVariant(row, Lease_Variant.MAILBOX, "messages");
    const results = new BatchResults(way, row, holdNumbers);
    if (way.endsHold) {
      this.#options.windows.settled(leaseId, results.over);
      if (results.hasChanged) {
        this.#options.wakeups.changed(leaseId);
      }
    }
    const holdExpireTime = row.hold_expire_time;
    return items.map((item) =>
      served.has(item) ? { outcomes: item.names.map((name) => results.of(name)), holdExpireTime } : again,
    );
  }

  async #run(first: Item, holdNumbers: ReadonlyMap<number, number>): Promise<SettledRow | undefined> {
    const { way, caller, leaseId, micros } = first;
    const inOrder = [...holdNumbers].sort(([a], [b]) => a - b);
    const values = [
      caller.ownerId,
      caller.keyId,
      scopeBits.write,
      leaseId,
      `{${inOrder.map(([sequence]) => sequence).join(",")}}`,
      `{${inOrder.map(([, holdNumber]) => holdNumber).join(",")}}`,
    ];
    const [row] = await this.#options.database.run(
      way.statement,
      way.statement === ackMessages ? values : [...values, micros],
      { repeatable: true },
    );
    return row;
  }
}

/**
 * One hold for each message: of two that a call names, the later. A call that names another than those before it waits for
 * the next statement, so that each is judged.
 */
function gather(items: readonly Item[]): {
  readonly served: ReadonlySet<Item>;
  readonly holdNumbers: ReadonlyMap<number, number>;
} {
  const served = new Set<Item>();
  const holdNumbers = new Map<number, number>();
  for (const item of items) {
    const own = new Map<number, number>();
    for (const name of item.names) {
      if (name !== undefined) {
        own.set(name.sequence, Math.max(name.holdNumber, own.get(name.sequence) ?? 0));
      }
    }
    if ([...own].every(([sequence, hold]) => (holdNumbers.get(sequence) ?? hold) === hold)) {
      served.add(item);
      for (const [sequence, hold] of own) {
        holdNumbers.set(sequence, hold);
      }
    }
  }
  return { served, holdNumbers };
}

/** Reads a statement's row. Outcomes are to be asked for in order of arrival. */
class BatchResults {
  readonly #way: Way;
  readonly #holdNumbers: ReadonlyMap<number, number>;
  readonly #lastSequence: number;
  readonly #done: ReadonlySet<number>;
  readonly #dead: ReadonlySet<number>;
  readonly #stale: ReadonlySet<number>;
  readonly #told = new Set<number>();

  constructor(
    way: Way,
    row: SettledRow & { readonly content_version: bigint },
    holdNumbers: ReadonlyMap<number, number>,
  ) {
    this.#way = way;
    this.#holdNumbers = holdNumbers;
    this.#lastSequence = Number(row.content_version);
    this.#done = sequencesOf(row.done);
    this.#dead = sequencesOf(row.dead);
    this.#stale = sequencesOf(row.stale);
  }

  get hasChanged(): boolean {
    return this.#done.size + this.#dead.size > 0;
  }

  /** The deliveries that are over, by this statement or before it. */
  get over(): DeliveryName[] {
    return [...this.#holdNumbers].map(([sequence, holdNumber]) => ({ sequence, holdNumber }));
  }

  of(name: DeliveryName | undefined): Outcome {
    if (name === undefined || name.sequence > this.#lastSequence) {
      return Outcome.UNKNOWN;
    }
    const { sequence } = name;
    const isSettled = this.#done.has(sequence) || this.#dead.has(sequence);
    if (!isSettled) {
      return this.#stale.has(sequence) ? Outcome.STALE : Outcome.ALREADY_GONE;
    }
    if (this.#holdNumbers.get(sequence) !== name.holdNumber) {
      return Outcome.STALE;
    }
    if (this.#told.has(sequence)) {
      return this.#way.repeated;
    }
    this.#told.add(sequence);
    return this.#dead.has(sequence) ? Outcome.DEAD : this.#way.done;
  }
}

/** The numbers of a Postgres array in text form. */
function sequencesOf(array: string | null): ReadonlySet<number> {
  return new Set(array === null ? [] : array.slice(1, -1).split(",").map(Number));
}
