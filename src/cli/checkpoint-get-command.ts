/** Owns `leasehold cp get`: reads a workflow's latest version, or another that is kept. */
import { createHash } from "node:crypto";
import { relative } from "node:path";
import type { Command } from "commander";
import { type Checkpoint, GetCheckpointResponseSchema } from "#gen/leasehold/v1/checkpoint_pb.js";
import { isTransientCallError } from "../client/call-error.ts";
import { type BodySink, downloadCheckpoint, findCheckpoint } from "../client/checkpoint-transfer.ts";
import type { Connection } from "../client/connection.ts";
import { PartFile } from "../client/part-file.ts";
import { Retries } from "../client/retries.ts";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { type DownloadTarget, downloadTarget, type TargetOptions } from "./download-target.ts";
import { CommandError } from "./exit-codes.ts";
import { leave } from "./get-command.ts";
import { HintedError } from "./hinted-error.ts";
import { canGoOn, localFailure } from "./local-failure.ts";
import { messageJson, note, noteRetry, print, printJson, written } from "./output.ts";
import { parseVersion } from "./parse-values.ts";
import { rememberLease } from "./pinned-leases.ts";
import { startProgress } from "./progress-bar.ts";
import { printableText, showBytes, showPairs, showText, showTime } from "./show-values.ts";

interface GetOptions extends ClientOptions, TargetOptions {
  readonly lease?: string;
  readonly version?: bigint;
}

/** Adds the command. */
export function addCheckpointGetCommand(cp: Command): void {
  clientCommand(cp, "get <workflow>", "api key", "read the latest version, or another that is kept")
    .option("--version <version>", "which one (default: the latest)", parseVersion)
    .option("--lease <lease>", "of this lease alone (default: the workflow's current one)")
    .option("-o, --output <path>", "the file or folder to write the body to (default: stdout)")
    .option("--force", "replace the file if there is one")
    .action(get);
}

async function get(workflowId: string, options: GetOptions): Promise<void> {
  const connection = connectAs("api key", options);
  const name = { workflowId, leaseId: options.lease ?? "", version: options.version ?? 0n };
  const checkpoint = await new Retries(undefined, noteRetry(options)).until(
    () => findCheckpoint(connection, name),
    isTransientCallError,
  );
  await rememberLease(connection, workflowId, checkpoint.leaseId);
  if (options.output === undefined) {
    await toStdout(connection, checkpoint, options);
    return;
  }
  const path = await toFile(connection, checkpoint, options);
  if (options.json === true) {
    const json = messageJson(GetCheckpointResponseSchema, { checkpoint: { ...checkpoint, body: new Uint8Array() } });
    printJson({ ...(json instanceof Object ? json : {}), path });
  } else {
    noteVersion(checkpoint);
    print(relative(".", path));
  }
}

async function toStdout(connection: Connection, checkpoint: Checkpoint, options: GetOptions): Promise<void> {
  const isWhole = BigInt(checkpoint.body.length) === checkpoint.bodyBytes;
  if (options.json === true) {
    if (!isWhole) {
      throw new CommandError("usage", `The body has ${checkpoint.bodyBytes} bytes, too many for JSON: add -o FILE`);
    }
    printJson(messageJson(GetCheckpointResponseSchema, { checkpoint }));
    return;
  }
  if (process.stdout.isTTY && (!isWhole || printableText(checkpoint.body) === undefined)) {
    throw new CommandError(
      "usage",
      `The body (${showBytes(checkpoint.bodyBytes)}) is no text for a terminal: add -o FILE`,
    );
  }
  noteVersion(checkpoint);
  const sink = new StdoutSink();
  await sink.append(checkpoint.body);
  await downloadCheckpoint({ connection, checkpoint, sink, onRetry: noteRetry(options) });
}

async function toFile(connection: Connection, checkpoint: Checkpoint, options: GetOptions): Promise<string> {
  const name = `${checkpoint.workflowId}-${checkpoint.version}`;
  try {
    const target = downloadTarget(options, name, name);
    await receive(connection, checkpoint, target, options);
    return target.path;
  } catch (error) {
    throw localFailure(error);
  }
}

async function receive(
  connection: Connection,
  checkpoint: Checkpoint,
  target: DownloadTarget,
  options: GetOptions,
): Promise<void> {
  const file = await PartFile.open(target.part(`${checkpoint.leaseId}-${checkpoint.version}`));
  const progress = startProgress(checkpoint.workflowId, checkpoint.bodyBytes, options.json === true);
  try {
    if (checkpoint.body.length > 0 || file.sizeBytes > checkpoint.bodyBytes) {
      await file.truncate(0n);
      await file.append(checkpoint.body);
    }
    await downloadCheckpoint({
      connection,
      checkpoint,
      sink: file,
      onProgress: (bytes) => progress.update(bytes),
      onRetry: (error) => progress.retry(error),
    });
  } catch (error) {
    await leave(file);
    const ids = { leaseId: checkpoint.leaseId, version: `${checkpoint.version}` };
    throw canGoOn(error)
      ? new HintedError(error, `repeat it with --version ${checkpoint.version} to go on`, ids)
      : error;
  } finally {
    progress.stop();
  }
  await file.complete(target.path, target);
}

function noteVersion(checkpoint: Checkpoint): void {
  const parts = [
    `version ${checkpoint.version} of ${checkpoint.workflowId}`,
    showBytes(checkpoint.bodyBytes),
    showText(checkpoint.contentType),
    `put ${showTime(checkpoint.createTime)}`,
    showPairs(checkpoint.metadata),
  ];
  note(parts.filter((part) => part !== "").join(", "));
}

/** A body that is written as it comes. */
class StdoutSink implements BodySink {
  sizeBytes = 0n;
  readonly #hash = createHash("sha256");

  async append(bytes: Uint8Array): Promise<void> {
    await written(bytes);
    this.#hash.update(bytes);
    this.sizeBytes += BigInt(bytes.length);
  }

  async digest(): Promise<Buffer> {
    return this.#hash.copy().digest();
  }
}
