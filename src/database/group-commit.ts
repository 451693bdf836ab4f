/** Group commit: callers who meet on one row are served by one statement, each with its own outcome. */
import { setImmediate as endOfTurn } from "node:timers/promises";
import { asRepeatableSees, isStatementFault } from "./database-failure.ts";

/** What to do with the callers that have gathered. */
export interface GroupCommitOptions<Item, Outcome> {
  /** How many callers one statement serves at most. */
  readonly maxBatch?: number;
  /** How much one statement carries at most, by `weigh`. An item that weighs more goes alone. */
  readonly maxWeight?: number;
  readonly weigh?: (item: Item) => number;
  /** What an item changes, if that can be changed once by a statement: a second one is for the next. */
  readonly thingOf?: (item: Item) => string | undefined;
  /**
   * Serves a batch of one key in the order of arrival, and gives one outcome for each item, or "again" for an item that
   * must be asked again because an earlier one of its batch was refused.
   */
  readonly serve: (key: string, items: readonly Item[]) => Promise<readonly (Outcome | Again)[]>;
  /**
   * Whether the caller can find an item's outcome again, by its request_id: to such a caller an unknown outcome is one
   * that may be asked for again, whoever shared the statement. Never, unless this says so.
   */
  readonly isRepeatable?: (item: Item) => boolean;
}

/** The outcome of an item that could not be judged in its batch. */
export const again = Symbol("again");
export type Again = typeof again;

interface Waiter<Item, Outcome> {
  readonly item: Item;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * While one statement of a key is in flight, whatever arrives for that key is gathered and sent as the next one. A lone
 * caller waits for nobody: there is no timer. Between two batches the event loop takes one turn, so that callers who have
 * just been answered can be in the next: without it batches of one and of many alternate. Keys do not wait for each
 * other, so an owner whose row is locked stalls only its own calls.
 *
 * A statement that fails through its own fault, so that nothing of it was done, is split until the item at fault fails
 * alone. Any other failure is every caller's, and nothing is sent again: what was away would be waited for once an item,
 * and what may have been done would be done twice.
 */
export class GroupCommit<Item, Outcome> {
  readonly #maxBatch: number;
  readonly #maxWeight: number;
  readonly #weigh: (item: Item) => number;
  readonly #thingOf: (item: Item) => string | undefined;
  readonly #serve: GroupCommitOptions<Item, Outcome>["serve"];
  readonly #isRepeatable: (item: Item) => boolean;
  readonly #lanes = new Map<string, Waiter<Item, Outcome>[]>();

  constructor(options: GroupCommitOptions<Item, Outcome>) {
    this.#maxBatch = options.maxBatch ?? 128;
    this.#maxWeight = options.maxWeight ?? Number.POSITIVE_INFINITY;
    this.#weigh = options.weigh ?? (() => 0);
    this.#thingOf = options.thingOf ?? (() => undefined);
    this.#serve = options.serve;
    this.#isRepeatable = options.isRepeatable ?? (() => false);
  }

  submit(key: string, item: Item): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      const waiter = { item, resolve, reject };
      const lane = this.#lanes.get(key);
      if (lane !== undefined) {
        lane.push(waiter);
        return;
      }
      const opened = [waiter];
      this.#lanes.set(key, opened);
      void this.#drain(key, opened);
    });
  }

  async #drain(key: string, lane: Waiter<Item, Outcome>[]): Promise<void> {
    while (lane.length > 0) {
      const batch = this.#takeBatch(lane);
      const unjudged = await this.#serveBatch(key, batch);
      lane.unshift(...unjudged);
      await endOfTurn();
    }
    this.#lanes.delete(key);
  }

  /** Takes those who go together, in order, and leaves the others in theirs. */
  #takeBatch(lane: Waiter<Item, Outcome>[]): Waiter<Item, Outcome>[] {
    const batch: Waiter<Item, Outcome>[] = [];
    const left: Waiter<Item, Outcome>[] = [];
    const things = new Set<string | undefined>();
    let weight = 0;
    for (const waiter of lane) {
      const thing = this.#thingOf(waiter.item);
      weight += this.#weigh(waiter.item);
      const fits = batch.length < this.#maxBatch && (batch.length === 0 || weight <= this.#maxWeight);
      if (fits && (thing === undefined || !things.has(thing))) {
        batch.push(waiter);
        things.add(thing);
      } else {
        left.push(waiter);
      }
    }
    // Not by splice: a lane may be longer than a call may have arguments.
    lane.length = 0;
    for (const waiter of left) {
      lane.push(waiter);
    }
    return batch;
  }

  /** Settles what it can and gives back, in order, the waiters to ask again. At least one is always settled. */
  async #serveBatch(key: string, batch: readonly Waiter<Item, Outcome>[]): Promise<Waiter<Item, Outcome>[]> {
    try {
      const outcomes = await this.#serve(
        key,
        batch.map((waiter) => waiter.item),
      );
      const unjudged: Waiter<Item, Outcome>[] = [];
      batch.forEach((waiter, index) => {
        const outcome = outcomes[index];
        if (outcome === again) {
          unjudged.push(waiter);
        } else {
          waiter.resolve(outcome as Outcome);
        }
      });
      if (unjudged.length === batch.length) {
        throw new Error("a batch of which nothing was judged would never end");
      }
      return unjudged;
    } catch (error) {
      if (batch.length > 1 && isStatementFault(error)) {
        const half = Math.ceil(batch.length / 2);
        const first = await this.#serveBatch(key, batch.slice(0, half));
        const second = await this.#serveBatch(key, batch.slice(half));
        return [...first, ...second];
      }
      for (const waiter of batch) {
        waiter.reject(this.#isRepeatable(waiter.item) ? asRepeatableSees(error) : error);
      }
      return [];
    }
  }
}
