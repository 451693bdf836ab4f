/** Remembers where puts go, so that a put is one round trip. */
import { LRUCache } from "lru-cache";
import type { Caller } from "../account/caller.ts";
import { type CheckpointReads, type CheckpointTarget, type FoundCheckpoint, noVersion } from "./checkpoint-reads.ts";
import { requireRoom } from "./checkpoint-writer.ts";

const rememberedMs = 60_000;
/** An entry is about 2 KiB. */
const rememberedLeases = 10_000;

/** What is used of a place never changes: a lease's id, its key, its size, its workflow. The put's statement judges the rest. */
export class CheckpointPlaces {
  readonly #reads: CheckpointReads;
  readonly #places = new LRUCache<string, FoundCheckpoint>({ max: rememberedLeases, ttl: rememberedMs });

  constructor(reads: CheckpointReads) {
    this.#reads = reads;
  }

  /**
   * Where a put goes, as it is remembered if it has room for the body: a refusal rests on what was read for it.
   *
   * @throws LeaseholdError BODY_TOO_LARGE, or whatever finding the lease is refused for.
   */
  async find(caller: Caller, target: CheckpointTarget, bodyBytes: bigint): Promise<FoundCheckpoint> {
    const key = keyOf(caller, target);
    const remembered = this.#places.get(key);
    if (remembered !== undefined && bodyBytes <= remembered.size_bytes) {
      return remembered;
    }
    const place = await this.#reads.find(caller, "write", target, noVersion);
    requireRoom(place.size_bytes, bodyBytes);
    this.#places.set(key, place);
    return place;
  }

  /** Forgets a place, because the lease there is over. */
  forget(caller: Caller, target: CheckpointTarget): void {
    this.#places.delete(keyOf(caller, target));
  }
}

function keyOf({ ownerId }: Caller, { leaseId, workflowId }: CheckpointTarget): string {
  return `${ownerId} ${leaseId ?? ""} ${workflowId ?? ""}`;
}
