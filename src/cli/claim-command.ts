/** Owns `leasehold claim` and `leasehold inspect`: what the holder of a handoff token does, without an account. */
import { randomUUID } from "node:crypto";
import { relative } from "node:path";
import type { Command } from "commander";
import {
  Handoff_StateSchema,
  type InspectHandoffResponse,
  InspectHandoffResponseSchema,
} from "#gen/leasehold/v1/handoff_pb.js";
import type { Connection } from "../client/connection.ts";
import { PartFile } from "../client/part-file.ts";
import { confirmClaim, downloadClaim } from "../client/resumable-download.ts";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { type DownloadTarget, downloadTarget, type TargetOptions } from "./download-target.ts";
import { CommandError } from "./exit-codes.ts";
import { leave } from "./get-command.ts";
import { HintedError } from "./hinted-error.ts";
import { canGoOn, localFailure } from "./local-failure.ts";
import { note, print, printFields, printJson, show } from "./output.ts";
import { startProgress } from "./progress-bar.ts";
import { showBytes, showEnum, showTime } from "./show-values.ts";

interface ClaimOptions extends ClientOptions, TargetOptions {
  readonly claimId?: string;
  readonly confirm: boolean;
}

/** Adds the commands. */
export function addClaimCommands(program: Command): void {
  clientCommand(program, "claim <token|address>", "none", "redeem a handoff token and download what it hands over")
    .option("-o, --output <path>", "the file or folder to write to (default: the content's own name, here)")
    .option("--force", "replace the file if there is one")
    .option("--claim-id <claim>", "go on with a claim that broke, in the folder where it broke")
    .option("--no-confirm", "do not say that it arrived: the claim then counts as used when its hold ends")
    .action(claim);

  clientCommand(
    program,
    "inspect <token|address>",
    "none",
    "show what a handoff token is good for; uses nothing up",
  ).action(async (text: string, options: ClientOptions) => {
    const { connection, token } = holderOf(text, options);
    const inspected = await connection.handoffs.inspectHandoff({ claimToken: token });
    show(options, InspectHandoffResponseSchema, inspected, () => printFields(inspectedFields(inspected)));
  });
}

async function claim(text: string, options: ClaimOptions): Promise<void> {
  const { connection, token } = holderOf(text, options);
  const inspected = await connection.handoffs.inspectHandoff({ claimToken: token });
  try {
    const target = downloadTarget(options, inspected.items[0]?.name ?? "", inspected.handoff?.handoffId ?? "claim");
    const received = await receive(connection, token, inspected, target, options);
    const leaseEnded = options.confirm ? await confirm(connection, token, received.claimId, target) : false;
    if (options.json) {
      printJson({ path: target.path, ...received, confirmed: options.confirm, leaseEnded });
      return;
    }
    print(relative(".", target.path));
    if (leaseEnded) {
      note("The lease has ended with this claim: its content is destroyed.");
    }
  } catch (error) {
    throw localFailure(error);
  }
}

async function receive(
  connection: Connection,
  token: string,
  inspected: InspectHandoffResponse,
  target: DownloadTarget,
  options: ClaimOptions,
): Promise<{ claimId: string; bytes: string; sha256: string }> {
  const { contentBytes, items } = inspected;
  const sha256 = (items.length === 1 ? items[0]?.sha256 : undefined) ?? new Uint8Array();
  let { claimId } = options;
  // Only an answer tells the claim's id, by which the part file is found again.
  const file = await PartFile.open(target.part(claimId ?? randomUUID()));
  const progress = startProgress(items[0]?.name || "claim", contentBytes, options.json === true);
  try {
    claimId = await downloadClaim({
      connection,
      token,
      claimId,
      file,
      contentBytes,
      sha256,
      onClaim: async (id) => {
        claimId = id;
        await file.moveTo(target.part(id));
      },
      onProgress: (bytes) => progress.update(bytes),
      onRetry: (error) => progress.retry(error),
    });
  } catch (error) {
    await leave(file);
    throw claimId !== undefined && canGoOn(error)
      ? new HintedError(error, `repeat the command with --claim-id ${claimId} to go on`, { claimId })
      : error;
  } finally {
    progress.stop();
  }
  await file.complete(target.path, target);
  return { claimId, bytes: `${contentBytes}`, sha256: Buffer.from(sha256).toString("hex") };
}

/** The file is whole and on disk by now, so a confirmation that fails loses nothing but time. */
async function confirm(
  connection: Connection,
  token: string,
  claimId: string,
  target: DownloadTarget,
): Promise<boolean> {
  try {
    return await confirmClaim({ connection }, token, claimId);
  } catch (error) {
    const hint = `${target.path} is whole, and the claim counts as used when its hold ends`;
    throw new HintedError(error, hint, { claimId, path: target.path });
  }
}

/** A claim address names the server, whatever LEASEHOLD_URL is. */
function holderOf(text: string, options: ClientOptions): { connection: Connection; token: string } {
  if (!/^https?:\/\//i.test(text)) {
    return { connection: connectAs("none", options), token: text };
  }
  const [, base, token] = /^(.*)\/api\/claim\/([^/?#]+)$/.exec(URL.parse(text)?.href ?? "") ?? [];
  if (base === undefined || token === undefined) {
    throw new CommandError("usage", "The address is no claim address: it must end in /api/claim/TOKEN");
  }
  return { connection: connectAs("none", options, base), token: decodeURIComponent(token) };
}

function inspectedFields(inspected: InspectHandoffResponse): Record<string, string> {
  const { handoff, items } = inspected;
  return {
    handoff: handoff?.handoffId ?? "",
    state: handoff === undefined ? "" : showEnum(Handoff_StateSchema, handoff.state),
    claims:
      handoff === undefined ? "" : `${handoff.usedClaims} used, ${handoff.openClaims} open, of ${handoff.maxClaims}`,
    "ends the lease": handoff?.deleteOnClaim === true ? "with the last claim" : "no",
    expires: showTime(handoff?.expireTime),
    size: showBytes(inspected.contentBytes),
    ...Object.fromEntries(
      items.flatMap((item, index) => {
        const nth = items.length === 1 ? "" : ` ${index + 1}`;
        const sha256 = Buffer.from(item.sha256).toString("hex");
        return [
          [`name${nth}`, item.name],
          [`type${nth}`, item.contentType],
          [`sha256${nth}`, sha256],
        ];
      }),
    ),
  };
}
