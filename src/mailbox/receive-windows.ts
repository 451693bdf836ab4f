/** The windows of all streams of a process: tells each which of its deliveries were settled, here or by another server. */
import { setTimeout as pause } from "node:timers/promises";
import type { Database } from "../database/database.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import type { WaitedLease, WakeupSource, Wakeups } from "../wakeups/wakeups.ts";
import type { DeliveryName } from "./receipt.ts";
import { findHeld } from "./receive-wait-statements.ts";
import { type HeldDelivery, ReceiveWindow, type WindowKeeper } from "./receive-window.ts";

/** How many deliveries are asked for in one statement. */
const askedAtOnce = 2_000;
/** How long after a statement the next is sent at the earliest, in milliseconds: hints of a busy mailbox come faster. */
const gapMs = 50;

/**
 * What is settled in this process is told at once. A full window learns of the rest when its mailbox is said to have
 * changed, or when a hold is over: one statement at a time asks for all windows of the process that have a reason to.
 */
export class ReceiveWindows implements WindowKeeper {
  readonly #database: Database;
  readonly #wakeups: Wakeups;
  readonly #source: WakeupSource = { name: "mailbox-windows", look: () => this.#look() };
  /** Who holds which message, by mailbox. */
  readonly #held = new Map<LeaseUuid, Map<number, HeldDelivery>>();
  /** With the way to stop listening for each. */
  readonly #full = new Map<ReceiveWindow, () => void>();
  readonly #doubted = new Set<ReceiveWindow>();
  #isAsking = false;

  constructor(database: Database, wakeups: Wakeups) {
    this.#database = database;
    this.#wakeups = wakeups;
  }

  open(mailbox: WaitedLease, size: number): ReceiveWindow {
    return new ReceiveWindow(mailbox, size, this);
  }

  /** Deliveries were settled by a call of this process. */
  settled(leaseId: LeaseUuid, deliveries: readonly DeliveryName[]): void {
    const held = this.#held.get(leaseId);
    if (held !== undefined) {
      for (const delivery of deliveries) {
        held.get(delivery.sequence)?.window.remove(delivery);
      }
    }
  }

  /** A message that is delivered again has left the window that it was in. */
  added(held: HeldDelivery): void {
    const { leaseId } = held.window.mailbox;
    const ofMailbox = this.#held.get(leaseId) ?? new Map<number, HeldDelivery>();
    this.#held.set(leaseId, ofMailbox);
    const before = ofMailbox.get(held.sequence);
    ofMailbox.set(held.sequence, held);
    if (before !== undefined && before.window !== held.window) {
      before.window.remove(before);
    }
  }

  removed(held: HeldDelivery): void {
    const { leaseId } = held.window.mailbox;
    const ofMailbox = this.#held.get(leaseId);
    if (ofMailbox?.get(held.sequence) === held) {
      ofMailbox.delete(held.sequence);
      if (ofMailbox.size === 0) {
        this.#held.delete(leaseId);
      }
    }
  }

  /** Nobody listened to what was settled elsewhere before it was full: that is asked for at once. */
  filled(window: ReceiveWindow): void {
    const stop = this.#wakeups.wait(this.#source, window.mailbox, () => this.doubted(window));
    this.#full.set(window, stop);
    this.doubted(window);
  }

  opened(window: ReceiveWindow): void {
    this.#full.get(window)?.();
    this.#full.delete(window);
    this.#doubted.delete(window);
  }

  doubted(window: ReceiveWindow): void {
    this.#doubted.add(window);
    if (!this.#isAsking) {
      void this.#askAll();
    }
  }

  async #askAll(): Promise<void> {
    this.#isAsking = true;
    try {
      while (this.#doubted.size > 0) {
        await this.#ask(this.#nextWindows());
        await pause(gapMs);
      }
    } catch {
      // The database is away. The next look asks for every full window.
      this.#doubted.clear();
    } finally {
      this.#isAsking = false;
    }
  }

  #nextWindows(): ReceiveWindow[] {
    const windows: ReceiveWindow[] = [];
    let deliveries = 0;
    for (const window of this.#doubted) {
      deliveries += window.held.length;
      if (windows.length > 0 && deliveries > askedAtOnce) {
        break;
      }
      windows.push(window);
    }
    return windows;
  }

  async #ask(windows: readonly ReceiveWindow[]): Promise<void> {
    for (const window of windows) {
      this.#doubted.delete(window);
    }
    const asked = windows.flatMap((window) => window.held);
    const rows = await this.#database.run(findHeld, [
      asked.map(({ window }) => window.mailbox.ownerId),
      asked.map(({ window }) => window.mailbox.leaseId),
      `{${asked.map(({ sequence }) => sequence).join(",")}}`,
      `{${asked.map(({ holdNumber }) => holdNumber).join(",")}}`,
    ]);
    const remaining = new Map(rows.map((row) => [row.place - 1, row.remaining_ms]));
    asked.forEach((held, place) => {
      const ms = remaining.get(place);
      if (ms === undefined) {
        held.window.remove(held);
      } else {
        held.window.confirm(held, ms);
      }
    });
    for (const window of windows) {
      window.watchNext();
    }
  }

  /** Asks for all full windows itself: none of them needs to be woken for it. */
  async #look(): Promise<LeaseUuid[]> {
    for (const window of this.#full.keys()) {
      this.doubted(window);
    }
    return [];
  }
}
