/** Owns where a body comes from that is sent: a file, stdin, or the command line itself. */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { fileSource } from "../client/file-source.ts";
import { CommandError } from "./exit-codes.ts";
import { localFailure } from "./local-failure.ts";
import { note } from "./output.ts";

/** What the words of a command say. */
export interface BodyWords {
  /** A file's path, or `-` or nothing for stdin. */
  readonly file: string | undefined;
  readonly text?: string | undefined;
}

/** A body: small enough to be held, or a stream. */
export type BodyInput =
  | { readonly kind: "held"; readonly bytes: Buffer }
  | {
      readonly kind: "stream";
      /** Undefined if it is not known before the end. */
      readonly sizeBytes: bigint | undefined;
      /** Whether it can be read again. */
      readonly isRepeatable: boolean;
      read(): AsyncIterable<Uint8Array>;
    };

/**
 * A whole body.
 *
 * @throws CommandError if it is larger than the limit, or cannot be read.
 */
export async function readBody(words: BodyWords, limitBytes: number, limitOf: string): Promise<Buffer> {
  const body = await openBody(words, limitBytes);
  if (body.kind === "stream") {
    throw new CommandError("usage", `${nameOf(words)} has more than ${limitBytes} bytes, which is ${limitOf}`);
  }
  return body.bytes;
}

/**
 * A body, held if it is no larger than the limit.
 *
 * @throws CommandError if it cannot be read.
 */
export async function openBody(words: BodyWords, limitBytes: number): Promise<BodyInput> {
  const { file, text } = words;
  if (text !== undefined) {
    if (file !== undefined) {
      throw new CommandError("usage", "The body is given twice: as a file and with --text");
    }
    return { kind: "held", bytes: Buffer.from(text) };
  }
  try {
    return file === undefined || file === "-" ? await openStdin(limitBytes) : await openFile(file, limitBytes);
  } catch (error) {
    throw localFailure(error);
  }
}

async function openFile(path: string, limitBytes: number): Promise<BodyInput> {
  const found = await stat(path);
  if (!found.isFile() || found.size <= limitBytes) {
    return await openPipe(createReadStream(path), limitBytes);
  }
  const source = await fileSource(path);
  return { kind: "stream", sizeBytes: source.sizeBytes, isRepeatable: true, read: () => source.read(0n) };
}

async function openStdin(limitBytes: number): Promise<BodyInput> {
  if (process.stdin.isTTY) {
    note("Reading the body from the terminal; Ctrl-D ends it.");
  }
  return await openPipe(process.stdin, limitBytes);
}

/** What can be read once. */
async function openPipe(pipe: AsyncIterable<unknown>, limitBytes: number): Promise<BodyInput> {
  const chunks = (pipe as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  const held: Buffer[] = [];
  let bytes = 0;
  for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) {
    held.push(next.value);
    bytes += next.value.length;
    if (bytes > limitBytes) {
      return { kind: "stream", sizeBytes: undefined, isRepeatable: false, read: () => rest(held, chunks) };
    }
  }
  return { kind: "held", bytes: Buffer.concat(held) };
}

async function* rest(held: readonly Buffer[], chunks: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  yield* held;
  for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) {
    yield next.value;
  }
}

function nameOf({ file }: BodyWords): string {
  return file === undefined || file === "-" ? "What stdin gives" : file;
}
