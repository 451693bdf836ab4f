/** Owns `leasehold cp`: `create`, `log` and `watch` of a workflow's checkpoints. */
import { randomUUID } from "node:crypto";
import type { Command } from "commander";
import {
  type Checkpoint,
  ListCheckpointVersionsResponseSchema,
  WatchCheckpointResponseSchema,
} from "#gen/leasehold/v1/checkpoint_pb.js";
import { CreateLeaseResponseSchema } from "#gen/leasehold/v1/lease_pb.js";
import { isTransientCallError } from "../client/call-error.ts";
import { Retries } from "../client/retries.ts";
import { readBody } from "./body-input.ts";
import { addCheckpointGetCommand } from "./checkpoint-get-command.ts";
import { addCheckpointPutCommand } from "./checkpoint-put-command.ts";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { collectPages } from "./collect-pages.ts";
import { follow } from "./follow.ts";
import { addSizedLeaseOptions, leaseTerms, type SizedLeaseOptions } from "./lease-options.ts";
import { messageJson, note, noteRetry, print, printed, printTable, show } from "./output.ts";
import { parseCount, parseLabel, parseVersion } from "./parse-values.ts";
import { rememberLease } from "./pinned-leases.ts";
import { showBytes, showDollars, showPairs, showText, showTime } from "./show-values.ts";

interface CreateOptions extends ClientOptions, SizedLeaseOptions {
  readonly versions?: number;
  readonly initial?: string;
  readonly type?: string;
  readonly meta?: Readonly<Record<string, string>>;
}

interface LeaseOption extends ClientOptions {
  readonly lease?: string;
}

/** The largest message limit that a server can be set to. */
const largestInitialBytes = 64 * 1024 * 1024;

/** Adds the commands. */
export function addCheckpointCommands(program: Command): void {
  const cp = program.command("cp").description("checkpoints, which keep the latest states of a workflow");
  const create = clientCommand(cp, "create <workflow>", "api key", "lease room for a workflow; prints the lease's id");
  addSizedLeaseOptions(create, "the largest body of a version")
    .option("--versions <count>", "how many versions are kept (default: 10, up to which they are free)", parseCount)
    .option("--initial <file>", "version 1, made with the lease")
    .option("--type <type>", "its media type (default: application/octet-stream)")
    .option("--meta <key=value>", "a word about it; may be repeated", parseLabel)
    .action(createLease);
  addCheckpointPutCommand(cp);
  addCheckpointGetCommand(cp);

  clientCommand(cp, "log <workflow>", "api key", "list the versions that are kept, newest first")
    .option("--lease <lease>", "of this lease alone (default: the workflow's current one)")
    .option("--limit <count>", "list no more than this", parseCount)
    .action(log);

  clientCommand(cp, "watch <workflow>", "api key", "show the current version and each newer one, until Ctrl-C")
    .addHelpText("after", "\nWith --json each version is one JSON document on a line of its own, with its body.")
    .option("--lease <lease>", "of this lease alone (default: the workflow's current one)")
    .option("--after <version>", "begin after this version (default: with the current one)", parseVersion)
    .action(watch);
}

async function createLease(workflowId: string, options: CreateOptions): Promise<void> {
  const connection = connectAs("api key", options);
  const requestId = options.requestId ?? randomUUID();
  const initial = await initialOf(options);
  const made = await new Retries(undefined, noteRetry(options)).until(
    () =>
      connection.leases.createLease({
        ...leaseTerms(options),
        requestId,
        sizeBytes: options.size,
        variant: {
          case: "checkpoint",
          value: { workflowId, retainedVersions: options.versions ?? 0, ...(initial === undefined ? {} : { initial }) },
        },
      }),
    isTransientCallError,
  );
  await rememberLease(connection, workflowId, made.lease?.leaseId ?? "");
  show(options, CreateLeaseResponseSchema, made, () => {
    const { lease } = made;
    note(
      `${showBytes(lease?.sizeBytes ?? 0n)} a version until ${showTime(lease?.expireTime)} for ${showDollars(lease?.priceMicros ?? 0n)}`,
    );
    print(lease?.leaseId ?? "");
  });
}

async function initialOf(options: CreateOptions) {
  return options.initial === undefined
    ? undefined
    : {
        body: await readBody(
          { file: options.initial },
          largestInitialBytes,
          "the most that comes with a lease: put it",
        ),
        contentType: options.type ?? "",
        metadata: options.meta ?? {},
      };
}

async function log(workflowId: string, options: LeaseOption & { readonly limit?: number }): Promise<void> {
  const { checkpoints: client } = connectAs("api key", options);
  const name = { workflowId, leaseId: options.lease ?? "" };
  const { items: checkpoints, nextPageToken } = await collectPages(options.limit, async (page) => {
    const response = await client.listCheckpointVersions({ ...name, ...page });
    return { items: response.checkpoints, nextPageToken: response.nextPageToken };
  });
  show(options, ListCheckpointVersionsResponseSchema, { checkpoints, nextPageToken }, () =>
    printTable(
      ["VERSION", "SIZE", "TYPE", "PUT", "SHA-256", "METADATA"],
      checkpoints.map(versionCells),
      "There is no version yet.",
    ),
  );
}

/** After a break it goes on behind what was shown last, so nothing is shown twice. */
async function watch(workflowId: string, options: LeaseOption & { readonly after?: bigint }): Promise<void> {
  const { checkpoints: client } = connectAs("api key", options);
  let afterVersion = options.after ?? 0n;
  let leaseId = options.lease ?? "";
  await follow({
    open: (call) => client.watchCheckpoint({ workflowId, leaseId, afterVersion }, call),
    onRetry: noteRetry(options),
    async each(response) {
      const { checkpoint } = response;
      if (checkpoint === undefined) {
        return;
      }
      ({ version: afterVersion, leaseId } = checkpoint);
      await printed(
        options.json === true
          ? JSON.stringify(messageJson(WatchCheckpointResponseSchema, response))
          : versionCells(checkpoint).join("  ").trimEnd(),
      );
    },
  });
}

function versionCells(checkpoint: Checkpoint): string[] {
  return [
    `${checkpoint.version}`,
    showBytes(checkpoint.bodyBytes),
    showText(checkpoint.contentType),
    showTime(checkpoint.createTime),
    Buffer.from(checkpoint.sha256).toString("hex").slice(0, 12),
    showPairs(checkpoint.metadata),
  ];
}
