/** What the mailbox's RPCs and routes are built from. */
import type { Callers } from "../account/caller.ts";
import type { ServerKeys } from "../content/server-keys.ts";
import type { Database } from "../database/database.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import type { LeaseWatch } from "../lease/lease-watch.ts";
import type { Wakeups } from "../wakeups/wakeups.ts";
import type { Drops } from "./drops.ts";

/** What the mailbox's RPCs and routes need. */
export interface MailboxServiceOptions {
  readonly database: Database;
  readonly callers: Callers;
  readonly seals: LeaseSeals;
  readonly serverKeys: ServerKeys;
  readonly wakeups: Wakeups;
  readonly drops: Drops;
  readonly watch: LeaseWatch;
  /** The largest message of an RPC, in bytes. */
  readonly maxMessageBytes: number;
  /** The key that request digests and hashes of groups are made with. It never changes. */
  readonly digestKey: Uint8Array;
}
