/** Owns `leasehold get`: downloads a lease of the caller's to a file. */
import { relative } from "node:path";
import type { Command } from "commander";
import type { Lease } from "#gen/leasehold/v1/lease_pb.js";
import type { Connection } from "../client/connection.ts";
import { PartFile } from "../client/part-file.ts";
import { downloadLease } from "../client/resumable-download.ts";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { type DownloadTarget, downloadTarget, type TargetOptions } from "./download-target.ts";
import { HintedError } from "./hinted-error.ts";
import { canGoOn, localFailure } from "./local-failure.ts";
import { print, printJson } from "./output.ts";
import { startProgress } from "./progress-bar.ts";

interface GetOptions extends ClientOptions, TargetOptions {}

/** Adds the command. */
export function addGetCommand(program: Command): void {
  clientCommand(program, "get <lease>", "api key", "download a lease's content; repeat it to go on after it broke")
    .option("-o, --output <path>", "the file or folder to write to (default: the content's own name, here)")
    .option("--force", "replace the file if there is one")
    .action(get);
}

async function get(leaseId: string, options: GetOptions): Promise<void> {
  const connection = connectAs("api key", options);
  const { lease } = await connection.leases.getLease({ leaseId });
  try {
    const name = lease?.details.case === "storage" ? lease.details.value.fileName : "";
    const target = downloadTarget(options, name, leaseId);
    const received = await receive(connection, leaseId, lease, target, options);
    if (options.json) {
      printJson({ leaseId, path: target.path, ...received });
    } else {
      print(relative(".", target.path));
    }
  } catch (error) {
    throw localFailure(error);
  }
}

async function receive(
  connection: Connection,
  leaseId: string,
  lease: Lease | undefined,
  target: DownloadTarget,
  options: GetOptions,
): Promise<{ bytes: string; sha256: string }> {
  const details = lease?.details.case === "storage" ? lease.details.value : undefined;
  const contentBytes = details?.storedBytes ?? 0n;
  const sha256 = details?.sha256 ?? new Uint8Array();
  const file = await PartFile.open(target.part(leaseId));
  const progress = startProgress(leaseId, contentBytes, options.json === true);
  try {
    await downloadLease(leaseId, {
      connection,
      file,
      contentBytes,
      sha256,
      onProgress: (bytes) => progress.update(bytes),
      onRetry: (error) => progress.retry(error),
    });
  } catch (error) {
    await leave(file);
    throw canGoOn(error) ? new HintedError(error, "repeat the command to go on", { leaseId }) : error;
  } finally {
    progress.stop();
  }
  await file.complete(target.path, target);
  return { bytes: `${contentBytes}`, sha256: Buffer.from(sha256).toString("hex") };
}

/** Keeps what arrived, for a later download. */
export async function leave(file: PartFile): Promise<void> {
  if (file.sizeBytes === 0n) {
    await file.discard();
  } else {
    await file.close();
  }
}
