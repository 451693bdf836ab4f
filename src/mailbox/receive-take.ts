/** Takes messages of one mailbox for all who ask, in one statement, and deals them out. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { accessRefusal, type Caller } from "../account/caller.ts";
import type { Access } from "../account/caller-statements.ts";
import { scopeBits } from "../account/scopes.ts";
import type { Database } from "../database/database.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { LeaseholdError, notFound } from "../errors/leasehold-error.ts";
import { isLeaseRow, type LeaseRow, type MaybeLeaseRow, requireLive, requireVariant } from "../lease/lease-row.ts";
import type { WaitedLease } from "../wakeups/wakeups.ts";
import { type PackedDelivery, unpackDeliveries } from "./delivery-packing.ts";
import { receiveMessages } from "./receive-statement.ts";

/** Somebody who asks for messages. */
export interface Asker {
  readonly caller: Caller;
  readonly holdMicros: bigint;
  /** How many it takes at most. */
  readonly wanted: number;
}

/** A mailbox as the statement found it. */
export interface FoundMailbox {
  readonly lease: LeaseRow;
  readonly now: DatabaseTime;
  /** When the statement was sent, as `performance.now()` tells it. */
  readonly askedAtMs: number;
}

/** What one asker gets: deliveries, perhaps none, or why not. */
export type Share =
  | {
      readonly mailbox: FoundMailbox;
      readonly deliveries: readonly PackedDelivery[];
      /** Whether there may be some for it although it has none: the statement took no more. */
      readonly isPassedOver: boolean;
    }
  | { readonly refusal: LeaseholdError };

/** What a statement took. */
export interface Taken {
  /** One for each asker, in order. */
  readonly shares: readonly Share[];
  /** Whether there may be more to be taken. */
  readonly mayHaveMore: boolean;
  /** Whether it kept messages from others, that it did not take after all. */
  readonly hasLeft: boolean;
  readonly hasExhausted: boolean;
  /** How long until a delay or a hold is over, in milliseconds. Undefined if there is none. */
  readonly nextVisibleMs: number | undefined;
}

/** How many messages one statement takes. */
const mostAtOnce = 1_000;

/**
 * Takes messages for askers in order of arrival, of at most maxBytes together, and of at least one message.
 *
 * An answer that is lost leaves messages held that nobody knows of. They come again when the hold is over, so that asking
 * again is always safe.
 */
export async function takeMessages(
  database: Database,
  { ownerId, leaseId }: WaitedLease,
  askers: readonly Asker[],
  maxBytes: number,
): Promise<Taken> {
  const keys = [...new Set(askers.map(({ caller }) => caller.keyId))];
  const askedAtMs = performance.now();
  const values = [
    ownerId,
    leaseId,
    `{${keys.join(",")}}`,
    `{${askers.map(({ caller }) => keys.indexOf(caller.keyId) + 1).join(",")}}`,
    `{${askers.map(({ wanted }) => wanted).join(",")}}`,
    `{${askers.map(({ holdMicros }) => holdMicros).join(",")}}`,
    scopeBits.write,
    mostAtOnce,
    maxBytes,
  ];
  const [row] = await database.run(receiveMessages, values, { repeatable: true });
  if (row === undefined) {
    throw new Error("receive-messages gave no row");
  }
  const deliveries = row.deliveries === null ? [] : unpackDeliveries(row.deliveries);
  const accesses = row.accesses.split(",") as Access[];
  const hasLeft = row.taken_messages < row.locked_messages;
  const shareOf = dealer(row, askedAtMs, deliveries, hasLeft || row.locked_messages >= mostAtOnce);
  const shares = askers.map((asker) => shareOf(asker, accesses[keys.indexOf(asker.caller.keyId)]));
  const served = askers.filter((_, index) => !isRefusal(shares[index]));
  const wanted = served.reduce((sum, asker) => sum + asker.wanted, 0);
  return {
    shares,
    mayHaveMore: hasLeft || row.locked_messages >= Math.min(wanted, mostAtOnce),
    hasLeft,
    hasExhausted: row.has_exhausted,
    nextVisibleMs: earliestMs(row.next_visible_ms, deliveries, row.now),
  };
}

function isRefusal(share: Share | undefined): boolean {
  return share === undefined || "refusal" in share;
}

/**
 * Deals in the order of the statement: to each allowed asker, as many as it wants, as long as there are some. `isBounded`:
 * the statement may have left some, by its own bounds.
 */
function dealer(
  row: MaybeLeaseRow & { readonly now: DatabaseTime },
  askedAtMs: number,
  deliveries: readonly PackedDelivery[],
  isBounded: boolean,
): (asker: Asker, access: Access | undefined) => Share {
  const found = judge(row, askedAtMs);
  let dealt = 0;
  return (asker, access) => {
    if (access !== "OK") {
      return { refusal: accessRefusal(access, "write") };
    }
    if (found instanceof LeaseholdError) {
      return { refusal: found };
    }
    const share = deliveries.slice(dealt, dealt + asker.wanted);
    dealt += asker.wanted;
    return { mailbox: found, deliveries: share, isPassedOver: isBounded && share.length === 0 };
  };
}

function judge(row: MaybeLeaseRow & { readonly now: DatabaseTime }, askedAtMs: number): FoundMailbox | LeaseholdError {
  try {
    if (!isLeaseRow(row)) {
      throw notFound("lease");
    }
    requireLive(row, row.now);
    requireVariant(row, Lease_Variant.MAILBOX, "messages");
    return { lease: row, now: row.now, askedAtMs };
  } catch (error) {
    if (error instanceof LeaseholdError) {
      return error;
    }
    throw error;
  }
}

/** The earliest end of those that were waiting before and of the holds that have just begun. */
function earliestMs(
  nextMs: bigint | null,
  deliveries: readonly PackedDelivery[],
  now: DatabaseTime,
): number | undefined {
  let earliest = nextMs === null ? Number.POSITIVE_INFINITY : Number(nextMs);
  for (const { holdExpireTime } of deliveries) {
    earliest = Math.min(earliest, Math.ceil(Number(holdExpireTime - now) / 1000));
  }
  return earliest === Number.POSITIVE_INFINITY ? undefined : earliest;
}
