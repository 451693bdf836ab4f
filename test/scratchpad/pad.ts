/** Scratchpads of a test, their workers, and how a test looks behind them. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import {
  type Entry,
  type ScratchpadDetails,
  ScratchpadService,
  type ScratchpadSpecSchema,
} from "#gen/leasehold/v1/scratchpad_pb.js";
import type { Database } from "../../src/database/database.ts";
import type { DatabaseTime } from "../../src/database/row-types.ts";
import { askFor, type LeaseInit, leaseUuid, type Reachable, required, type Tenant } from "../support/tenant.ts";
import { query } from "../support/test-query.ts";

/** Makes a scratchpad: 1 MiB for an hour, unless said otherwise. */
export async function openPad(
  tenant: Tenant,
  spec: MessageInitShape<typeof ScratchpadSpecSchema> = {},
  request: LeaseInit = {},
): Promise<string> {
  const asked = askFor({ ...request, variant: { case: "scratchpad", value: spec } } as LeaseInit);
  return required((await tenant.leases.createLease(asked)).lease).leaseId;
}

/** What an entry may be set with beside its value. */
export interface SetOptions {
  readonly ttl?: { readonly seconds: bigint };
  readonly expectedVersion?: bigint;
  readonly requestId?: string;
}

/** A worker with one scratchpad, at one server. */
export class Worker {
  readonly pads: Client<typeof ScratchpadService>;
  readonly leaseId: string;

  constructor(server: Reachable, apiKey: string, leaseId: string) {
    this.pads = server.nativeClient(ScratchpadService, apiKey);
    this.leaseId = leaseId;
  }

  async set(key: string, value: string | Uint8Array, options: SetOptions = {}): Promise<bigint> {
    const asked = { leaseId: this.leaseId, key, value: Buffer.from(value), ...options };
    return (await this.pads.setEntry(asked)).version;
  }

  async get(key: string): Promise<Entry> {
    return required((await this.pads.getEntry({ leaseId: this.leaseId, key })).entry);
  }

  async text(key: string): Promise<string> {
    return Buffer.from((await this.get(key)).value).toString();
  }

  async delete(key: string, options: Omit<SetOptions, "ttl"> = {}): Promise<bigint> {
    return (await this.pads.deleteEntry({ leaseId: this.leaseId, key, ...options })).version;
  }

  async append(key: string, value: string, options: Omit<SetOptions, "expectedVersion"> = {}) {
    const { version, offset } = await this.pads.appendToEntry({
      leaseId: this.leaseId,
      key,
      value: Buffer.from(value),
      ...options,
    });
    return { version, offset };
  }

  async increment(key: string, delta?: bigint, options: Omit<SetOptions, "expectedVersion"> = {}) {
    const asked = { leaseId: this.leaseId, key, ...(delta === undefined ? {} : { delta }), ...options };
    const { version, value } = await this.pads.incrementEntry(asked);
    return { version, value };
  }

  /** Every entry with a prefix, with its value as text, page by page. */
  async list(prefix = "", pageSize = 100): Promise<Record<string, string>> {
    const found: Record<string, string> = {};
    let pageToken = "";
    do {
      const asked = { leaseId: this.leaseId, prefix, includeValues: true, pageSize, pageToken };
      const page = await this.pads.listEntries(asked);
      for (const { key, value } of page.entries) {
        found[key] = Buffer.from(value).toString();
      }
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return found;
  }
}

/** What a scratchpad says of itself. */
export async function padOf(tenant: Tenant, leaseId: string): Promise<ScratchpadDetails> {
  const { details } = await tenant.show(leaseId);
  if (details.case !== "scratchpad") {
    throw new Error(`not a scratchpad: ${details.case}`);
  }
  return details.value;
}

/** Lets an entry's time be over. */
export async function letExpire(database: Database, leaseId: string, key: string): Promise<void> {
  await query(
    database,
    "update scratchpad_entry set expire_time = clock_timestamp() - interval '1 second' where lease_id = $1 and key = $2",
    [leaseUuid(leaseId), key],
  );
}

/** When an entry goes by itself. */
export async function expireTimeOf(database: Database, leaseId: string, key: string): Promise<DatabaseTime | null> {
  const [row] = await query<{ expire_time: DatabaseTime | null }>(
    database,
    "select expire_time from scratchpad_entry where lease_id = $1 and key = $2",
    [leaseUuid(leaseId), key],
  );
  return row?.expire_time ?? null;
}

/** How many rows of each of its tables a scratchpad has. */
export async function rowsOf(database: Database, leaseId: string): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const table of ["scratchpad", "scratchpad_entry", "scratchpad_append", "scratchpad_kept"]) {
    const [row] = await query<{ count: bigint }>(database, `select count(*) from ${table} where lease_id = $1`, [
      leaseUuid(leaseId),
    ]);
    counts[table] = Number(row?.count ?? 0n);
  }
  return counts;
}
