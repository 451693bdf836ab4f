/** ScratchpadService: sets, gets, lists, changes and watches entries. */
import type { ScratchpadService } from "#gen/leasehold/v1/scratchpad_pb.js";
import type { Callers } from "../account/caller.ts";
import { leaseUuidOf } from "../lease/lease-service.ts";
import type { ServiceImplementation } from "../server/service-implementation.ts";
import { EntryChanges } from "./entry-changes.ts";
import { EntryCounters } from "./entry-counters.ts";
import type { EntryExpiry } from "./entry-expiry.ts";
import { EntryReads } from "./entry-reads.ts";
import { EntryWatches, type EntryWatchesOptions } from "./entry-watches.ts";
import { EntryWrites } from "./entry-writes.ts";

/** What the service needs. */
export interface ScratchpadServiceOptions extends Omit<EntryWatchesOptions, "reads"> {
  readonly callers: Callers;
  readonly expiry: EntryExpiry;
  readonly digestKey: Uint8Array;
}

/** The methods of ScratchpadService. */
export function scratchpadService(options: ScratchpadServiceOptions): ServiceImplementation<typeof ScratchpadService> {
  const { callers, database, seals } = options;
  const reads = new EntryReads(database, seals);
  const writes = new EntryWrites({ ...options, reads });
  const changes = new EntryChanges({ reads, writes, seals });
  const counters = new EntryCounters({ reads, writes, seals });
  const watches = new EntryWatches({ ...options, reads });
  return {
    async setEntry(request, call) {
      return await changes.set(await callers.of(call), request);
    },

    async getEntry(request, call) {
      return { entry: await reads.get(await callers.of(call), leaseUuidOf(request.leaseId), request.key) };
    },

    async deleteEntry(request, call) {
      return await changes.delete(await callers.of(call), request);
    },

    async listEntries(request, call) {
      return await reads.list(await callers.of(call), request);
    },

    async appendToEntry(request, call) {
      return await changes.append(await callers.of(call), request);
    },

    async incrementEntry(request, call) {
      return await counters.increment(await callers.of(call), request);
    },

    async *watchEntries(request, call) {
      yield* watches.watch(await callers.of(call), request, call);
    },
  };
}
