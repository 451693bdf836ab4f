/**
 * Finds entries for those who may read them, many look-ups in one round trip, and the scratchpads that writes go to.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { LRUCache } from "lru-cache";
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import type { EntrySchema, ListEntriesRequest } from "#gen/leasehold/v1/scratchpad_pb.js";
import { type Caller, requireAccess } from "../account/caller.ts";
import { type ScopeName, scopeBits } from "../account/scopes.ts";
import type { Database } from "../database/database.ts";
import { GroupCommit } from "../database/group-commit.ts";
import type { DatabaseTime } from "../database/row-types.ts";
import { invalidField, notFound } from "../errors/leasehold-error.ts";
import type { KeyUuid, LeaseUuid } from "../ids/ids.ts";
import { isLeaseRow, type LeaseRow, requireLive, requireVariant } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import { leaseUuidOf } from "../lease/lease-service.ts";
import { pageSizeOf } from "../proto-values/paging.ts";
import { toTimestamp } from "../proto-values/proto-time.ts";
import { type EntryRow, isEntryRow } from "./entry-row.ts";
import { openValue } from "./entry-seals.ts";
import { type FoundEntryRow, getEntries, listEntries } from "./entry-statements.ts";

/** What an Entry message is made from. */
export type EntryInit = MessageInitShape<typeof EntrySchema>;

/** A live scratchpad. */
export type FoundPad = LeaseRow & {
  readonly now: DatabaseTime;
  readonly max_entry_bytes: number;
  /** When the statement was sent, as `performance.now()` tells it. */
  readonly askedAtMs: number;
};

/** A page of entries, and the version of its moment. */
export interface EntryPage {
  readonly entries: EntryInit[];
  readonly nextPageToken: string;
  readonly version: bigint;
}

interface Question {
  readonly keyId: KeyUuid;
  readonly leaseId: LeaseUuid;
  readonly key: string | null;
}

/** How many bytes of values a page of a list has at most, unless its first entry alone has more. */
const pageBytes = 1_048_576;
const rememberedMs = 60_000;
/** A place is about 2 KiB. */
const rememberedPlaces = 10_000;

/** Reads entries. Look-ups of one owner that come together are one round trip. */
export class EntryReads {
  readonly #database: Database;
  readonly #seals: LeaseSeals;
  readonly #lookUps: GroupCommit<Question, FoundEntryRow>;
  readonly #places = new LRUCache<string, FoundPad>({ max: rememberedPlaces, ttl: rememberedMs });

  constructor(database: Database, seals: LeaseSeals) {
    this.#database = database;
    this.#seals = seals;
    this.#lookUps = new GroupCommit({ serve: (lane, asked) => this.#lookUp(lane, asked) });
  }

