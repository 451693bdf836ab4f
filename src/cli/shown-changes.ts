/** Owns what of a watched scratchpad was shown, so that a stream that broke goes on without showing anything twice. */
import { create } from "@bufbuild/protobuf";
import {
  WatchEntriesResponse_Change as Change,
  type WatchEntriesResponse,
  WatchEntriesResponseSchema,
} from "#gen/leasehold/v1/scratchpad_pb.js";

/**
 * What was shown. After a break the stream goes on behind the last version that was complete, so that some of what was
 * shown since comes again.
 */
export class ShownChanges {
  #caughtUpVersion: bigint | undefined;
  /** Behind that: the last version of each key, and how many bytes its value had. */
  readonly #since = new Map<string, { readonly version: bigint; readonly valueBytes: bigint }>();

  constructor(afterVersion: bigint | undefined) {
    this.#caughtUpVersion = afterVersion;
  }

  /** Where a stream goes on. */
  resumption(): { readonly afterVersion?: bigint } {
    return this.#caughtUpVersion === undefined ? {} : { afterVersion: this.#caughtUpVersion };
  }

  /** What of a response was not shown yet, which may be only how far the stream has come. */
  newsIn(response: WatchEntriesResponse): WatchEntriesResponse {
    const news = this.#unseen(response);
    const { caughtUpVersion, entry } = response;
    if (caughtUpVersion !== 0n) {
      this.#caughtUpVersion = caughtUpVersion;
      this.#since.clear();
    } else if (entry !== undefined) {
      this.#since.set(entry.key, { version: entry.version, valueBytes: entry.valueBytes });
    }
    return news;
  }

  #unseen(response: WatchEntriesResponse): WatchEntriesResponse {
    const { caughtUpVersion, entry } = response;
    const seen = entry === undefined ? undefined : this.#since.get(entry.key);
    if (entry === undefined || seen === undefined) {
      return response;
    }
    if (entry.version <= seen.version) {
      return create(WatchEntriesResponseSchema, { caughtUpVersion });
    }
    const repeated = response.change === Change.APPENDED ? Number(seen.valueBytes - response.offset) : 0;
    return repeated <= 0
      ? response
      : { ...response, offset: seen.valueBytes, entry: { ...entry, value: entry.value.subarray(repeated) } };
  }
}
