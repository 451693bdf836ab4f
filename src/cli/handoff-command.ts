/** Owns `leasehold handoff`: tokens for a lease, issued, listed and revoked by its owner. */
import type { Command } from "commander";
import {
  Claim_StateSchema,
  Handoff_StateSchema,
  type HandoffWithClaims,
  IssueHandoffResponseSchema,
  ListHandoffsResponseSchema,
  RevokeHandoffResponseSchema,
} from "#gen/leasehold/v1/handoff_pb.js";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { collectPages } from "./collect-pages.ts";
import { addHandoffOptions, type HandoffOptions, issueHandoff } from "./handoff-options.ts";
import { note, print, printFields, printTable, show } from "./output.ts";
import { parseRequestId, parseVersion } from "./parse-values.ts";
import { showEnum, showTime } from "./show-values.ts";

interface IssueOptions extends ClientOptions, HandoffOptions {
  readonly list?: boolean;
  readonly revoke?: string;
  readonly requestId?: string;
}

/** Adds the command. */
export function addHandoffCommand(program: Command): void {
  const command = clientCommand(
    program,
    "handoff <lease>",
    "api key",
    "issue a token by which others can claim a lease",
  )
    .option("--request-id <uuid>", "makes the command safe to repeat", parseRequestId)
    .option(
      "--checkpoint-version <version>",
      "of a checkpoint: what is claimed (default: the latest then)",
      parseVersion,
    )
    .option("--list", "list the lease's tokens and their claims, instead of issuing one")
    .option("--revoke <handoff>", "stop a token at once, by its id, instead of issuing one");
  addHandoffOptions(command).action(async (leaseId: string, options: IssueOptions) => {
    if (options.list === true) {
      await list(leaseId, options);
    } else if (options.revoke === undefined) {
      await issue(leaseId, options);
    } else {
      await revoke(options.revoke, options);
    }
  });
}

/** The token is shown here and nowhere else; its address goes to stdout alone, so that a script can take it. */
async function issue(leaseId: string, options: IssueOptions): Promise<void> {
  const issued = await issueHandoff(connectAs("api key", options), leaseId, options, options.requestId);
  show(options, IssueHandoffResponseSchema, issued, () => {
    const times = issued.handoff?.maxClaims === 1 ? "once" : `${issued.handoff?.maxClaims} times`;
    note(`${issued.handoff?.handoffId}: can be claimed ${times} until ${showTime(issued.handoff?.expireTime)}`);
    print(issued.claimUrl);
  });
}

async function list(leaseId: string, options: ClientOptions): Promise<void> {
  const { handoffs: client } = connectAs("api key", options);
  const { items, nextPageToken } = await collectPages(undefined, async (page) => {
    const response = await client.listHandoffs({ leaseId, ...page });
    return { items: response.handoffs, nextPageToken: response.nextPageToken };
  });
  const handoffs = joinClaims(items);
  show(options, ListHandoffsResponseSchema, { handoffs, nextPageToken }, () => printHandoffs(handoffs));
}

async function revoke(handoffId: string, options: ClientOptions): Promise<void> {
  const revoked = await connectAs("api key", options).handoffs.revokeHandoff({ handoffId });
  show(options, RevokeHandoffResponseSchema, revoked, () =>
    printFields({ handoff: handoffId, revoked: showTime(revoked.handoff?.revokeTime) }),
  );
}

/** A handoff whose claims do not fit a page comes again on the next, with the rest. */
function joinClaims(pages: readonly HandoffWithClaims[]): HandoffWithClaims[] {
  const joined: HandoffWithClaims[] = [];
  for (const one of pages) {
    const last = joined.at(-1);
    if (last !== undefined && last.handoff?.handoffId === one.handoff?.handoffId) {
      last.claims.push(...one.claims);
    } else {
      joined.push(one);
    }
  }
  return joined;
}

function printHandoffs(handoffs: readonly HandoffWithClaims[]): void {
  printTable(
    ["HANDOFF / CLAIM", "STATE", "UNTIL", "CLAIMS"],
    handoffs.flatMap(({ handoff, claims }) => [
      [
        handoff?.handoffId ?? "",
        showEnum(Handoff_StateSchema, handoff?.state ?? 0),
        showTime(handoff?.expireTime),
        `${handoff?.usedClaims} used, ${handoff?.openClaims} open, ${handoff?.burntClaims} burnt, of ${handoff?.maxClaims}`,
      ],
      ...claims.map((claim) => [
        `  ${claim.claimId}`,
        showEnum(Claim_StateSchema, claim.state),
        showTime(claim.endTime ?? claim.holdExpireTime),
        `${claim.deliveredBytes} bytes delivered`,
      ]),
    ]),
    "No token has been issued.",
  );
}
