/** CheckpointService: puts, gets, lists, watches, and moves bodies that no message carries. */
import { crc32 } from "node:zlib";
import type { CheckpointService, ListCheckpointVersionsRequest } from "#gen/leasehold/v1/checkpoint_pb.js";
import type { Callers } from "../account/caller.ts";
import type { Database } from "../database/database.ts";
import { invalidField, LeaseholdError } from "../errors/leasehold-error.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import type { LeaseWatch } from "../lease/lease-watch.ts";
import { pageSizeOf } from "../proto-values/paging.ts";
import type { ServiceImplementation } from "../server/service-implementation.ts";
import type { Wakeups } from "../wakeups/wakeups.ts";
import type { CheckpointBodies, CheckpointInit } from "./checkpoint-bodies.ts";
import type { CheckpointFiles } from "./checkpoint-files.ts";
import { CheckpointPuts } from "./checkpoint-puts.ts";
import { type CheckpointReads, noVersion, targetOf } from "./checkpoint-reads.ts";
import { listVersions } from "./checkpoint-statements.ts";
import { uploadCheckpoint } from "./checkpoint-upload.ts";
import { CheckpointWatches } from "./checkpoint-watches.ts";

/** What the service needs. */
export interface CheckpointServiceOptions {
  readonly database: Database;
  readonly callers: Callers;
  readonly seals: LeaseSeals;
  readonly reads: CheckpointReads;
  readonly bodies: CheckpointBodies;
  readonly files: CheckpointFiles;
  readonly watch: LeaseWatch;
  readonly wakeups: Wakeups;
  readonly digestKey: Uint8Array;
}

/** The methods of CheckpointService. */
export function checkpointService(options: CheckpointServiceOptions): ServiceImplementation<typeof CheckpointService> {
  const { callers, database, reads, bodies, watch } = options;
  const puts = new CheckpointPuts(options);
  const watches = new CheckpointWatches(options);
  return {
    async putCheckpoint(request, call) {
      return { checkpoint: await puts.put(await callers.of(call), request) };
    },

    async getCheckpoint(request, call) {
      const caller = await callers.of(call);
      for (;;) {
        call.signal.throwIfAborted();
        const kept = await reads.findVersion(caller, targetOf(request), request.version);
        // Whoever asks for the latest gets one, however often it is pushed out by a later one while it is read.
        const checkpoint = request.version === 0n ? await bodies.showUnlessGone(kept) : await bodies.showWhole(kept);
        if (checkpoint === undefined) {
          throw bodies.tooLargeForMessage(kept);
        }
        if (checkpoint !== "gone") {
          return { checkpoint };
        }
      }
    },

    async listCheckpointVersions(request, call) {
      const lease = await reads.find(await callers.of(call), "read", targetOf(request), noVersion);
      const pageSize = pageSizeOf(request);
      const values = [lease.owner_id, lease.lease_id, pageStart(request), pageSize + 1];
      const rows = await database.run(listVersions, values);
      const checkpoints: CheckpointInit[] = [];
      for (const row of rows.slice(0, pageSize)) {
        checkpoints.push(await bodies.show(lease, row));
      }
      const last = rows.length > pageSize ? rows[pageSize - 1] : undefined;
      return { checkpoints, nextPageToken: last === undefined ? "" : `${last.version}` };
    },

    async *watchCheckpoint(request, call) {
      const caller = await callers.of(call);
      for await (const kept of watches.watch(caller, targetOf(request), request.afterVersion, call)) {
        const checkpoint = (await bodies.showUnlessGone(kept)) ?? (await bodies.show(kept, kept));
        if (checkpoint !== "gone") {
          yield { checkpoint };
        }
      }
    },

    async uploadCheckpoint(requests, call) {
      const caller = await callers.of(call);
      return { checkpoint: await uploadCheckpoint({ reads, puts, watch }, caller, requests, call) };
    },

    async *downloadCheckpoint(request, call) {
      const caller = await callers.of(call);
      const kept = await reads.findVersion(caller, targetOf(request), request.version);
      let { offset } = request;
      requireWithin(offset, kept.body_bytes);
      const stop = watch.watch({
        lease: kept,
        now: kept.now,
        askedAtMs: kept.askedAtMs,
        cut: (error) => call.abort(error),
        caller: { caller, scope: "read" },
      });
      try {
        yield { checkpoint: await bodies.show(kept, kept) };
        for await (const data of bodies.read(kept, offset, undefined)) {
          call.signal.throwIfAborted();
          yield { offset, data, dataCrc32: crc32(data) };
          offset += BigInt(data.length);
        }
      } finally {
        stop();
      }
    },
  };
}

/** The version before which a page starts; null for the first. */
function pageStart({ pageToken }: ListCheckpointVersionsRequest): bigint | null {
  if (pageToken === "") {
    return null;
  }
  if (!/^[1-9][0-9]{0,17}$/.test(pageToken)) {
    throw invalidField("page_token", "must be the next_page_token of the page before");
  }
  return BigInt(pageToken);
}

function requireWithin(offset: bigint, bodyBytes: bigint): void {
  if (offset > bodyBytes) {
    throw new LeaseholdError("RANGE_PAST_END", `The range starts at ${offset}, past the end at ${bodyBytes}.`, {
      metadata: { content_bytes: `${bodyBytes}` },
    });
  }
}
