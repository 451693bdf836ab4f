/** All in one process who receive: a lane for each mailbox, and the one query that finds what lost hints would have told. */
import type { Database } from "../database/database.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import type { WaitedLease, WakeupSource, Wakeups } from "../wakeups/wakeups.ts";
import { buryIn } from "./dead-messages.ts";
import type { DeliveryName } from "./receipt.ts";
import { takeBackMessages } from "./receipt-statements.ts";
import { type Received, ReceiveLane, type Receiver } from "./receive-lane.ts";
import { takeMessages } from "./receive-take.ts";
import { findReceivable } from "./receive-wait-statements.ts";

/** What receiving needs. */
export interface ReceiveDeskOptions {
  readonly database: Database;
  readonly wakeups: Wakeups;
  /** The largest message of an RPC, in bytes. */
  readonly maxMessageBytes: number;
}

/** How far ahead a look sees delays and holds that run out: further than the next look, in milliseconds. */
const lookAheadMs = 2_500;
/** What an answer takes beside its deliveries, in bytes, at most. */
const answerOverheadBytes = 1_024;

/** Receives messages for all calls of a process. */
export class ReceiveDesk {
  readonly #options: ReceiveDeskOptions;
  readonly #lanes = new Map<string, ReceiveLane>();
  readonly #source: WakeupSource = { name: "mailbox", look: (leases) => this.#look(leases) };

  constructor(options: ReceiveDeskOptions) {
    this.#options = options;
  }

  /** Takes what there is for a receiver, or what comes while it waits. See ReceiveLane. */
  async receive(mailbox: WaitedLease, receiver: Receiver): Promise<Received> {
    receiver.signal.throwIfAborted();
    const key = `${mailbox.ownerId} ${mailbox.leaseId}`;
    const lane = this.#lanes.get(key) ?? this.#openLane(key, mailbox);
    return await lane.receive(receiver);
  }

  /**
   * Gives back deliveries that nobody has seen: they can be received again at once, and are not counted. Should that
   * fail, they come again when their hold is over.
   */
  async takeBack(mailbox: WaitedLease, deliveries: readonly DeliveryName[]): Promise<void> {
    if (deliveries.length === 0) {
      return;
    }
    const inOrder = deliveries.toSorted((a, b) => a.sequence - b.sequence);
    try {
      await this.#options.database.run(takeBackMessages, [
        mailbox.ownerId,
        mailbox.leaseId,
        `{${inOrder.map(({ sequence }) => sequence).join(",")}}`,
        `{${inOrder.map(({ holdNumber }) => holdNumber).join(",")}}`,
      ]);
      this.#options.wakeups.changed(mailbox.leaseId);
    } catch {
      // The database is away: whoever called has failed already, and the hold's end does the rest.
    }
  }

  #openLane(key: string, mailbox: WaitedLease): ReceiveLane {
    const { database, wakeups, maxMessageBytes } = this.#options;
    const { ownerId, leaseId } = mailbox;
    const lane: ReceiveLane = new ReceiveLane({
      take: (askers) => takeMessages(database, mailbox, askers, maxMessageBytes - answerOverheadBytes),
      bury: () => buryIn(this.#options, ownerId, leaseId),
      takeBack: (deliveries) => void this.takeBack(mailbox, deliveries),
      changed: () => wakeups.changed(leaseId),
      listen: () => wakeups.wait(this.#source, mailbox, () => lane.wake()),
      wakeLater: (delayMs) => wakeups.wakeLater(leaseId, delayMs),
      onEmpty: () => this.#lanes.delete(key),
    });
    this.#lanes.set(key, lane);
    return lane;
  }

  async #look(leases: readonly WaitedLease[]): Promise<LeaseUuid[]> {
    const rows = await this.#options.database.run(findReceivable, [
      leases.map(({ ownerId }) => ownerId),
      leases.map(({ leaseId }) => leaseId),
      lookAheadMs,
    ]);
    for (const { lease_id, visible_ms } of rows) {
      if (visible_ms > 0) {
        this.#options.wakeups.wakeLater(lease_id, visible_ms);
      }
    }
    return rows.filter(({ visible_ms }) => visible_ms === 0).map(({ lease_id }) => lease_id);
  }
}
