/** Owns the streams that carry a checkpoint's body where it is too large for one message. */
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  Checkpoint,
  GetCheckpointRequestSchema,
  PutCheckpointRequestSchema,
  UploadCheckpointRequestSchema,
} from "#gen/leasehold/v1/checkpoint_pb.js";
import { CallError } from "./call-error.ts";
import { closingStream } from "./closing-stream.ts";
import type { Connection } from "./connection.ts";
import { Retries, type RetryPolicy } from "./retries.ts";

/** What is to be written, without its body. */
export type CheckpointPut = Omit<
  MessageInitShape<typeof PutCheckpointRequestSchema>,
  "body" | "$typeName" | "$unknown"
>;

/** Below the smallest message limit that a server can be set to. */
const largestPartBytes = 64 * 1024;

/**
 * Writes a version from a stream. A stream that breaks writes nothing, unless the answer alone was lost: with a
 * request_id the call can be repeated.
 *
 * @throws CallError; whatever reading the body throws.
 */
export async function uploadCheckpoint(
  connection: Connection,
  put: CheckpointPut,
  body: AsyncIterable<Uint8Array>,
): Promise<Checkpoint> {
  let failure: unknown;
  const watched = watch(body, (error) => {
    failure = error;
  });
  try {
    const { checkpoint } = await connection.checkpoints.uploadCheckpoint(uploadMessages(put, watched), {
      timeoutMs: 0,
    });
    return requireCheckpoint(connection, checkpoint);
  } catch (error) {
    throw failure ?? error;
  }
}

/** A body that cannot be read is no fault of the connection, though it breaks the stream. */
async function* watch(
  body: AsyncIterable<Uint8Array>,
  onFailure: (error: unknown) => void,
): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    onFailure(error);
    throw error;
  }
}

async function* uploadMessages(
  put: CheckpointPut,
  body: AsyncIterable<Uint8Array>,
): AsyncGenerator<MessageInitShape<typeof UploadCheckpointRequestSchema>> {
  const hash = createHash("sha256");
  let offset = 0n;
  yield { put };
  for await (const chunk of body) {
    for (let at = 0; at < chunk.length; at += largestPartBytes) {
      const data = chunk.subarray(at, at + largestPartBytes);
      hash.update(data);
      yield { offset, data, dataCrc32: crc32(data) };
      offset += BigInt(data.length);
    }
  }
  yield { offset, finish: true, sha256: hash.digest() };
}

/** Which version to read. */
export type CheckpointName = Omit<MessageInitShape<typeof GetCheckpointRequestSchema>, "$typeName" | "$unknown">;

/**
 * Finds a version, with its body if one message carries it.
 *
 * @throws CallError
 */
export async function findCheckpoint(connection: Connection, name: CheckpointName): Promise<Checkpoint> {
  try {
    const { checkpoint } = await connection.checkpoints.getCheckpoint(name);
    return requireCheckpoint(connection, checkpoint);
  } catch (error) {
    if (!(error instanceof CallError) || error.reason !== "BODY_TOO_LARGE") {
      throw error;
    }
  }
  // The stream's first message tells all of it but the body, which is not read on from here.
  for await (const { checkpoint } of closingStream((call) => connection.checkpoints.downloadCheckpoint(name, call))) {
    return requireCheckpoint(connection, checkpoint);
  }
  return requireCheckpoint(connection, undefined);
}

/** Where a downloaded body goes. */
export interface BodySink {
  /** How much of the body is there. */
  readonly sizeBytes: bigint;
  append(bytes: Uint8Array): Promise<void>;
  /** The SHA-256 of what is there. */
  digest(): Promise<Buffer>;
}

/** A download. */
export interface CheckpointDownload {
  readonly connection: Connection;
  /** The version, as `findCheckpoint` gave it. */
  readonly checkpoint: Checkpoint;
  readonly sink: BodySink;
  readonly onProgress?: (receivedBytes: bigint) => void;
  readonly onRetry?: (error: CallError) => void;
  readonly retry?: RetryPolicy;
}

/**
 * Downloads the rest of one version's body.
 *
 * @throws CallError if the server refuses, as when the version was pushed out meanwhile, or is away for too long;
 * CHECKSUM_MISMATCH.
 */
export async function downloadCheckpoint(download: CheckpointDownload): Promise<void> {
  const { checkpoint, sink } = download;
  const retries = new Retries(download.retry, download.onRetry);
  while (sink.sizeBytes < checkpoint.bodyBytes) {
    const before = sink.sizeBytes;
    try {
      await receive(download);
    } catch (error) {
      if (!(error instanceof CallError) || !error.isTransient) {
        throw error;
      }
      if (sink.sizeBytes > before) {
        retries.progressed();
      }
      await retries.wait(error);
    }
  }
  if (checkpoint.sha256.length > 0 && Buffer.compare(await sink.digest(), checkpoint.sha256) !== 0) {
    throw new CallError("CHECKSUM_MISMATCH", "What arrived does not have the SHA-256 of the version: get it again.", {
      code: "data_loss",
      metadata: { field: "sha256" },
    });
  }
}

async function receive({ connection, checkpoint, sink, onProgress }: CheckpointDownload): Promise<void> {
  const { leaseId, version } = checkpoint;
  const request = { leaseId, version, offset: sink.sizeBytes };
  const stream = closingStream((call) => connection.checkpoints.downloadCheckpoint(request, call));
  for await (const { offset, data, dataCrc32 } of stream) {
    if (data.length === 0) {
      continue;
    }
    if (offset !== sink.sizeBytes || crc32(data) !== dataCrc32) {
      throw new CallError("CONNECTION_FAILED", `${connection.url} sent a part that is not the one asked for`, {
        code: "unavailable",
      });
    }
    await sink.append(data);
    onProgress?.(sink.sizeBytes);
  }
  if (sink.sizeBytes !== checkpoint.bodyBytes) {
    throw new CallError(
      "UNEXPLAINED",
      `${connection.url} sent ${sink.sizeBytes} bytes instead of ${checkpoint.bodyBytes}`,
    );
  }
}

/** The version that an answer carries. @throws CallError if it carries none. */
export function requireCheckpoint(connection: Connection, checkpoint: Checkpoint | undefined): Checkpoint {
  if (checkpoint === undefined) {
    throw new CallError("UNEXPLAINED", `${connection.url} gave no checkpoint`);
  }
  return checkpoint;
}
