/** Watches workflows: sends each version as it appears. */
import type { Caller } from "../account/caller.ts";
import type { Call } from "../server/call.ts";
import { VersionWatches, type VersionWatchesOptions } from "../wakeups/version-watches.ts";
import {
  type CheckpointReads,
  type CheckpointTarget,
  type FoundCheckpoint,
  latestVersion,
  noVersion,
} from "./checkpoint-reads.ts";
import { isVersionRow, type KeptVersion, oldestVersion } from "./checkpoint-row.ts";

/** What watching needs. */
export interface CheckpointWatchesOptions extends VersionWatchesOptions {
  readonly reads: CheckpointReads;
}

/** The watchers of one process. */
export class CheckpointWatches {
  readonly #reads: CheckpointReads;
  readonly #watches: VersionWatches;

  constructor(options: CheckpointWatchesOptions) {
    this.#reads = options.reads;
    this.#watches = new VersionWatches("checkpoint", options);
  }

  /**
   * The current version, or those after `afterVersion` unless that is 0, and then each newer one, as long as the call
   * lasts. Versions that are pushed out before they are asked for are left out.
   *
   * The call is cut when its lease ends, its key is stopped or its server drains.
   */
  async *watch(
    caller: Caller,
    target: CheckpointTarget,
    afterVersion: bigint,
    call: Call,
  ): AsyncGenerator<KeptVersion> {
    const place = await this.#reads.find(caller, "read", target, noVersion);
    const watch = this.#watches.open(caller, place, afterVersion, call);
    try {
      for (;;) {
        const next = await this.#next(caller, { ...target, leaseId: place.lease_id }, watch.seenVersion);
        if (next === undefined) {
          await watch.changed();
        } else {
          watch.seenVersion = next.version;
          yield next;
        }
      }
    } finally {
      watch.close();
    }
  }

  /** The version to send after one that was sent: the one after it, or else the oldest that is kept behind it. */
  async #next(caller: Caller, target: CheckpointTarget, sentVersion: bigint): Promise<KeptVersion | undefined> {
    const wanted = sentVersion === 0n ? latestVersion : sentVersion + 1n;
    let found: FoundCheckpoint = await this.#reads.find(caller, "read", target, wanted);
    while (!isVersionRow(found) && found.content_version > sentVersion) {
      const oldest = oldestVersion(found.content_version, found.retained_versions);
      found = await this.#reads.find(caller, "read", target, oldest);
    }
    return isVersionRow(found) ? found : undefined;
  }
}
