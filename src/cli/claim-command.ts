/** Owns `leasehold claim` and `leasehold inspect`: what the holder of a handoff token does, without an account. */
import { join, relative } from "node:path";
import type { Command } from "commander";
import {
  Handoff_StateSchema,
  type HandoffItem,
  type InspectHandoffResponse,
  InspectHandoffResponseSchema,
} from "#gen/leasehold/v1/handoff_pb.js";
import { Lease_Variant, Lease_VariantSchema } from "#gen/leasehold/v1/lease_pb.js";
import { confirmClaim } from "../client/resumable-download.ts";
import { type Claim, type ReceivedClaim, receiveFile, receiveFolder } from "./claim-receipt.ts";
import { type ClientOptions, clientCommand } from "./client-command.ts";
import { downloadTarget, type TargetOptions } from "./download-target.ts";
import { HintedError } from "./hinted-error.ts";
import { localFailure } from "./local-failure.ts";
import { note, print, printFields, printJson, printTable, show } from "./output.ts";
import { showBytes, showEnum, showPairs, showText, showTime } from "./show-values.ts";
import { holderOf } from "./token-holder.ts";

interface ClaimOptions extends ClientOptions, TargetOptions {
  readonly claimId?: string;
  readonly confirm: boolean;
}

/** Adds the commands. */
export function addClaimCommands(program: Command): void {
  clientCommand(program, "claim <token|address>", "none", "redeem a handoff token and download what it hands over")
    .addHelpText(
      "after",
      "\nThe messages of a mailbox and the entries of a scratchpad come as files of a folder, and items.jsonl in it tells\nwhat each is.",
    )
    .option("-o, --output <path>", "the file or folder to write to (default: the content's own name, here)")
    .option("--force", "replace the file if there is one; a folder is never replaced")
    .option("--claim-id <claim>", "go on with a claim that broke, in the folder where it broke")
    .option("--no-confirm", "do not say that it arrived: the claim then counts as used when its hold ends")
    .action(claim);

  clientCommand(
    program,
    "inspect <token|address>",
    "none",
    "show what a handoff token is good for; uses nothing up",
  ).action(async (text: string, options: ClientOptions) => {
    const { connection, token } = holderOf("claim", text, options);
    const inspected = await connection.handoffs.inspectHandoff({ claimToken: token });
    show(options, InspectHandoffResponseSchema, inspected, () => {
      printFields(inspectedFields(inspected));
      printItems(inspected);
    });
  });
}

async function claim(text: string, options: ClaimOptions): Promise<void> {
  const { connection, token } = holderOf("claim", text, options);
  const inspected = await connection.handoffs.inspectHandoff({ claimToken: token });
  try {
    const received = await receive({ connection, token, inspected, claimId: options.claimId }, options);
    const leaseEnded = options.confirm ? await confirm({ connection, token }, received) : false;
    if (options.json) {
      printJson({ ...received, confirmed: options.confirm, leaseEnded });
      return;
    }
    const paths = received.items?.map((item) => join(received.path, item.file)) ?? [received.path];
    print(...paths.map((path) => relative(".", path)));
    if (leaseEnded) {
      note("The lease has ended with this claim: its content is destroyed.");
    }
  } catch (error) {
    throw localFailure(error);
  }
}

async function receive(claim: Claim, options: ClaimOptions): Promise<ReceivedClaim> {
  const { handoff, items } = claim.inspected;
  const isSeveral = hasSeveralItems(claim.inspected);
  const nameless = handoff?.handoffId ?? "claim";
  const target = downloadTarget(
    { ...options, force: options.force === true && !isSeveral },
    isSeveral ? "" : (items[0]?.name ?? ""),
    nameless,
  );
  return await (isSeveral ? receiveFolder : receiveFile)(claim, target, options);
}

/** What is handed over is on disk by now, so a confirmation that fails loses nothing but time. */
async function confirm(holder: Pick<Claim, "connection" | "token">, received: ReceivedClaim): Promise<boolean> {
  const { claimId, path } = received;
  try {
    return await confirmClaim(holder, holder.token, claimId);
  } catch (error) {
    const hint = `${path} is whole, and the claim counts as used when its hold ends`;
    throw new HintedError(error, hint, { claimId, path });
  }
}

/** However many they are just now: what is claimed are those of the moment when the claim is made. */
function hasSeveralItems({ variant }: InspectHandoffResponse): boolean {
  return variant === Lease_Variant.MAILBOX || variant === Lease_Variant.SCRATCHPAD;
}

function inspectedFields(inspected: InspectHandoffResponse): Record<string, string> {
  const { handoff, items } = inspected;
  return {
    handoff: handoff?.handoffId ?? "",
    of: showEnum(Lease_VariantSchema, inspected.variant),
    state: handoff === undefined ? "" : showEnum(Handoff_StateSchema, handoff.state),
    claims:
      handoff === undefined ? "" : `${handoff.usedClaims} used, ${handoff.openClaims} open, of ${handoff.maxClaims}`,
    "ends the lease": handoff?.deleteOnClaim === true ? "with the last claim" : "no",
    expires: showTime(handoff?.expireTime),
    size: showBytes(inspected.contentBytes),
    ...(hasSeveralItems(inspected) ? { items: `${inspected.itemCount}` } : itemFields(items[0])),
  };
}

function itemFields(item: HandoffItem | undefined): Record<string, string> {
  return {
    name: showText(item?.name ?? ""),
    type: showText(item?.contentType ?? ""),
    sha256: Buffer.from(item?.sha256 ?? []).toString("hex"),
    metadata: showPairs(item?.attributes ?? {}),
    put: showTime(item?.createTime),
  };
}

/** The first of them, if they are several. */
function printItems(inspected: InspectHandoffResponse): void {
  if (!hasSeveralItems(inspected) || inspected.items.length === 0) {
    return;
  }
  print("");
  printTable(
    ["ITEM", "SIZE", "TYPE", inspected.variant === Lease_Variant.MAILBOX ? "DROPPED" : "CHANGED", "ATTRIBUTES"],
    inspected.items.map((item) => [
      showText(item.name),
      showBytes(item.sizeBytes),
      showText(item.contentType),
      showTime(item.createTime),
      showPairs(item.attributes),
    ]),
    "",
  );
  if (inspected.itemCount > BigInt(inspected.items.length)) {
    note(`and ${inspected.itemCount - BigInt(inspected.items.length)} more`);
  }
}
