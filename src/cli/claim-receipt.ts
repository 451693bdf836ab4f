/** Owns how a claim's content arrives on disk: one item as a file, several as the files of a folder. */
import { randomUUID } from "node:crypto";
import type { InspectHandoffResponse } from "#gen/leasehold/v1/handoff_pb.js";
import { downloadItems } from "../client/claim-items.ts";
import type { Connection } from "../client/connection.ts";
import { PartFile } from "../client/part-file.ts";
import { downloadClaim, type ExpectedContent } from "../client/resumable-download.ts";
import { type StagedItem, StagedItems } from "../client/staged-items.ts";
import { type DownloadTarget, itemFileName } from "./download-target.ts";
import { leave } from "./get-command.ts";
import { HintedError } from "./hinted-error.ts";
import { canGoOn } from "./local-failure.ts";
import { startProgress } from "./progress-bar.ts";

/** A claim to be received. */
export interface Claim {
  readonly connection: Connection;
  readonly token: string;
  readonly inspected: InspectHandoffResponse;
  /** The claim to go on with. Undefined: a new one. */
  readonly claimId: string | undefined;
}

/** What was received. */
export interface ReceivedClaim {
  /** Of the file or the folder. */
  readonly path: string;
  readonly claimId: string;
  readonly bytes: string;
  /** Of a file. */
  readonly sha256?: string;
  /** Of a folder. */
  readonly items?: readonly StagedItem[];
}

/** Receives a claim of one item. */
export async function receiveFile(
  claim: Claim,
  target: DownloadTarget,
  options: { readonly json?: boolean },
): Promise<ReceivedClaim> {
  const { contentBytes, items } = claim.inspected;
  let content: ExpectedContent = { contentBytes, sha256: items[0]?.sha256 ?? new Uint8Array() };
  let { claimId } = claim;
  // Only an answer tells the claim's id, by which the part file is found again.
  const file = await PartFile.open(target.part(claimId ?? randomUUID()));
  const progress = startProgress(items[0]?.name || "claim", contentBytes, options.json === true);
  try {
    claimId = await downloadClaim({
      ...claim,
      ...content,
      file,
      onClaim: async (id) => {
        claimId = id;
        await file.moveTo(target.part(id));
      },
      onContent: (told) => {
        content = told;
      },
      onProgress: (bytes) => progress.update(bytes),
      onRetry: (error) => progress.retry(error),
    });
  } catch (error) {
    await leave(file);
    throw goOnHint(error, claimId);
  } finally {
    progress.stop();
  }
  await file.complete(target.path, target);
  const sha256 = Buffer.from(content.sha256).toString("hex");
  return { path: target.path, claimId, bytes: `${content.contentBytes}`, sha256 };
}

/** Receives a claim of several items, each a file named after its item. */
export async function receiveFolder(
  claim: Claim,
  target: DownloadTarget,
  options: { readonly json?: boolean },
): Promise<ReceivedClaim> {
  let { claimId } = claim;
  const folder = await StagedItems.open(target.part(claimId ?? randomUUID()));
  const progress = startProgress("claim", claim.inspected.contentBytes, options.json === true);
  try {
    claimId = await downloadItems({
      ...claim,
      folder,
      fileNameOf: (item) => itemFileName(item.name),
      onClaim: async (id) => {
        claimId = id;
        await folder.moveTo(target.part(id));
      },
      onProgress: (bytes) => progress.update(bytes),
      onRetry: (error) => progress.retry(error),
    });
    await folder.complete(target.path);
  } catch (error) {
    await folder.leave();
    throw goOnHint(error, claimId);
  } finally {
    progress.stop();
  }
  return { path: target.path, claimId, bytes: `${folder.receivedBytes}`, items: folder.items };
}

function goOnHint(error: unknown, claimId: string | undefined): unknown {
  return claimId !== undefined && canGoOn(error)
    ? new HintedError(error, `repeat the command with --claim-id ${claimId} to go on`, { claimId })
    : error;
}
