/** Owns `leasehold put`: leases room for a file and uploads it, resuming whenever the connection breaks. */
import { randomUUID } from "node:crypto";
import { basename } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Command, Option } from "commander";
import { type IssueHandoffResponse, IssueHandoffResponseSchema } from "#gen/leasehold/v1/handoff_pb.js";
import { type CreateLeaseRequestSchema, type Lease, LeaseSchema } from "#gen/leasehold/v1/lease_pb.js";
import { isTransientCallError } from "../client/call-error.ts";
import type { Connection } from "../client/connection.ts";
import { fileSource } from "../client/file-source.ts";
import { type UploadSource, uploadResumably } from "../client/resumable-upload.ts";
import { Retries } from "../client/retries.ts";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { CommandError } from "./exit-codes.ts";
import { addHandoffOptions, type HandoffOptions, issueHandoff } from "./handoff-options.ts";
import { HintedError } from "./hinted-error.ts";
import { addLeaseOptions, type LeaseOptions, leaseTerms } from "./lease-options.ts";
import { canGoOn, localFailure } from "./local-failure.ts";
import { messageJson, note, print, printJson } from "./output.ts";
import { parseDuration, parseRequestId, parseSize } from "./parse-values.ts";
import { startProgress } from "./progress-bar.ts";
import { showBytes, showDollars, showTime } from "./show-values.ts";

interface PutOptions extends ClientOptions, LeaseOptions, HandoffOptions {
  readonly duration: bigint;
  readonly size?: bigint;
  readonly name?: string;
  readonly contentType?: string;
  readonly lease?: string;
  readonly requestId?: string;
  readonly handoff?: boolean;
}

/** Adds the command. */
export function addPutCommand(program: Command): void {
  const command = clientCommand(
    program,
    "put <file>",
    "api key",
    "lease room for a file and upload it; prints the lease's id",
  )
    .addOption(
      new Option("--duration <duration>", "how long to keep it").argParser(parseDuration).default(86_400n, "24h"),
    )
    .option("--size <size>", "the room to pay for (default: the file's size)", parseSize)
    .option("--name <name>", "the name to keep it under (default: the file's)")
    .option("--content-type <type>", "its media type (default: application/octet-stream)");
  addLeaseOptions(command)
    .option("--lease <lease>", "go on with an upload to this lease, instead of making one")
    .option("--request-id <uuid>", "repeats with the same id find the same lease, and go on with it", parseRequestId)
    .option("--handoff", "issue a token too, and print the address to claim it at; the options below set its terms");
  addHandoffOptions(command).action(put);
}

async function put(file: string, options: PutOptions): Promise<void> {
  const connection = connectAs("api key", options);
  const source = await fileSource(file).catch((error: unknown) => {
    throw localFailure(error);
  });
  if (options.size !== undefined && options.size < source.sizeBytes) {
    throw new CommandError("usage", `${file} has ${source.sizeBytes} bytes, and does not fit in ${options.size}`);
  }
  const begun = await beginLease(connection, file, source, options);
  const lease = await upload(connection, begun, file, source, options);
  const handoff = options.handoff === true ? await issueHandoff(connection, lease.leaseId, options) : undefined;
  if (options.json) {
    printJson({
      lease: messageJson(LeaseSchema, lease),
      ...(handoff === undefined ? {} : { handoff: messageJson(IssueHandoffResponseSchema, handoff) }),
    });
    return;
  }
  describe(lease, source, handoff);
}

/** The lease to upload to. Its request_id makes it safe to ask for it again when the answer is lost. */
async function beginLease(
  connection: Connection,
  file: string,
  source: UploadSource,
  options: PutOptions,
): Promise<Lease> {
  const requestId = options.requestId ?? randomUUID();
  const call = async (): Promise<Lease | undefined> => {
    const { lease } =
      options.lease === undefined
        ? await connection.leases.createLease(createRequest(file, source, options, requestId))
        : await connection.leases.getLease({ leaseId: options.lease });
    return lease;
  };
  const lease = await new Retries().until(call, isTransientCallError);
  if (lease === undefined) {
    throw new Error(`${connection.url} gave no lease`);
  }
  return lease;
}

function createRequest(
  file: string,
  source: UploadSource,
  options: PutOptions,
  requestId: string,
): MessageInitShape<typeof CreateLeaseRequestSchema> {
  return {
    ...leaseTerms(options),
    requestId,
    // The smallest lease there is has room for one byte: an empty file needs one too.
    sizeBytes: options.size ?? (source.sizeBytes || 1n),
    variant: {
      case: "storage",
      value: { fileName: options.name ?? basename(file), contentType: options.contentType ?? "" },
    },
  };
}

async function upload(
  connection: Connection,
  lease: Lease,
  file: string,
  source: UploadSource,
  options: PutOptions,
): Promise<Lease> {
  const progress = startProgress(`${basename(file)} to ${lease.leaseId}`, source.sizeBytes, options.json === true);
  try {
    return await uploadResumably({
      connection,
      lease,
      source,
      onProgress: (bytes) => progress.update(bytes),
      onRetry: (error) => progress.retry(error),
    });
  } catch (error) {
    throw canGoOn(error)
      ? new HintedError(error, `go on with: leasehold put ${file} --lease ${lease.leaseId}`, { leaseId: lease.leaseId })
      : localFailure(error);
  } finally {
    progress.stop();
  }
}

/** The id alone goes to stdout, so that a script can take it from there. */
function describe(lease: Lease, source: UploadSource, handoff: IssueHandoffResponse | undefined): void {
  const sha256 = Buffer.from(source.sha256).toString("hex");
  note(
    `${showBytes(source.sizeBytes)} until ${showTime(lease.expireTime)} for ${showDollars(lease.priceMicros)}, SHA-256 ${sha256}`,
  );
  print(lease.leaseId);
  if (handoff !== undefined) {
    print(handoff.claimUrl);
  }
}
