/**
 * A scratchpad as a claim delivers it: the entries there were at one version, in the order of their keys, whatever
 * becomes of them meanwhile.
 */
import type { Database } from "../database/database.ts";
import { piecesOf, requireStillLive, sizeAtVersion } from "../lease/lease-reading.ts";
import type { LeaseRow } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import type { ContentItem, LeaseContent } from "../lease/lease-variant.ts";
import { openValue } from "./entry-seals.ts";
import { findEntryAtOffset, measureEntries, readEntries, type SnapshotRow } from "./scratchpad-content-statements.ts";

/** What reading needs. */
export interface ScratchpadContentOptions {
  readonly database: Database;
  readonly seals: LeaseSeals;
}

/** What is read at once: so many entries, of so many bytes in all. An entry alone may be larger. */
const pageEntries = 256;
const pageBytes = 1_048_576;

/** Opens a version of a live scratchpad. */
export async function openSnapshot(
  options: ScratchpadContentOptions,
  lease: LeaseRow,
  version: bigint,
): Promise<LeaseContent> {
  const size = await sizeAtVersion(options.database, lease, version, measureEntries);
  return { ...size, items: (offset) => readItems(options, { lease, version, ...size }, offset) };
}

interface Snapshot {
  readonly lease: LeaseRow;
  readonly version: bigint;
  readonly totalBytes: bigint;
}

/** Where reading goes on: at the key that offset lies in, or behind the last one that was read. */
interface Place {
  readonly fromKey: string | null;
  readonly afterKey: string | null;
  readonly startOffset: bigint;
}

async function* readItems(
  options: ScratchpadContentOptions,
  snapshot: Snapshot,
  offset: bigint,
): AsyncGenerator<ContentItem> {
  let place = await findStart(options.database, snapshot, offset);
  while (place !== undefined) {
    const page: SnapshotRow[] = await readPage(options.database, snapshot, place);
    let { startOffset } = place;
    for (const row of page) {
      yield await openItem(options.seals, snapshot.lease, row, startOffset);
      startOffset += BigInt(row.value_bytes);
    }
    const last = page.at(-1);
    if (last === undefined && startOffset !== snapshot.totalBytes) {
      await requireStillLive(options.database, snapshot.lease);
    }
    place = last === undefined ? undefined : { fromKey: null, afterKey: last.key, startOffset };
  }
}

async function readPage(database: Database, { lease, version }: Snapshot, place: Place): Promise<SnapshotRow[]> {
  const values = [lease.owner_id, lease.lease_id, version, place.fromKey, place.afterKey, pageEntries, pageBytes];
  return await database.run(readEntries, values);
}

/** Undefined if there is nothing at the offset: it is the end. */
async function findStart(database: Database, snapshot: Snapshot, offset: bigint): Promise<Place | undefined> {
  if (offset === 0n) {
    return { fromKey: null, afterKey: null, startOffset: 0n };
  }
  const { lease, version } = snapshot;
  const [row] = await database.run(findEntryAtOffset, [lease.owner_id, lease.lease_id, version, offset]);
  return row === undefined ? undefined : { fromKey: row.key, afterKey: null, startOffset: row.start_offset };
}

async function openItem(
  seals: LeaseSeals,
  lease: LeaseRow,
  row: SnapshotRow,
  startOffset: bigint,
): Promise<ContentItem> {
  const value = openValue(seals, await seals.keyOf(lease), lease.lease_id, row);
  return {
    startOffset,
    name: row.key,
    contentType: "application/octet-stream",
    sizeBytes: BigInt(value.length),
    sha256: new Uint8Array(),
    createTime: row.update_time,
    read: (offset, limitBytes) => piecesOf(value, Number(offset), Number(limitBytes)),
  };
}
