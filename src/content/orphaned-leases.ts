/** Removes what is left in a store of leases that no row accounts for any more. */
import type { ContentStore } from "./content-store.ts";

/** How long a lease's files must have been untouched before they can be orphans, in milliseconds. */
const orphanAgeMs = 60_000;
const orphanBatch = 1_000;

/** `orphansAmong` tells which of some leases have no row that accounts for files. Gives how many leases' files went. */
export async function removeOrphanedLeases(
  store: ContentStore,
  orphansAmong: (leaseIds: readonly string[]) => Promise<readonly string[]>,
): Promise<number> {
  let removed = 0;
  let candidates: string[] = [];
  const removeThem = async (): Promise<void> => {
    if (candidates.length > 0) {
      const orphans = await orphansAmong(candidates);
      await store.destroyLeases(orphans);
      removed += orphans.length;
      candidates = [];
    }
  };
  for await (const leaseId of store.listLeaseIds(new Date(Date.now() - orphanAgeMs))) {
    candidates.push(leaseId);
    if (candidates.length === orphanBatch) {
      await removeThem();
    }
  }
  await removeThem();
  return removed;
}
