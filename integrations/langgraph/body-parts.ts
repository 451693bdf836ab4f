/** Owns moving a body that is larger than one message: in parts, each with its checksum. */
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  DownloadCheckpointResponse,
  PutCheckpointRequestSchema,
  UploadCheckpointRequestSchema,
} from "#gen/leasehold/v1/checkpoint_pb.js";

/** Fits into a message however low an operator may set the limit, which is never below 128 KiB. */
const partBytes = 64 * 1024;

/** The messages of an upload. */
export async function* bodyInParts(
  put: MessageInitShape<typeof PutCheckpointRequestSchema>,
  body: Uint8Array,
): AsyncGenerator<MessageInitShape<typeof UploadCheckpointRequestSchema>> {
  yield { put };
  for (let offset = 0; offset < body.byteLength; offset += partBytes) {
    const data = body.subarray(offset, offset + partBytes);
    yield { offset: BigInt(offset), data, dataCrc32: crc32(data) };
  }
  yield { offset: BigInt(body.byteLength), finish: true, sha256: createHash("sha256").update(body).digest() };
}

/** The body of a download. @throws if a part is not what was sent. */
export async function joined(parts: AsyncIterable<DownloadCheckpointResponse>): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const { data, dataCrc32 } of parts) {
    if (crc32(data) !== dataCrc32) {
      throw new Error("A part of a checkpoint's body does not have its checksum: read it again.");
    }
    pieces.push(data);
  }
  return Buffer.concat(pieces);
}
