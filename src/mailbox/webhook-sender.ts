/** The loop that sends webhook notifications, beside the sweeper and in no one's way. */
import { setTimeout as delay } from "node:timers/promises";
import { LRUCache } from "lru-cache";
import type { Logger } from "pino";
import type { ServerKeys } from "../content/server-keys.ts";
import type { Database, Statement } from "../database/database.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { formatId, type LeaseUuid } from "../ids/ids.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import { attemptSeconds, stopGraceMs } from "../webhooks/attempt-times.ts";
import { type AttemptOutcome, describeStatus, goneStatus, WebhookPost } from "../webhooks/webhook-post.ts";
import { webhookSecret } from "../webhooks/webhook-secret.ts";
import { unpackMailbox } from "./mailbox-details.ts";
import { makeNotification } from "./webhook-notification.ts";
import { retryDelaySeconds } from "./webhook-schedule.ts";
import {
  type DueRow,
  forgetWebhookDeliveries,
  giveUpWebhookDeliveries,
  isDueRow,
  recordWebhookAttempt,
  switchWebhookOff,
  takeWebhookDeliveries,
} from "./webhook-statements.ts";

/** What the sender needs. */
export interface WebhookSenderOptions {
  readonly database: Pick<Database, "run">;
  readonly seals: LeaseSeals;
  readonly serverKeys: ServerKeys;
  readonly logger: Logger;
  /** Whether receivers in private networks and on this host may be reached. */
  readonly allowPrivate: boolean;
}

/** How many notifications are being sent at once. */
const mostSending = 200;
/** How many of one mailbox. A receiver that never answers takes so many of the places, and leaves the others. */
const mostOfMailbox = 4;
/** How many of a mailbox whose last attempt failed: a receiver that is down is not pressed, and takes one place. */
const mostOfFailing = 1;
/** How many failing mailboxes are remembered. Another is merely tried with more at once. */
const rememberedFailing = 1_000;
/** How many mailboxes one statement visits. */
const mostVisits = 200;
/**
 * How often an idle sender looks, in milliseconds: the longest wait before a drop is announced. A look that finds nothing
 * is one step in an index, so nothing else has to wake the sender.
 */
const lookIntervalMs = 1_000;
/** How long the sender waits after a failure of the database, in milliseconds. */
const failedDelayMs = 2_000;
const forgetIntervalMs = 60_000;
const rowBatch = 5_000;

const firstLease = "00000000-0000-0000-0000-000000000000" as LeaseUuid;

type FoundRow = DueRow & {
  readonly now: DatabaseTime;
  /** When the statement was sent, as `performance.now()` tells it. */
  readonly askedAtMs: number;
};
type TakenRow = FoundRow & { readonly attempt_count: number };

/** Sends what is due, each notification at least once. Many senders may run beside each other, with no leader. */
export class WebhookSender {
  readonly #options: WebhookSenderOptions;
  readonly #post: WebhookPost;
  readonly #stopping = new AbortController();
  readonly #cutting = new AbortController();
  readonly #underWay = new Set<Promise<void>>();
  readonly #underWayOf = new Map<LeaseUuid, number>();
  readonly #failing = new LRUCache<LeaseUuid, true>({ max: rememberedFailing });
  /** Resolves when a place is free that was not when the round began. */
  #freed = Promise.withResolvers<void>();
  /** The mailbox that the next look begins behind. */
  #after = firstLease;

  constructor(options: WebhookSenderOptions) {
    this.#options = options;
    this.#post = new WebhookPost(options.allowPrivate);
  }

