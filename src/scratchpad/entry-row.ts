/** A row of `scratchpad_entry` as statements return it, with what was appended to it. */
import type { DatabaseTime } from "../database/row-types.ts";

/** How a value is stored: as it was set, and the pieces appended to that, in order. Null if there are none. */
export interface ValueColumns {
  readonly body_id: string;
  readonly sealed: Buffer;
  readonly append_ids: readonly string[] | null;
  /** The sizes of the pieces before they were sealed. */
  readonly append_bytes: readonly number[] | null;
  /** The sealed pieces, one behind the other. */
  readonly sealed_appends: Buffer | null;
}

/** An entry. */
export interface EntryRow extends ValueColumns {
  readonly key: string;
  readonly version: bigint;
  readonly value_bytes: number;
  readonly update_time: DatabaseTime;
  readonly expire_time: DatabaseTime | null;
}

/** A joined entry that may be missing: every column is null then. */
export type MaybeEntryRow = EntryRow | { readonly [Name in keyof EntryRow]: null };

export function isEntryRow<Row extends MaybeEntryRow>(row: Row): row is Row & EntryRow {
  return row.key !== null;
}

/** Numbers in `scratchpad_entry.state`. */
export const entryStates = { live: 1, deleted: 2, expired: 3 } as const;

/** The select list of an EntryRow: of an entry by its alias, and of its appends as appendsOf joins them. */
export function entryColumns(entry: string, appends: string): string {
  return `${entry}.key, ${entry}.version, ${entry}.value_bytes, ${entry}.update_time, ${entry}.expire_time,
    ${entry}.body_id, ${entry}.sealed, ${appends}.append_ids, ${appends}.append_bytes, ${appends}.sealed_appends`;
}

/**
 * The pieces appended to an entry, as one row: those of $1's lease `lease`, of the key and behind the version that
 * are given as expressions, under a condition. Leans on the primary key.
 */
export function appendsOf(asked: { lease: string; key: string; after: string; condition: string }): string {
  return `
    select json_agg(p.body_id order by p.version) as append_ids, json_agg(p.body_bytes order by p.version) as append_bytes,
      string_agg(p.sealed, ''::bytea order by p.version) as sealed_appends, min(p.offset_bytes) as offset_bytes
    from scratchpad_append p
    where p.owner_id = $1::uuid and p.lease_id = ${asked.lease} and p.key = ${asked.key} and p.version > ${asked.after}
      and ${asked.condition}`;
}
