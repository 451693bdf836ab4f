/** A mailbox as a claim delivers it: the messages there were at one version, in order, whatever becomes of them meanwhile. */
import type { Database } from "../database/database.ts";
import { formatId } from "../ids/ids.ts";
import { piecesOf, requireStillLive, sizeAtVersion } from "../lease/lease-reading.ts";
import type { LeaseRow } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import type { ContentItem, LeaseContent } from "../lease/lease-variant.ts";
import { findMessageAtOffset, measureMessages, readMessages, type SnapshotRow } from "./mailbox-content-statements.ts";
import { openMessage } from "./message-seals.ts";

/** What reading needs. */
export interface MailboxContentOptions {
  readonly database: Database;
  readonly seals: LeaseSeals;
}

/** What is read at once: so many messages, of so many bytes in all. A message alone may be larger. */
const pageMessages = 256;
const pageBytes = 1_048_576;

/** Opens a version of a live mailbox. */
export async function openSnapshot(
  options: MailboxContentOptions,
  lease: LeaseRow,
  version: bigint,
): Promise<LeaseContent> {
  const size = await sizeAtVersion(options.database, lease, version, measureMessages);
  return { ...size, items: (offset) => readItems(options, { lease, version, ...size }, offset) };
}

interface Snapshot {
  readonly lease: LeaseRow;
  readonly version: bigint;
  readonly totalBytes: bigint;
}

async function* readItems(
  options: MailboxContentOptions,
  snapshot: Snapshot,
  offset: bigint,
): AsyncGenerator<ContentItem> {
  const { lease } = snapshot;
  let place = await findStart(options.database, snapshot, offset);
  let page = await readPage(options.database, snapshot, place);
  while (page.length > 0) {
    for (const row of page) {
      yield await openItem(options.seals, lease, row, place.startOffset);
      place = { sequence: row.sequence + 1n, startOffset: place.startOffset + BigInt(row.body_bytes) };
    }
    page = await readPage(options.database, snapshot, place);
  }
  if (place.startOffset !== snapshot.totalBytes) {
    await requireStillLive(options.database, lease);
  }
}

async function readPage(database: Database, { lease, version }: Snapshot, place: Place): Promise<SnapshotRow[]> {
  const values = [lease.owner_id, lease.lease_id, version, place.sequence, pageMessages, pageBytes];
  return await database.run(readMessages, values);
}

interface Place {
  readonly sequence: bigint;
  readonly startOffset: bigint;
}

/** Behind the last message if the offset is the end. */
async function findStart(database: Database, { lease, version, totalBytes }: Snapshot, offset: bigint): Promise<Place> {
  if (offset === 0n) {
    return { sequence: 0n, startOffset: 0n };
  }
  const [row] = await database.run(findMessageAtOffset, [lease.owner_id, lease.lease_id, version, offset]);
  return row === undefined
    ? { sequence: version + 1n, startOffset: totalBytes }
    : { sequence: row.sequence, startOffset: row.start_offset };
}

async function openItem(
  seals: LeaseSeals,
  lease: LeaseRow,
  row: SnapshotRow,
  startOffset: bigint,
): Promise<ContentItem> {
  const key = await seals.keyOf(lease);
  const message = openMessage(seals, key, { leaseId: lease.lease_id, messageId: row.message_id }, row.sealed);
  return {
    startOffset,
    name: formatId("msg", row.message_id),
    contentType: message.contentType,
    sizeBytes: BigInt(row.body_bytes),
    sha256: new Uint8Array(),
    attributes: message.attributes,
    createTime: row.drop_time,
    read: (offset, limitBytes) => piecesOf(message.body, Number(offset), Number(limitBytes)),
  };
}
