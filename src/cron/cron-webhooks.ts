/** Posts payloads to webhooks, one run of a lease at a time: each at least once, until it is delivered or too late. */
import type { Logger } from "pino";
import type { ServerKeys } from "../content/server-keys.ts";
import type { Database } from "../database/database.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { type AccountUuid, formatId, type LeaseUuid } from "../ids/ids.ts";
import type { LeaseRow } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import { attemptSeconds, stopGraceMs, takenSeconds } from "../webhooks/attempt-times.ts";
import { signNotification } from "../webhooks/signed-notification.ts";
import { type AttemptOutcome, goneStatus, WebhookPost } from "../webhooks/webhook-post.ts";
import { webhookSecret } from "../webhooks/webhook-secret.ts";
import { openPayload } from "./cron-content.ts";
import { rfc3339 } from "./cron-deliveries.ts";
import { unpackCron } from "./cron-details.ts";
import { lastMicros } from "./cron-firings.ts";
import { type CronRow, cronOf, runOutcomes } from "./cron-row.ts";
import { retryMicros } from "./delivery-retries.ts";
import { type RunColumns, recordAttempt } from "./firing-statements.ts";
import { type PostingLeaseRow, takePostedRuns, walkPostingLeases } from "./posting-statements.ts";

/** What posting needs. */
export interface CronWebhooksOptions {
  readonly database: Database;
  readonly seals: LeaseSeals;
  readonly serverKeys: ServerKeys;
  readonly logger: Logger;
  /** Whether receivers in private networks and on this host may be reached. */
  readonly allowPrivate: boolean;
}

/** How many are posted at once. */
const mostPosting = 100;
/** How many leases one statement visits. */
const mostVisits = 500;
const firstLease = "00000000-0000-0000-0000-000000000000" as LeaseUuid;

type TakenRun = LeaseRow &
  RunColumns & {
    readonly cron: CronRow;
    readonly lease_due_time: DatabaseTime;
    readonly now: DatabaseTime;
    /** When the statement was sent, as `performance.now()` tells it. */
    readonly askedAtMs: number;
  };

interface Visit {
  readonly begun: number;
  /** The last lease that was visited. Undefined: there are none behind. */
  readonly last: LeaseUuid | undefined;
  /** The last lease that got a place, if others that came to have one did not. */
  readonly leftOutBehind: LeaseUuid | undefined;
}

interface Posting {
  readonly ownerId: AccountUuid;
  readonly work: Promise<void>;
}

/** Posts runs. */
export class CronWebhooks {
  readonly #options: CronWebhooksOptions;
  readonly #post: WebhookPost;
  readonly #underWay = new Map<LeaseUuid, Posting>();
  readonly #cutting = new AbortController();
  /** The lease that the next circle begins behind. */
  #after = firstLease;

  readonly #ended: () => void;

  /** `ended`: called whenever an attempt has ended, and its place is free. */
  constructor(options: CronWebhooksOptions, ended: () => void) {
    this.#options = options;
    this.#ended = ended;
    this.#post = new WebhookPost(options.allowPrivate);
  }

  /** Begins what is due and has a place, once around all leases at most. Gives how many attempts it began. */
  async begin(): Promise<number> {
    const start = this.#after;
    let after: LeaseUuid | undefined = start;
    let isSecondHalf = start === firstLease;
    let begun = 0;
    this.#after = firstLease;
    while (after !== undefined && this.#underWay.size < mostPosting) {
      const visit: Visit = await this.#visit(after);
      begun += visit.begun;
      // The next circle begins with those that were left out.
      this.#after = visit.leftOutBehind ?? this.#after;
      after = visit.last;
      if (after === undefined && !isSecondHalf) {
        isSecondHalf = true;
        after = firstLease;
      } else if (after !== undefined && isSecondHalf && start !== firstLease && after >= start) {
        after = undefined;
      }
    }
    if (begun === 0) {
      this.#after = start;
    }
    return begun;
  }

