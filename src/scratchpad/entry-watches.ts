/** Watches scratchpads: sends the entries there are and then each change, in the order of versions. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  WatchEntriesResponse_Change as Change,
  EntrySchema,
  type WatchEntriesRequest,
  type WatchEntriesResponseSchema,
} from "#gen/leasehold/v1/scratchpad_pb.js";
import { type Caller, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import type { Database } from "../database/database.ts";
import { notFound } from "../errors/leasehold-error.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import { isLeaseRow, type LeaseRow, requireLive } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import { leaseUuidOf } from "../lease/lease-service.ts";
import type { Call } from "../server/call.ts";
import { VersionWatches, type VersionWatchesOptions } from "../wakeups/version-watches.ts";
import { type EntryReads, entryOf } from "./entry-reads.ts";
import { entryStates } from "./entry-row.ts";
import { openAppends, openValue } from "./entry-seals.ts";
import { type ChangedEntryRow, type ChangeRow, findChanges } from "./entry-statements.ts";
import { WatchPosition } from "./watch-position.ts";

/** What watching needs. */
export interface EntryWatchesOptions extends VersionWatchesOptions {
  readonly database: Database;
  readonly reads: EntryReads;
  readonly seals: LeaseSeals;
}

type WatchEvent = MessageInitShape<typeof WatchEntriesResponseSchema>;

/** How many changes one look finds at most, and behind how many bytes of values no further one. */
const pageChanges = 256;
const pageBytes = 1_048_576;

/** The watchers of one process. */
export class EntryWatches {
  readonly #options: EntryWatchesOptions;
  readonly #watches: VersionWatches;

  constructor(options: EntryWatchesOptions) {
    this.#options = options;
    this.#watches = new VersionWatches("scratchpad", options);
  }

  /**
   * The changes that a request asks for, as long as the call lasts. It is cut when its lease ends, its key is stopped
   * or its server drains.
   *
   * @throws LeaseholdError VERSION_GONE if deletions that the caller has not seen are forgotten.
   */
  async *watch(caller: Caller, request: WatchEntriesRequest, call: Call): AsyncGenerator<WatchEvent> {
    const leaseId = leaseUuidOf(request.leaseId);
    const place = await this.#options.reads.find(caller, "read", leaseId);
    const position = new WatchPosition(request.afterVersion);
    const watch = this.#watches.open(caller, place, position.lookedVersion, call);
    try {
      for (;;) {
        const rows = await this.#look(caller, leaseId, request.prefix, position);
        yield* this.#tell(rows, position);
        watch.seenVersion = position.lookedVersion;
        if (!position.isBehind) {
          await watch.changed();
        }
      }
    } finally {
      watch.close();
    }
  }

  async #look(caller: Caller, leaseId: LeaseUuid, prefix: string, position: WatchPosition): Promise<ChangedEntryRow[]> {
    return await this.#options.database.run(findChanges, [
      caller.ownerId,
      caller.keyId,
      scopeBits.read,
      leaseId,
      prefix,
      position.lookedVersion,
      pageChanges,
      pageBytes,
      position.deletionsVersion,
      position.wholeVersion,
      position.momentVersion,
    ]);
  }

  /** Tells what one look found, and moves the position behind it. */
  async *#tell(rows: readonly ChangedEntryRow[], position: WatchPosition): AsyncGenerator<WatchEvent> {
    const pad = requirePad(rows);
    position.requireRemembered(pad.content_version, rows[0]?.forgotten_version ?? 0n);
    const changes = rows.filter((row) => isChange(row));
    position.move(changes, isWholePage(changes), pad.content_version);
    for (const [index, row] of changes.entries()) {
      const isLast = index === changes.length - 1;
      yield { ...(await this.#show(pad, row)), caughtUpVersion: isLast ? position.caughtUp() : 0n };
    }
    if (changes.length === 0 && position.isWorthTelling()) {
      yield { caughtUpVersion: position.caughtUp() };
    }
  }

  async #show(pad: LeaseRow, row: ChangeRow): Promise<WatchEvent> {
    if (row.state !== entryStates.live) {
      const change = row.state === entryStates.expired ? Change.EXPIRED : Change.DELETED;
      return { change, entry: create(EntrySchema, { key: row.key, version: row.version }) };
    }
    const { seals } = this.#options;
    const key = await seals.keyOf(pad);
    if (row.sealed === null) {
      const value = Buffer.concat(openAppends(seals, key, pad.lease_id, row));
      return { change: Change.APPENDED, entry: { ...entryOf(row), value }, offset: BigInt(row.offset_bytes ?? 0) };
    }
    const value = openValue(seals, key, pad.lease_id, { ...row, sealed: row.sealed });
    return { change: Change.SET, entry: { ...entryOf(row), value } };
  }
}

/** A page is whole unless it was cut, for the number of its changes or the bytes of their values. */
function isWholePage(changes: readonly ChangeRow[]): boolean {
  const found = changes[0]?.found_count ?? 0n;
  return found < pageChanges && BigInt(changes.length) === found;
}

function requirePad(rows: readonly ChangedEntryRow[]): LeaseRow {
  const [row] = rows;
  requireAccess(row?.access, "read");
  if (row === undefined || !isLeaseRow(row)) {
    throw notFound("lease");
  }
  requireLive(row, row.now);
  return row;
}

function isChange(row: ChangedEntryRow): row is ChangedEntryRow & ChangeRow {
  return row.key !== null;
}
