/** A Cron lease as a claim delivers it: its payload, and a line for each run that was settled at one version. */

import { open, type SealContext, seal } from "../content/sealing.ts";
import type { Database } from "../database/database.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import { piecesOf, requireStillLive } from "../lease/lease-reading.ts";
import type { LeaseRow } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import { asStream, type ContentItem, type LeaseContent } from "../lease/lease-variant.ts";
import { unpackCron } from "./cron-details.ts";
import { measureRuns, readPayload, readRuns } from "./cron-run-statements.ts";

/** What reading needs. */
export interface CronContentOptions {
  readonly database: Database;
  readonly seals: LeaseSeals;
}

/** How many runs are read at once: of about 250 bytes each. */
const pageRuns = 500;

/** Opens a version of a live lease. */
export async function openCron(options: CronContentOptions, lease: LeaseRow, version: bigint): Promise<LeaseContent> {
  const { database, seals } = options;
  const payload = await readSealedPayload(options, lease);
  const [measured] = await database.run(measureRuns, [lease.owner_id, lease.lease_id, version]);
  const runBytes = measured?.bytes ?? 0n;
  const payloadBytes = BigInt(payload.length);
  const details = await seals.openDetails(lease);
  const items: readonly ContentItem[] = [
    {
      startOffset: 0n,
      name: "payload",
      contentType: details === undefined ? "application/octet-stream" : unpackCron(details).contentType,
      sizeBytes: payloadBytes,
      sha256: new Uint8Array(),
      createTime: lease.create_time,
      read: (offset, limitBytes) => piecesOf(payload, Number(offset), Number(limitBytes)),
    },
    {
      startOffset: payloadBytes,
      name: "runs.ndjson",
      contentType: "application/x-ndjson",
      sizeBytes: runBytes,
      sha256: new Uint8Array(),
      read: (offset, limitBytes) => linesOf(database, lease, version, Number(offset), Number(limitBytes)),
    },
  ];
  return {
    totalBytes: payloadBytes + runBytes,
    itemCount: BigInt(items.length),
    items: (offset) =>
      asStream(offset > payloadBytes || (offset === payloadBytes && offset > 0n) ? items.slice(1) : items),
  };
}

/** Seals a payload under its lease's key. */
export function sealPayload(
  seals: LeaseSeals,
  key: Uint8Array,
  leaseId: LeaseUuid,
  payloadId: string,
  payload: Uint8Array,
): Buffer {
  return seal(key, payload, payloadContext(seals, leaseId, payloadId));
}

/** Opens what sealPayload made. */
export function openPayload(
  seals: LeaseSeals,
  key: Uint8Array,
  leaseId: LeaseUuid,
  payloadId: string,
  sealed: Uint8Array,
): Buffer {
  return open(key, sealed, payloadContext(seals, leaseId, payloadId));
}

async function readSealedPayload({ database, seals }: CronContentOptions, lease: LeaseRow): Promise<Buffer> {
  const [row] = await database.run(readPayload, [lease.owner_id, lease.lease_id]);
  if (row === undefined) {
    await requireStillLive(database, lease);
    throw new Error("a live Cron lease has no payload");
  }
  return openPayload(seals, await seals.keyOf(lease), lease.lease_id, row.payload_id, row.sealed_payload);
}

/** The lines from an offset on, page by page. Those before it are read and left out. */
async function* linesOf(
  database: Database,
  lease: LeaseRow,
  version: bigint,
  offset: number,
  limitBytes: number,
): AsyncGenerator<Uint8Array> {
  let [skip, left, after] = [offset, limitBytes, 0n];
  while (left > 0) {
    const values = [lease.owner_id, lease.lease_id, version, after, pageRuns];
    const rows = await database.run(readRuns, values);
    const last = rows.at(-1);
    if (last === undefined) {
      await requireStillLive(database, lease);
      return;
    }
    const lines = Buffer.from(rows.map(({ line }) => line).join(""));
    const piece = lines.subarray(skip, skip + left);
    skip = Math.max(0, skip - lines.length);
    left -= piece.length;
    after = last.settled_version;
    yield* piecesOf(piece, 0, piece.length);
  }
}

function payloadContext(seals: LeaseSeals, leaseId: LeaseUuid, payloadId: string): SealContext {
  return seals.context(leaseId, { kind: "cron_payload", objectId: payloadId, partIndex: 0, final: true });
}
