/** Reserves claims: those of one owner's handoffs that meet are served by one statement, in order of arrival. */
import { Handoff_State } from "#gen/leasehold/v1/handoff_pb.js";
import type { Database } from "../database/database.ts";
import { type Again, again, GroupCommit } from "../database/group-commit.ts";
import { newUuid } from "../ids/ids.ts";
import { aheadBytes, deliveredAtOnceBytes } from "./claim-allowance.ts";
import { stateOfRow } from "./handoff-row.ts";
import { type ReservedRow, reserveClaims } from "./reserve-claims-statement.ts";
import type { HeldHandoff } from "./token-holders.ts";

/** What reserving needs. */
export interface ReservationsOptions {
  readonly database: Database;
  /** How long a claim is held without progress, in seconds. */
  readonly holdSeconds: number;
  /** How long a claim can be held at all, in seconds. */
  readonly holdCapSeconds: number;
}

/** A claim to be reserved. */
export interface Reservation {
  readonly held: HeldHandoff;
  readonly requestId: string | null;
  /** Whether what it is to deliver stays readable, whatever becomes of the lease's content before it is read. */
  readonly isLasting: boolean;
}

/** Reserves claims. */
export class ClaimReservations {
  readonly #options: ReservationsOptions;
  readonly #batches: GroupCommit<Reservation, ReservedRow>;

  constructor(options: ReservationsOptions) {
    this.#options = options;
    this.#batches = new GroupCommit({ serve: (_, items) => this.#reserve(items) });
  }

  /**
   * Reserves a slot, or tells why there is none. Claims with a request_id go apart from those without: only theirs may
   * be repeated when an answer is lost.
   */
  async reserve(reservation: Reservation): Promise<ReservedRow> {
    const { held, requestId } = reservation;
    return await this.#batches.submit(`${held.ownerId} ${requestId === null ? "once" : "repeatable"}`, reservation);
  }

  async #reserve(items: readonly Reservation[]): Promise<readonly (ReservedRow | Again)[]> {
    const [first] = items;
    if (first === undefined) {
      return [];
    }
    const { held, requestId } = first;
    const { database, holdSeconds, holdCapSeconds } = this.#options;
    const values = [
      held.ownerId,
      items.map((item) => item.held.leaseId),
      items.map((item) => item.held.handoffId),
      items.map(() => newUuid<"clm">()),
      items.map((item) => item.requestId),
      holdSeconds,
      holdCapSeconds,
      aheadBytes,
      deliveredAtOnceBytes,
      items.map((item) => item.isLasting),
    ];
    const rows = await database.run(reserveClaims, values, { repeatable: requestId !== null });
    return askingAgain(items, rows);
  }
}

/** Which are to be asked again: those refused by a handoff that is open after all, and the twins of these behind them. */
function askingAgain(items: readonly Reservation[], rows: readonly ReservedRow[]): (ReservedRow | Again)[] {
  const refused = new Set<string>();
  return rows.map((row, index) => {
    const item = items[index];
    const request = `${item?.held.handoffId} ${item?.requestId}`;
    const isRefused = row.outcome === "REFUSED" || (row.outcome === "SEEN" && refused.has(request));
    const comesAgain = isRefused && stateOfRow(row) === Handoff_State.OPEN;
    if (comesAgain) {
      refused.add(request);
    }
    return comesAgain ? again : row;
  });
}
