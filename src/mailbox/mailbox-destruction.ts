/** Destroys the rows of ended mailboxes. */
import type { Database } from "../database/database.ts";
import type { EndedLease } from "../lease/lease-variant.ts";
import { deleteMailbox } from "./mailbox-content-statements.ts";

/** How many rows of a kind one statement deletes: none takes long, and what is done stays done. */
const batchRows = 5_000;

/**
 * Destroys every row of ended mailboxes. A drop that waited for the lease's lock finds the lease ended and adds nothing;
 * one that had the lock before was committed before the end, and is seen here.
 */
export async function destroyMailboxes(database: Database, leases: readonly EndedLease[]): Promise<void> {
  for (const { ownerId, leaseId } of leases) {
    let mayBeMore = true;
    while (mayBeMore) {
      const [deleted] = await database.run(deleteMailbox, [ownerId, leaseId, batchRows], { repeatable: true });
      mayBeMore = [deleted?.messages, deleted?.notifications].some((count) => Number(count) >= batchRows);
    }
  }
}
