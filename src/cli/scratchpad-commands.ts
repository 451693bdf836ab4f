/** Owns `leasehold pad`: scratchpads, made here, and their entries, whose commands are added from their own files. */
import { randomUUID } from "node:crypto";
import type { Command } from "commander";
import { CreateLeaseResponseSchema } from "#gen/leasehold/v1/lease_pb.js";
import { isTransientCallError } from "../client/call-error.ts";
import { Retries } from "../client/retries.ts";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { addEntryReadCommands } from "./entry-read-commands.ts";
import { addEntryWatchCommand } from "./entry-watch-command.ts";
import { addEntryWriteCommands } from "./entry-write-commands.ts";
import { addSizedLeaseOptions, leaseTerms, type SizedLeaseOptions } from "./lease-options.ts";
import { note, noteRetry, print, show } from "./output.ts";
import { parseByteCount } from "./parse-values.ts";
import { showBytes, showDollars, showTime } from "./show-values.ts";

interface CreateOptions extends ClientOptions, SizedLeaseOptions {
  readonly maxEntry?: number;
}

/** Adds the commands. */
export function addScratchpadCommands(program: Command): void {
  const pad = program.command("pad").description("scratchpads, whose entries several workers read, change and watch");
  const create = clientCommand(pad, "create", "api key", "lease a scratchpad; prints the lease's id");
  addSizedLeaseOptions(create, "all entries together: keys, values, 256 bytes for each entry and 128 for each append")
    .option("--max-entry <size>", "the largest value of an entry (default: 1MiB, or the size)", parseByteCount)
    .action(createScratchpad);
  addEntryWriteCommands(pad);
  addEntryReadCommands(pad);
  addEntryWatchCommand(pad);
}

async function createScratchpad(options: CreateOptions): Promise<void> {
  const { leases } = connectAs("api key", options);
  const requestId = options.requestId ?? randomUUID();
  const made = await new Retries(undefined, noteRetry(options)).until(
    () =>
      leases.createLease({
        ...leaseTerms(options),
        requestId,
        sizeBytes: options.size,
        variant: { case: "scratchpad", value: { maxEntryBytes: options.maxEntry ?? 0 } },
      }),
    isTransientCallError,
  );
  show(options, CreateLeaseResponseSchema, made, () => {
    const { lease } = made;
    note(
      `${showBytes(lease?.sizeBytes ?? 0n)} until ${showTime(lease?.expireTime)} for ${showDollars(lease?.priceMicros ?? 0n)}`,
    );
    print(lease?.leaseId ?? "");
  });
}
