/** Owns `leasehold pad set`, `append`, `incr` and `rm`: what changes the entries of a scratchpad. */
import { randomUUID } from "node:crypto";
import type { Command } from "commander";
import {
  AppendToEntryResponseSchema,
  DeleteEntryResponseSchema,
  IncrementEntryResponseSchema,
  SetEntryResponseSchema,
} from "#gen/leasehold/v1/scratchpad_pb.js";
import { isTransientCallError } from "../client/call-error.ts";
import { Retries } from "../client/retries.ts";
import { readBody } from "./body-input.ts";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { CommandError } from "./exit-codes.ts";
import { HintedError } from "./hinted-error.ts";
import { note, noteRetry, print, show } from "./output.ts";
import { parseDuration, parseInteger, parseRequestId, parseVersion } from "./parse-values.ts";
import { showText } from "./show-values.ts";

interface WriteOptions extends ClientOptions {
  readonly requestId?: string;
}

interface SetOptions extends WriteOptions {
  readonly text?: string;
  readonly ttl?: bigint;
  readonly expected?: bigint;
}

interface AppendOptions extends WriteOptions {
  readonly text?: string;
  readonly line?: string;
  readonly ttl?: bigint;
}

interface IncrementOptions extends WriteOptions {
  readonly by?: bigint;
  readonly ttl?: bigint;
}

interface RemoveOptions extends WriteOptions {
  readonly expected?: bigint;
}

/** The largest value that any scratchpad takes. */
const largestValueBytes = 1024 * 1024;
const limitOf = "the most that an entry can have";
const fromWhere = "\nThe value comes from stdin if no file is named, or the file is `-`.";

/** Adds the commands. */
export function addEntryWriteCommands(pad: Command): void {
  writeCommand(pad, "set <lease> <key> [file]", "make an entry, or replace it; prints its version")
    .addHelpText("after", fromWhere)
    .option("--text <text>", "the value itself, instead of a file")
    .option("--ttl <duration>", "how long it lasts (default: as long as the lease)", parseDuration)
    .option("--expected <version>", "only if it is at this version; 0: only if it is not there", parseVersion)
    .action(set);

  writeCommand(pad, "append <lease> <key> [file]", "add to the end of an entry; prints its version")
    .addHelpText("after", fromWhere)
    .option("--text <text>", "what to add, instead of a file")
    .option("--line <text>", "what to add, and the end of the line")
    .option("--ttl <duration>", "how long it lasts, if this makes it (default: as long as the lease)", parseDuration)
    .action(append);

  writeCommand(pad, "incr <lease> <key>", "add to a counter, which begins at 0; prints its value")
    .option("--by <amount>", "how much to add (default: 1)", parseInteger)
    .option("--ttl <duration>", "how long it lasts, if this makes it (default: as long as the lease)", parseDuration)
    .action(increment);

  writeCommand(pad, "rm <lease> <key>", "destroy an entry, if it is there; prints the version of that")
    .option("--expected <version>", "only if it is at this version", parseVersion)
    .action(remove);
}

function writeCommand(pad: Command, usage: string, description: string): Command {
  return clientCommand(pad, usage, "api key", description).option(
    "--request-id <uuid>",
    "repeats with the same id, within ten minutes, change nothing",
    parseRequestId,
  );
}

async function set(leaseId: string, key: string, file: string | undefined, options: SetOptions): Promise<void> {
  const { scratchpads } = connectAs("api key", options);
  const value = await readBody({ file, text: options.text }, largestValueBytes, limitOf);
  const entry = { leaseId, key, value, ...ttlOf(options), ...expectedOf(options) };
  const written = await changed(options, (requestId) => scratchpads.setEntry({ ...entry, requestId }));
  show(options, SetEntryResponseSchema, written, () => print(`${written.version}`));
}

async function append(leaseId: string, key: string, file: string | undefined, options: AppendOptions): Promise<void> {
  const { scratchpads } = connectAs("api key", options);
  if (options.line !== undefined && options.text !== undefined) {
    throw new CommandError("usage", "What to add is given twice: with --text and with --line");
  }
  const text = options.line === undefined ? options.text : `${options.line}\n`;
  const value = await readBody({ file, text }, largestValueBytes, limitOf);
  const entry = { leaseId, key, value, ...ttlOf(options) };
  const appended = await changed(options, (requestId) => scratchpads.appendToEntry({ ...entry, requestId }));
  show(options, AppendToEntryResponseSchema, appended, () => print(`${appended.version}`));
}

async function increment(leaseId: string, key: string, options: IncrementOptions): Promise<void> {
  const { scratchpads } = connectAs("api key", options);
  const entry = { leaseId, key, ...(options.by === undefined ? {} : { delta: options.by }), ...ttlOf(options) };
  const counted = await changed(options, (requestId) => scratchpads.incrementEntry({ ...entry, requestId }));
  show(options, IncrementEntryResponseSchema, counted, () => print(`${counted.value}`));
}

async function remove(leaseId: string, key: string, options: RemoveOptions): Promise<void> {
  const { scratchpads } = connectAs("api key", options);
  const entry = { leaseId, key, ...expectedOf(options) };
  const deleted = await changed(options, (requestId) => scratchpads.deleteEntry({ ...entry, requestId }));
  show(options, DeleteEntryResponseSchema, deleted, () => {
    if (deleted.version === 0n) {
      note(`There was no entry ${showText(key)}.`);
    } else {
      print(`${deleted.version}`);
    }
  });
}

/** Repeated with the same request_id while that may help: it is done once. */
async function changed<Answer>(options: WriteOptions, change: (requestId: string) => Promise<Answer>): Promise<Answer> {
  const requestId = options.requestId ?? randomUUID();
  try {
    return await new Retries(undefined, noteRetry(options)).until(() => change(requestId), isTransientCallError);
  } catch (error) {
    throw isTransientCallError(error)
      ? new HintedError(error, `repeat it with --request-id ${requestId}, which does it once`, { requestId })
      : error;
  }
}

function ttlOf({ ttl }: { readonly ttl?: bigint }) {
  return ttl === undefined ? {} : { ttl: { seconds: ttl } };
}

function expectedOf({ expected }: { readonly expected?: bigint }) {
  return expected === undefined ? {} : { expectedVersion: expected };
}