  /**
   * A live scratchpad of the caller's.
   *
   * @throws LeaseholdError NOT_FOUND, LEASE_ENDED, WRONG_VARIANT, or the refusal of the key.
   */
  async find(caller: Caller, scope: ScopeName, leaseId: LeaseUuid): Promise<FoundPad> {
    const askedAtMs = performance.now();
    return { ...requirePad(await this.#ask(caller, scope, leaseId, null), scope), askedAtMs };
  }

  /**
   * As find, and what never changes of it may be remembered: its id, its key, its limits. The statement that writes
   * judges the rest.
   */
  async place(caller: Caller, leaseId: LeaseUuid): Promise<FoundPad> {
    const id = `${caller.ownerId} ${leaseId}`;
    const remembered = this.#places.get(id);
    if (remembered !== undefined) {
      return remembered;
    }
    const place = await this.find(caller, "write", leaseId);
    this.#places.set(id, place);
    return place;
  }

  /** Forgets a place, because the lease there is over. */
  forget(caller: Caller, leaseId: LeaseUuid): void {
    this.#places.delete(`${caller.ownerId} ${leaseId}`);
  }

  /**
   * An entry with its value.
   *
   * @throws LeaseholdError as find does, or NOT_FOUND.
   */
  async get(caller: Caller, leaseId: LeaseUuid, key: string): Promise<EntryInit> {
    const row = await this.#ask(caller, "read", leaseId, key);
    const pad = requirePad(row, "read");
    if (!isEntryRow(row)) {
      throw notFound("entry");
    }
    return await this.show(pad, row);
  }

  /** An entry's row and its opened value, for those who write what follows from it. Undefined if it is not there. */
  async look(caller: Caller, leaseId: LeaseUuid, key: string): Promise<{ version: bigint; value: Buffer } | undefined> {
    const row = await this.#ask(caller, "write", leaseId, key);
    const pad = requirePad(row, "write");
    if (!isEntryRow(row)) {
      return undefined;
    }
    return { version: row.version, value: openValue(this.#seals, await this.#seals.keyOf(pad), leaseId, row) };
  }

  /** A page of a scratchpad's entries, in the order of their keys. */
  async list(caller: Caller, request: ListEntriesRequest): Promise<EntryPage> {
    const pageSize = pageSizeOf(request);
    const { leaseId, prefix, includeValues } = request;
    const rows = await this.#database.run(listEntries, [
      caller.ownerId,
      caller.keyId,
      scopeBits.read,
      leaseUuidOf(leaseId),
      prefix,
      startOf(request),
      pageSize + 1,
      includeValues,
      pageBytes,
    ]);
    const pad = requirePad(rows[0], "read");
    const found = rows.filter((row) => isEntryRow(row)).slice(0, pageSize);
    const entries: EntryInit[] = [];
    for (const row of found) {
      entries.push(includeValues ? await this.show(pad, row) : entryOf(row));
    }
    const last = found.at(-1);
    // One more than is shown was asked for, and a page is cut for the size of its values.
    const hasMore = last !== undefined && (last.found_count ?? 0n) > found.length;
    return { entries, nextPageToken: hasMore ? tokenOf(last.key) : "", version: pad.content_version };
  }

  /** Opens an entry of a lease that was found with it. */
  async show(pad: LeaseRow, row: EntryRow): Promise<EntryInit> {
    const value = openValue(this.#seals, await this.#seals.keyOf(pad), pad.lease_id, row);
    return { ...entryOf(row), value };
  }

  async #ask(caller: Caller, scope: ScopeName, leaseId: LeaseUuid, key: string | null): Promise<FoundEntryRow> {
    return await this.#lookUps.submit(`${caller.ownerId} ${scope}`, { keyId: caller.keyId, leaseId, key });
  }

  #lookUp(lane: string, asked: readonly Question[]): Promise<FoundEntryRow[]> {
    const [ownerId, scope] = lane.split(" ") as [string, ScopeName];
    return this.#database.run(getEntries, [
      ownerId,
      asked.map(({ keyId }) => keyId),
      scopeBits[scope],
      asked.map(({ leaseId }) => leaseId),
      asked.map(({ key }) => key),
    ]);
  }
}

/** @throws LeaseholdError NOT_FOUND, LEASE_ENDED, WRONG_VARIANT, or the refusal of the key. */
function requirePad(
  row: FoundEntryRow | undefined,
  scope: ScopeName,
): LeaseRow & { readonly now: DatabaseTime; readonly max_entry_bytes: number } {
  requireAccess(row?.access, scope);
  if (row === undefined || !isLeaseRow(row)) {
    throw notFound("lease");
  }
  requireLive(row, row.now);
  requireVariant(row, Lease_Variant.SCRATCHPAD, "entries");
  const { max_entry_bytes } = row;
  if (max_entry_bytes === null) {
    throw notFound("lease");
  }
  return { ...row, max_entry_bytes };
}

/** An entry without its value. */
export function entryOf(row: Omit<EntryRow, "sealed">): EntryInit {
  return {
    key: row.key,
    version: row.version,
    valueBytes: BigInt(row.value_bytes),
    updateTime: toTimestamp(row.update_time),
    expireTime: toTimestamp(row.expire_time),
  };
}

/** A page's token is the key that the next one starts behind. */
function tokenOf(key: string): string {
  return Buffer.from(key).toString("base64url");
}

function startOf({ pageToken }: ListEntriesRequest): string | null {
  if (pageToken === "") {
    return null;
  }
  const key = Buffer.from(pageToken, "base64url").toString("utf8");
  if (tokenOf(key) !== pageToken || key === "" || key.includes("\0")) {
    throw invalidField("page_token", "must be the next_page_token of the page before");
  }
  return key;
}
