/** Owns the axes of a new lease as options, which all commands that make one share. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { type CreateLeaseRequestSchema, Lease_ReadAccess } from "#gen/leasehold/v1/lease_pb.js";
import { parseDollars, parseDuration, parseLabel, parseRequestId, parseSize } from "./parse-values.ts";

/** What the options come to. */
export interface LeaseOptions {
  readonly duration: bigint;
  readonly label?: Readonly<Record<string, string>>;
  readonly ownerOnly?: boolean;
  readonly deleteOnAccess?: boolean;
  readonly maxPrice?: bigint;
}

/** The options of a lease whose room is not that of a file. */
export interface SizedLeaseOptions extends LeaseOptions {
  readonly size: bigint;
  readonly requestId?: string;
}

/** Adds the options that every new lease has. */
export function addLeaseOptions(command: Command): Command {
  return command
    .option("--label <key=value>", "a label, kept in clear; may be repeated", parseLabel)
    .option("--owner-only", "nobody else may ever read it: no handoffs")
    .option("--delete-on-access", "its handoffs end the lease with their last claim, unless they say otherwise")
    .option("--max-price <dollars>", "pay no more than this", parseDollars);
}

/** Adds them, and those of a lease whose room is not that of a file. */
export function addSizedLeaseOptions(command: Command, whatSizeMeans: string): Command {
  return addLeaseOptions(
    command
      .requiredOption("--size <size>", whatSizeMeans, parseSize)
      .requiredOption("--duration <duration>", "how long it lasts, such as 24h", parseDuration),
  ).option("--request-id <uuid>", "repeats with the same id find the same lease, and charge nothing", parseRequestId);
}

/** The terms of CreateLease that follow from the options. */
export function leaseTerms(options: LeaseOptions) {
  return {
    duration: { seconds: options.duration },
    readAccess: options.ownerOnly === true ? Lease_ReadAccess.OWNER : Lease_ReadAccess.UNSPECIFIED,
    deleteOnAccess: options.deleteOnAccess ?? false,
    labels: options.label ?? {},
    ...(options.maxPrice === undefined ? {} : { maxPriceMicros: options.maxPrice }),
  } satisfies MessageInitShape<typeof CreateLeaseRequestSchema>;
}
