/** Owns `leasehold pad watch`: a scratchpad's entries, and each change to them, as they come. */
import type { Command } from "commander";
import {
  WatchEntriesResponse_Change as Change,
  type Entry,
  type WatchEntriesResponse,
  WatchEntriesResponse_ChangeSchema,
  WatchEntriesResponseSchema,
} from "#gen/leasehold/v1/scratchpad_pb.js";
import { CallError } from "../client/call-error.ts";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { follow } from "./follow.ts";
import { HintedError } from "./hinted-error.ts";
import { messageJson, noteRetry, printed } from "./output.ts";
import { parseVersion } from "./parse-values.ts";
import { showBytes, showEnum, showPreview, showText } from "./show-values.ts";
import { ShownChanges } from "./shown-changes.ts";

interface WatchOptions extends ClientOptions {
  readonly prefix?: string;
  readonly after?: bigint;
}

/** Adds the command. */
export function addEntryWatchCommand(pad: Command): void {
  clientCommand(pad, "watch <lease>", "api key", "show the entries and each change to them, until Ctrl-C")
    .addHelpText(
      "after",
      "\nWith --json each change is one JSON document on a line of its own; caughtUpVersion is what to begin after.",
    )
    .option("--prefix <text>", "those whose keys start with this")
    .option("--after <version>", "begin after this version (default: with the entries there are)", parseVersion)
    .action(watch);
}

async function watch(leaseId: string, options: WatchOptions): Promise<void> {
  const { scratchpads } = connectAs("api key", options);
  const prefix = options.prefix ?? "";
  const shown = new ShownChanges(options.after);
  try {
    await follow({
      open: (call) => scratchpads.watchEntries({ leaseId, prefix, ...shown.resumption() }, call),
      onRetry: noteRetry(options),
      async each(response) {
        const news = shown.newsIn(response);
        if (options.json === true) {
          await printed(JSON.stringify(messageJson(WatchEntriesResponseSchema, news)));
        } else if (news.entry !== undefined) {
          await printed(lineOf(news, news.entry));
        }
      },
    });
  } catch (error) {
    throw error instanceof CallError && error.reason === "VERSION_GONE"
      ? new HintedError(error, `leasehold pad watch ${leaseId} begins with the entries there are`, { leaseId })
      : error;
  }
}

function lineOf({ change, offset }: WatchEntriesResponse, entry: Entry): string {
  const cells = [`${entry.version}`, showEnum(WatchEntriesResponse_ChangeSchema, change), showText(entry.key)];
  switch (change) {
    case Change.SET:
      return [...cells, showBytes(entry.valueBytes), showPreview(entry.value)].join("  ").trimEnd();
    case Change.APPENDED:
      return [...cells, `${showBytes(BigInt(entry.value.length))} at ${offset}`, showPreview(entry.value)]
        .join("  ")
        .trimEnd();
    default:
      return cells.join("  ");
  }
}
