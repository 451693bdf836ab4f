/** Owns `leasehold cp put`: writes a workflow's next version. */
import { randomUUID } from "node:crypto";
import type { Command } from "commander";
import { type Checkpoint, PutCheckpointResponseSchema } from "#gen/leasehold/v1/checkpoint_pb.js";
import { CallError, isTransientCallError } from "../client/call-error.ts";
import { type CheckpointPut, requireCheckpoint, uploadCheckpoint } from "../client/checkpoint-transfer.ts";
import type { Connection } from "../client/connection.ts";
import { Retries } from "../client/retries.ts";
import { type BodyInput, openBody } from "./body-input.ts";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { HintedError } from "./hinted-error.ts";
import { note, noteRetry, print, show } from "./output.ts";
import { parseLabel, parseRequestId, parseVersion } from "./parse-values.ts";
import { rememberedLease } from "./pinned-leases.ts";
import { showBytes } from "./show-values.ts";

interface PutOptions extends ClientOptions {
  readonly lease?: string;
  readonly expected?: bigint;
  readonly type?: string;
  readonly meta?: Readonly<Record<string, string>>;
  readonly requestId?: string;
}

/** Below the smallest message limit that a server can be set to: what is larger is streamed. */
const largestHeldBytes = 96 * 1024;

/** Adds the command. */
export function addCheckpointPutCommand(cp: Command): void {
  clientCommand(cp, "put <workflow> [file]", "api key", "write the next version; prints its number")
    .addHelpText("after", "\nThe body comes from stdin if no file is named, or the file is `-`.")
    .option("--lease <lease>", "into this lease alone (default: the one last made or read here, else the current one)")
    .option("--expected <version>", "only if this is the latest version; 0: only if there is none", parseVersion)
    .option("--type <type>", "its media type (default: application/octet-stream)")
    .option("--meta <key=value>", "a word about it; may be repeated", parseLabel)
    .option("--request-id <uuid>", "repeats with the same id, within ten minutes, write nothing", parseRequestId)
    .action(put);
}

async function put(workflowId: string, file: string | undefined, options: PutOptions): Promise<void> {
  const connection = connectAs("api key", options);
  const body = await openBody({ file }, largestHeldBytes);
  const remembered = options.lease === undefined ? await rememberedLease(connection, workflowId) : undefined;
  const requestId = options.requestId ?? randomUUID();
  const request: CheckpointPut = {
    workflowId,
    leaseId: options.lease ?? remembered ?? "",
    contentType: options.type ?? "",
    metadata: options.meta ?? {},
    requestId,
    ...(options.expected === undefined ? {} : { expectedVersion: options.expected }),
  };
  try {
    const checkpoint = await send(connection, request, body, options);
    show(options, PutCheckpointResponseSchema, { checkpoint }, () => {
      note(`version ${checkpoint.version} of ${workflowId}, ${showBytes(checkpoint.bodyBytes)}`);
      print(`${checkpoint.version}`);
    });
  } catch (error) {
    throw hinted(error, workflowId, requestId, remembered);
  }
}

/** Repeated with the same request_id while that may help, and the body can be read again. */
async function send(
  connection: Connection,
  request: CheckpointPut,
  body: BodyInput,
  options: PutOptions,
): Promise<Checkpoint> {
  const retries = new Retries(undefined, noteRetry(options));
  if (body.kind === "held") {
    const { checkpoint } = await retries.until(
      () => connection.checkpoints.putCheckpoint({ ...request, body: body.bytes }),
      isTransientCallError,
    );
    return requireCheckpoint(connection, checkpoint);
  }
  const upload = () => uploadCheckpoint(connection, request, body.read());
  return body.isRepeatable ? await retries.until(upload, isTransientCallError) : await upload();
}

function hinted(error: unknown, workflowId: string, requestId: string, remembered: string | undefined): unknown {
  if (isTransientCallError(error)) {
    return new HintedError(error, `repeat it with --request-id ${requestId}, which writes it once`, { requestId });
  }
  return remembered !== undefined && error instanceof CallError && isOver(error)
    ? new HintedError(
        error,
        `${remembered} is the lease last made or read here: leasehold cp get ${workflowId} finds the current one`,
        { leaseId: remembered },
      )
    : error;
}

function isOver(error: CallError): boolean {
  return error.reason === "LEASE_ENDED" || error.reason === "NOT_FOUND";
}