  /** Runs until `stop`. Resolves when no attempt is under way. */
  async run(): Promise<void> {
    const forgetting = this.#forgetOften();
    while (!this.#stopping.signal.aborted) {
      try {
        await this.#sendRound();
        await this.#wait(lookIntervalMs, this.#freed.promise);
      } catch (error) {
        this.#options.logger.error({ err: error }, "webhooks could not be sent, and are tried again");
        await this.#wait(failedDelayMs);
      }
    }
    await Promise.all([forgetting, ...this.#underWay]);
  }

  /** Sends until nothing is due. Gives how many attempts that took. */
  async sendDue(): Promise<number> {
    let attempts = 0;
    for (;;) {
      // What was under way when a round began took places that the round did not have, also if it has ended since.
      const hadEveryPlace = this.#underWay.size === 0;
      const begun = await this.#sendRound();
      attempts += begun;
      if (this.#underWay.size > 0) {
        await this.#freed.promise;
      } else if (begun === 0 && hadEveryPlace) {
        break;
      }
    }
    await this.#forget();
    return attempts;
  }

  stop(): void {
    this.#stopping.abort();
    setTimeout(() => this.#cutting.abort(), stopGraceMs).unref();
  }

  /** Begins what is due and has a place, once around all mailboxes. Gives how many attempts it began. */
  async #sendRound(): Promise<number> {
    this.#freed = Promise.withResolvers();
    let begun = 0;
    do {
      const room = mostSending - this.#underWay.size;
      if (room === 0) {
        break;
      }
      const askedAtMs = performance.now();
      const rows = await this.#take(room);
      for (const row of rows.filter((found) => isDueRow(found))) {
        this.#begin({ ...row, askedAtMs });
        begun += row.attempt_count === null ? 0 : 1;
      }
      this.#after = rows[0]?.next_after ?? firstLease;
    } while (this.#after !== firstLease && !this.#stopping.signal.aborted);
    return begun;
  }

  async #take(room: number) {
    const rooms: Record<LeaseUuid, number> = {};
    for (const leaseId of [...this.#failing.keys(), ...this.#underWayOf.keys()]) {
      const most = this.#failing.has(leaseId) ? mostOfFailing : mostOfMailbox;
      rooms[leaseId] = Math.max(0, most - (this.#underWayOf.get(leaseId) ?? 0));
    }
    const values = [room, this.#after, mostOfMailbox, JSON.stringify(rooms), mostVisits];
    return await this.#options.database.run(takeWebhookDeliveries, values);
  }

  #begin(row: FoundRow): void {
    const leaseId = row.lease_id;
    this.#underWayOf.set(leaseId, (this.#underWayOf.get(leaseId) ?? 0) + 1);
    const work = this.#attempt(row).finally(() => {
      const others = (this.#underWayOf.get(leaseId) ?? 1) - 1;
      if (others === 0) {
        this.#underWayOf.delete(leaseId);
      } else {
        this.#underWayOf.set(leaseId, others);
      }
      this.#underWay.delete(work);
      this.#freed.resolve();
    });
    this.#underWay.add(work);
  }

  /** Never throws: what is not recorded is sent again when it is due. */
  async #attempt(row: FoundRow): Promise<void> {
    const { lease_id, sequence, attempt_count } = row;
    const about = { lease: formatId("lse", lease_id), sequence: `${sequence}`, attempt: attempt_count };
    try {
      if (attempt_count === null) {
        await this.#giveUp(row);
        return;
      }
      const outcome = await this.#send(row);
      if (outcome === undefined) {
        return;
      }
      if (outcome.error === undefined) {
        this.#failing.delete(lease_id);
      } else {
        this.#failing.set(lease_id, true);
      }
      this.#options.logger.debug({ ...about, status: outcome.status, failure: outcome.error }, "a webhook was called");
      await this.#record({ ...row, attempt_count }, outcome);
    } catch (error) {
      this.#failing.set(lease_id, true);
      this.#options.logger.error({ ...about, err: error }, "an attempt of a webhook was lost, and is made again");
    }
  }

  /** Undefined if nothing is known of it: it was cut by a stop, or the lease was over before it began. */
  async #send(row: FoundRow): Promise<AttemptOutcome | undefined> {
    const sealed = await this.#options.seals.openDetails(row);
    if (sealed === undefined) {
      return undefined;
    }
    const { webhookUrl, tokenKeyVersion } = unpackMailbox(sealed);
    const { key } = await this.#options.serverKeys.get(tokenKeyVersion);
    const notification = makeNotification(row, webhookSecret(key, row.lease_id), row.now);
    // Nothing goes on past the lease's end, by the database's clock, however long that was in answering.
    const leftMs = Math.floor(Number((row.due_time - row.now) / 1_000n) - (performance.now() - row.askedAtMs));
    if (leftMs <= 0) {
      return undefined;
    }
    const timeout = AbortSignal.timeout(Math.min(attemptSeconds * 1_000, leftMs));
    const outcome = await this.#post.send(webhookUrl, notification, AbortSignal.any([timeout, this.#cutting.signal]));
    return outcome.status === undefined && this.#cutting.signal.aborted ? undefined : outcome;
  }

  async #record(row: TakenRow, { status, error }: AttemptOutcome): Promise<void> {
    const isGone = status === goneStatus;
    const place = [row.owner_id, row.lease_id];
    if (isGone) {
      // First, so that a crash leaves a notification that is found to be of a webhook that is off.
      await this.#options.database.run(switchWebhookOff, place, { repeatable: true });
    }
    const outcome = [error === undefined, status ?? null, error ?? null];
    const retrySeconds = isGone ? null : (retryDelaySeconds(row.attempt_count) ?? null);
    const values = [...place, row.sequence, row.attempt_count, ...outcome, retrySeconds];
    await this.#options.database.run(recordWebhookAttempt, values, { repeatable: true });
    if (isGone) {
      await this.#giveUp(row);
    }
  }

  /** What waits to be sent again, and what was dropped while the webhook was switched off, is not sent any more. */
  async #giveUp(row: FoundRow): Promise<void> {
    await this.#inBatches(giveUpWebhookDeliveries, [row.owner_id, row.lease_id, describeStatus(goneStatus)]);
  }

  async #forget(): Promise<void> {
    await this.#inBatches(forgetWebhookDeliveries, []);
  }

  /** Runs a statement, whose last parameter is how many rows, until it finds fewer. */
  async #inBatches(statement: Statement<unknown>, values: readonly unknown[]): Promise<void> {
    let found = rowBatch;
    while (found === rowBatch) {
      found = (await this.#options.database.run(statement, [...values, rowBatch], { repeatable: true })).length;
    }
  }

  async #forgetOften(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      await this.#forget().catch((error: unknown) => {
        this.#options.logger.error(
          { err: error },
          "old webhook deliveries could not be forgotten, and are tried again",
        );
      });
      await this.#wait(forgetIntervalMs);
    }
  }

  /** Waits for a while, or less: for a free place, and for the stop. */
  async #wait(waitMs: number, freed?: Promise<void>): Promise<void> {
    const woken = new AbortController();
    const signal = AbortSignal.any([woken.signal, this.#stopping.signal]);
    void freed?.then(() => woken.abort());
    await delay(waitMs, undefined, { signal }).catch(() => undefined);
  }
}
