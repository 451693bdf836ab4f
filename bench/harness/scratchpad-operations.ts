/** What the load does with scratchpads. An input is a lease and a key of it. */
import { randomBytes } from "node:crypto";
import { LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { ScratchpadService } from "#gen/leasehold/v1/scratchpad_pb.js";
import type { Operation } from "./load-target.ts";

/** Of the value of one entry: as many as a checkpoint's body has. */
export const entryBytes = 4096;
/** Of what one append adds. */
const lineBytes = 128;
/** Room for the entries of every caller, and for all that is appended in a run. */
const padBytes = 256n * 1_048_576n;

const value = randomBytes(entryBytes);
const line = randomBytes(lineBytes);

export const scratchpadOperations = {
  async createScratchpad({ grpc }) {
    const { lease } = await grpc.unary(LeaseService.method.createLease, {
      sizeBytes: padBytes,
      duration: { seconds: 3_600n },
      variant: { case: "scratchpad", value: {} },
    });
    return lease?.leaseId ?? "";
  },

  async setEntry({ grpc }, input) {
    const { version } = await grpc.unary(ScratchpadService.method.setEntry, { ...entryOf(input), value });
    return `${version}`;
  },

  async getEntry({ grpc }, input) {
    const { entry } = await grpc.unary(ScratchpadService.method.getEntry, entryOf(input));
    if (entry?.value.length !== entryBytes) {
      throw new Error(`${entry?.value.length} bytes came instead of ${entryBytes}`);
    }
    return `${entry.version}`;
  },

  /** To a log of at most as much as an entry holds: every so often it begins anew. */
  async appendToEntry({ grpc }, input) {
    const { offset } = await grpc.unary(ScratchpadService.method.appendToEntry, { ...entryOf(input), value: line });
    if (offset > 900_000n) {
      await grpc.unary(ScratchpadService.method.deleteEntry, entryOf(input));
    }
    return `${offset}`;
  },

  async incrementEntry({ grpc }, input) {
    return `${(await grpc.unary(ScratchpadService.method.incrementEntry, entryOf(input))).value}`;
  },
} as const satisfies Readonly<Record<string, Operation>>;

function entryOf(input: string): { readonly leaseId: string; readonly key: string } {
  const [leaseId = "", key = ""] = input.split(" ");
  return { leaseId, key };
}
