/** Takes a body from a stream: each piece checked as it comes, and nothing of it kept unless the stream ends as it should. */
import { crc32 } from "node:zlib";
import type { PutCheckpointRequest, UploadCheckpointRequest } from "#gen/leasehold/v1/checkpoint_pb.js";
import type { Caller } from "../account/caller.ts";
import { checksumMismatch, invalidField, LeaseholdError } from "../errors/leasehold-error.ts";
import type { LeaseWatch } from "../lease/lease-watch.ts";
import type { Call } from "../server/call.ts";
import type { CheckpointInit } from "./checkpoint-bodies.ts";
import type { CheckpointPuts } from "./checkpoint-puts.ts";
import { type CheckpointReads, type FoundCheckpoint, noVersion, targetOf } from "./checkpoint-reads.ts";
import type { CheckpointWriter } from "./checkpoint-writer.ts";

/** What an upload needs. */
export interface CheckpointUploadOptions {
  readonly reads: CheckpointReads;
  readonly puts: CheckpointPuts;
  readonly watch: LeaseWatch;
}

/** An upload after its first message. */
interface Upload {
  readonly place: FoundCheckpoint;
  readonly put: PutCheckpointRequest;
  readonly writer: CheckpointWriter;
  readonly stopWatching: () => void;
}

/**
 * Reads a stream and puts what it carries. It is cut when its lease ends or its key is stopped.
 *
 * @throws LeaseholdError INVALID_FIELD, CHECKSUM_MISMATCH, OFFSET_MISMATCH, BODY_TOO_LARGE, MALFORMED_REQUEST if it ends
 * without `finish`, or whatever the put is refused for.
 */
export async function uploadCheckpoint(
  options: CheckpointUploadOptions,
  caller: Caller,
  requests: AsyncIterable<UploadCheckpointRequest>,
  call: Call,
): Promise<CheckpointInit> {
  let upload: Upload | undefined;
  let isPut = false;
  try {
    for await (const request of requests) {
      upload = await goOn(options, caller, upload, request, call);
      const { writer, place, put } = upload;
      await writer.append(request.data);
      if (request.finish) {
        const sha256 = writer.digest();
        requireSha256(request, sha256);
        call.signal.throwIfAborted();
        isPut = true;
        return await options.puts.finish(caller, place, put, writer, sha256);
      }
    }
    throw new LeaseholdError(
      "MALFORMED_REQUEST",
      "The stream ended without finish: nothing was written. Send it again.",
    );
  } catch (error) {
    // What is put ends its writer itself: a version may have the file although nobody was told.
    if (!isPut) {
      await upload?.writer.discard();
    }
    throw error;
  } finally {
    upload?.stopWatching();
  }
}

/** Checks a message, and begins the upload with the first. */
async function goOn(
  options: CheckpointUploadOptions,
  caller: Caller,
  upload: Upload | undefined,
  request: UploadCheckpointRequest,
  call: Call,
): Promise<Upload> {
  const { data, dataCrc32, offset, put } = request;
  if (dataCrc32 !== undefined && crc32(data) !== dataCrc32) {
    throw checksumMismatch("data_crc32");
  }
  if (offset !== (upload?.writer.receivedBytes ?? 0n)) {
    throw offsetMismatch(offset, upload?.writer.receivedBytes ?? 0n);
  }
  if (upload === undefined) {
    return await begin(options, caller, put, call);
  }
  if (put !== undefined) {
    throw invalidField("put", "must be in the first message only");
  }
  return upload;
}

async function begin(
  { reads, puts, watch }: CheckpointUploadOptions,
  caller: Caller,
  put: PutCheckpointRequest | undefined,
  call: Call,
): Promise<Upload> {
  if (put === undefined) {
    throw invalidField("put", "must be in the first message");
  }
  if (put.body.length > 0) {
    throw invalidField("put.body", "must be empty: the body comes as data");
  }
  const place = await reads.find(caller, "write", targetOf(put), noVersion);
  const writer = await puts.begin(caller, place);
  const stopWatching = watch.watch({
    lease: place,
    now: place.now,
    askedAtMs: place.askedAtMs,
    cut: (error) => call.abort(error),
    caller: { caller, scope: "write" },
  });
  return { place, put, writer, stopWatching };
}

function requireSha256(request: UploadCheckpointRequest, sha256: Buffer): void {
  if (request.sha256.length > 0 && !sha256.equals(request.sha256)) {
    throw checksumMismatch("sha256");
  }
}

function offsetMismatch(offset: bigint, receivedBytes: bigint): LeaseholdError {
  const message = `Data was sent for offset ${offset}, and ${receivedBytes} is next: send the body again from its start.`;
  return new LeaseholdError("OFFSET_MISMATCH", message, { metadata: { stored_offset: `${receivedBytes}` } });
}