  /** Looks at the next leases of the circle, and begins one run of each that has one due. */
  async #visit(after: LeaseUuid): Promise<Visit> {
    const { database } = this.#options;
    const visited = await database.run(walkPostingLeases, [after, mostVisits]);
    const due = visited.filter(({ lease_id, slot_time }) => slot_time !== null && !this.#underWay.has(lease_id));
    const taken = this.#share(due);
    const last = visited.length === mostVisits ? visited.at(-1)?.lease_id : undefined;
    const leftOutBehind = taken.length < due.length ? taken.at(-1)?.lease_id : undefined;
    if (taken.length === 0) {
      return { begun: 0, last, leftOutBehind };
    }
    const askedAtMs = performance.now();
    const columns = [
      taken.map((row) => row.owner_id),
      taken.map((row) => row.lease_id),
      taken.map((row) => row.slot_time),
    ];
    const rows = await database.run(takePostedRuns, [...columns, takenSeconds]);
    for (const row of rows) {
      const work = this.#attempt({ ...row, cron: cronOf(row, "cron_"), askedAtMs }).finally(() => {
        this.#underWay.delete(row.lease_id);
        this.#ended();
      });
      this.#underWay.set(row.lease_id, { ownerId: row.owner_id, work });
    }
    return { begun: rows.length, last, leftOutBehind };
  }

  /**
   * Those that their owners have places for: no owner has more than it leaves free. So one whose receivers are all slow
   * takes half of the places, and some are always left for whoever comes.
   */
  #share(due: readonly PostingLeaseRow[]): readonly PostingLeaseRow[] {
    const places = new Map<AccountUuid, number>();
    for (const { ownerId } of this.#underWay.values()) {
      places.set(ownerId, (places.get(ownerId) ?? 0) + 1);
    }
    let free = mostPosting - this.#underWay.size;
    return due.filter(({ owner_id }) => {
      const own = places.get(owner_id) ?? 0;
      if (own >= free) {
        return false;
      }
      places.set(owner_id, own + 1);
      free -= 1;
      return true;
    });
  }

  /** Resolves when all that is under way has ended. */
  async allEnded(): Promise<void> {
    await Promise.all([...this.#underWay.values()].map(({ work }) => work));
  }

  /** As allEnded; what takes too long is cut. */
  async finish(): Promise<void> {
    setTimeout(() => this.#cutting.abort(), stopGraceMs).unref();
    await this.allEnded();
  }

  /** Never throws: what is not recorded is tried again when it is due. */
  async #attempt(run: TakenRun): Promise<void> {
    try {
      const last = lastMicros(run.cron, run.due_time);
      const outcome = run.now > last ? undefined : await this.#send(run);
      if (run.now > last || outcome !== undefined) {
        await this.#record(run, outcome, last);
      }
    } catch (error) {
      const about = { lease: formatId("lse", run.lease_id), slot: rfc3339(run.slot_time), err: error };
      this.#options.logger.error(about, "an attempt of a run was lost, and is made again");
    }
  }

  /** Undefined if nothing is known of it: it was cut by a stop, or the lease was over before it began. */
  async #send(run: TakenRun): Promise<AttemptOutcome | undefined> {
    const { seals, serverKeys } = this.#options;
    const details = await seals.openDetails(run);
    // Nothing goes on past the lease's end, by the database's clock, however long that was in answering.
    const leftMs = Math.floor(Number((run.lease_due_time - run.now) / 1_000n) - (performance.now() - run.askedAtMs));
    if (details === undefined || leftMs <= 0) {
      return undefined;
    }
    const { contentType, webhookUrl, tokenKeyVersion } = unpackCron(details);
    const key = await seals.keyOf(run);
    const body = openPayload(seals, key, run.lease_id, run.payload_id, run.sealed_payload);
    const secret = webhookSecret((await serverKeys.get(tokenKeyVersion)).key, run.lease_id);
    const headers = {
      "leasehold-lease-id": formatId("lse", run.lease_id),
      "leasehold-slot-time": rfc3339(run.slot_time),
    };
    const notification = signNotification(
      { id: formatId("run", run.run_id), contentType, body, headers },
      secret,
      run.now,
    );
    const timeout = AbortSignal.timeout(Math.min(attemptSeconds * 1_000, leftMs));
    const outcome = await this.#post.send(webhookUrl, notification, AbortSignal.any([timeout, this.#cutting.signal]));
    return outcome.status === undefined && this.#cutting.signal.aborted ? undefined : outcome;
  }

  /** Without an outcome there was no time left for the attempt that was counted. */
  async #record(run: TakenRun, outcome: AttemptOutcome | undefined, last: bigint): Promise<void> {
    const { owner_id, lease_id, slot_time, attempt_count } = run;
    const isGone = outcome?.status === goneStatus;
    const isDelivered = outcome !== undefined && outcome.error === undefined;
    const settled = isGone ? runOutcomes.targetEnded : isDelivered ? runOutcomes.delivered : undefined;
    const result = outcome === undefined ? runOutcomes.missed : (settled ?? runOutcomes.pending);
    const tries = outcome === undefined ? attempt_count - 1 : attempt_count;
    const now = run.now + BigInt(Math.round((performance.now() - run.askedAtMs) * 1_000));
    const waitMicros = result === runOutcomes.pending ? retryMicros(attempt_count, now, last) : null;
    const place = [owner_id, lease_id, slot_time, attempt_count];
    const values = [...place, result, tries, outcome?.error ?? null, waitMicros, isGone];
    await this.#options.database.run(recordAttempt, values, { repeatable: true });
  }
}
