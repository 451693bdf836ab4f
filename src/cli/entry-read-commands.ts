/** Owns `leasehold pad get` and `leasehold pad ls`: the entries of a scratchpad, read. */
import type { Command } from "commander";
import { type Entry, GetEntryResponseSchema, ListEntriesResponseSchema } from "#gen/leasehold/v1/scratchpad_pb.js";
import { isTransientCallError } from "../client/call-error.ts";
import { Retries } from "../client/retries.ts";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { collectPages } from "./collect-pages.ts";
import { CommandError } from "./exit-codes.ts";
import { messageJson, note, noteRetry, printJson, printTable, show, written } from "./output.ts";
import { parseCount } from "./parse-values.ts";
import { printableText, showBytes, showPreview, showText, showTime } from "./show-values.ts";

interface ListOptions extends ClientOptions {
  readonly prefix?: string;
  readonly values?: boolean;
  readonly limit?: number;
}

/** Adds the commands. */
export function addEntryReadCommands(pad: Command): void {
  clientCommand(pad, "get <lease> <key>", "api key", "write an entry's value to stdout").action(get);

  clientCommand(pad, "ls <lease>", "api key", "list entries, in the order of their keys")
    .option("--prefix <text>", "those whose keys start with this")
    .option("--values", "with their values")
    .option("--limit <count>", "list no more than this", parseCount)
    .action(list);
}

async function get(leaseId: string, key: string, options: ClientOptions): Promise<void> {
  const { scratchpads } = connectAs("api key", options);
  const found = await new Retries(undefined, noteRetry(options)).until(
    () => scratchpads.getEntry({ leaseId, key }),
    isTransientCallError,
  );
  if (options.json === true) {
    printJson(messageJson(GetEntryResponseSchema, found));
  } else if (found.entry !== undefined) {
    await writeValue(found.entry);
  }
}

async function writeValue(entry: Entry): Promise<void> {
  const { expireTime, value } = entry;
  if (process.stdout.isTTY && printableText(value) === undefined) {
    throw new CommandError("usage", `The value (${showBytes(entry.valueBytes)}) is no text for a terminal: add > FILE`);
  }
  const expires = expireTime === undefined ? "" : `, until ${showTime(expireTime)}`;
  note(
    `version ${entry.version} of ${showText(entry.key)}, ${showBytes(entry.valueBytes)}, changed ${showTime(entry.updateTime)}${expires}`,
  );
  await written(value);
}

/** The version is that of the first page: what changed while the others were read is seen by whoever watches from there. */
async function list(leaseId: string, options: ListOptions): Promise<void> {
  const { scratchpads } = connectAs("api key", options);
  const asked = { leaseId, prefix: options.prefix ?? "", includeValues: options.values === true };
  let version: bigint | undefined;
  const { items: entries, nextPageToken } = await collectPages(options.limit, async (page) => {
    const response = await scratchpads.listEntries({ ...asked, ...page });
    version ??= response.version;
    return { items: response.entries, nextPageToken: response.nextPageToken };
  });
  show(options, ListEntriesResponseSchema, { entries, nextPageToken, version: version ?? 0n }, () =>
    printEntries(entries, asked.includeValues),
  );
}

function printEntries(entries: readonly Entry[], withValues: boolean): void {
  printTable(
    ["KEY", "VERSION", "SIZE", "CHANGED", "EXPIRES", ...(withValues ? ["VALUE"] : [])],
    entries.map((entry) => [
      showText(entry.key),
      `${entry.version}`,
      showBytes(entry.valueBytes),
      showTime(entry.updateTime),
      showTime(entry.expireTime),
      ...(withValues ? [showPreview(entry.value)] : []),
    ]),
    "There are no entries.",
  );
}
