/** Owns a file as the source of an upload. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { UploadSource } from "./resumable-upload.ts";

const readBytes = 256 * 1024;

/** A file that changes after it was looked at cannot be uploaded: its checksum went ahead of it. */
class FileChangedError extends Error {
  override readonly name = "FileChangedError";
}

/** Reads a file once for its size and checksum. It is read again, from wherever that is needed, to be sent. */
export async function fileSource(path: string): Promise<UploadSource> {
  const found = await stat(path);
  if (!found.isFile()) {
    throw new Error(`${path} is not a file`);
  }
  const hash = createHash("sha256");
  let bytes = 0n;
  for await (const chunk of createReadStream(path, { highWaterMark: readBytes }) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    bytes += BigInt(chunk.length);
  }
  return { sizeBytes: bytes, sha256: hash.digest(), read: (offset) => readFrom(path, offset, bytes) };
}

async function* readFrom(path: string, offset: bigint, sizeBytes: bigint): AsyncGenerator<Buffer> {
  if (offset >= sizeBytes) {
    return;
  }
  const stream = createReadStream(path, {
    start: Number(offset),
    // Whatever was appended meanwhile is left out.
    end: Number(sizeBytes) - 1,
    highWaterMark: readBytes,
  });
  let at = offset;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    at += BigInt(chunk.length);
    yield chunk;
  }
  if (at < sizeBytes) {
    throw new FileChangedError(`${path} became shorter while it was uploaded`);
  }
}
