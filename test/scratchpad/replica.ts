/** A copy of a scratchpad that is made from nothing but what its watch tells. */
import { expect } from "vitest";
import {
  WatchEntriesResponse_Change as Change,
  ScratchpadService,
  type WatchEntriesResponse,
} from "#gen/leasehold/v1/scratchpad_pb.js";
import type { RpcDoor } from "../support/tenant.ts";
import type { TestLeasehold } from "../support/test-leasehold.ts";

/** Keeps a copy of a scratchpad by nothing but what its watch tells. */
export class Replica implements Disposable {
  readonly entries = new Map<string, string>();
  readonly told: string[] = [];
  version = 0n;
  caughtUpVersion = 0n;
  #isResumed = false;
  readonly #controller = new AbortController();
  readonly #messages: AsyncIterator<WatchEntriesResponse>;

  readonly #apiKey: string;

  constructor(
    apiKey: string,
    server: TestLeasehold,
    door: RpcDoor,
    request: { leaseId: string; prefix?: string; afterVersion?: bigint },
  ) {
    this.#apiKey = apiKey;
    const client =
      door === "connect" ? server.client(ScratchpadService, apiKey) : server.nativeClient(ScratchpadService, apiKey);
    this.#messages = client.watchEntries(request, { signal: this.#controller.signal })[Symbol.asyncIterator]();
  }

  async next(): Promise<WatchEntriesResponse> {
    const { value, done } = await this.#messages.next();
    if (done === true) {
      throw new Error("a watch ended by itself");
    }
    const message = value as WatchEntriesResponse;
    this.#apply(message);
    return message;
  }

  /** Reads on until everything up to a version has come. */
  async until(version: bigint): Promise<this> {
    while (this.caughtUpVersion < version) {
      await this.next();
    }
    return this;
  }

  #apply({ change, entry, offset, caughtUpVersion }: WatchEntriesResponse): void {
    if (entry !== undefined) {
      expect(entry.version).toBeGreaterThan(this.version);
      this.version = entry.version;
      const value = Buffer.from(entry.value).toString();
      this.told.push(`${Change[change]} ${entry.key}${value === "" ? "" : ` ${value}`}`);
      if (change === Change.SET) {
        this.entries.set(entry.key, value);
      } else if (change === Change.APPENDED) {
        const before = this.entries.get(entry.key) ?? "";
        // Behind a break what was told since the last caught_up_version comes again, and else nothing does.
        expect(BigInt(before.length)).toSatisfy((length) => (this.#isResumed ? length >= offset : length === offset));
        this.entries.set(entry.key, before.slice(0, Number(offset)) + value);
      } else {
        this.entries.delete(entry.key);
      }
    }
    if (caughtUpVersion > 0n) {
      this.caughtUpVersion = caughtUpVersion;
      this.#isResumed = false;
    }
  }

  /** Goes on in another stream, as after a break. */
  resume(server: TestLeasehold, door: RpcDoor, request: { leaseId: string; prefix?: string }): Replica {
    this[Symbol.dispose]();
    const resumed = new Replica(this.#apiKey, server, door, { ...request, afterVersion: this.caughtUpVersion });
    resumed.#isResumed = true;
    resumed.version = this.caughtUpVersion;
    resumed.caughtUpVersion = this.caughtUpVersion;
    for (const [key, value] of this.entries) {
      resumed.entries.set(key, value);
    }
    return resumed;
  }

  [Symbol.dispose](): void {
    this.#controller.abort();
  }
}
