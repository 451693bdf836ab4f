/**
 * Owns the bytes of a version: the length of a header, the header in JSON, and the packed values, of which several
 * checkpoints may share one.
 */
import type {
  ChannelVersion,
  CheckpointRecord,
  PackedValue,
  StoredCheckpoint,
  StoredWrite,
  ThreadState,
} from "./thread-state.ts";

/** The media type by which a body of the saver's is known. */
export const threadContentType = "application/vnd.leasehold.langgraph-thread";

const bodyFormat = 1;
const lengthBytes = 4;

/** A packed value in the header: its type, where it starts after the header, and its length. */
type ValueReference = readonly [type: string, offset: number, length: number];

interface WrittenCheckpoint {
  readonly frame: ValueReference;
  readonly metadata: ValueReference;
  readonly channelVersions: readonly (readonly [string, ChannelVersion])[];
  readonly values: readonly (readonly [string, ValueReference])[];
  readonly deltaChannels: readonly string[];
  readonly takesParentsSends: boolean;
}

interface WrittenRecord extends Omit<CheckpointRecord, "checkpoint" | "writes" | "parentId"> {
  readonly parentId?: string;
  readonly checkpoint?: WrittenCheckpoint;
  readonly writes: readonly (Omit<StoredWrite, "value"> & { readonly value: ValueReference })[];
}

interface Header {
  readonly format: number;
  readonly threadId: string;
  readonly retainedVersions: number;
  readonly records: readonly WrittenRecord[];
  readonly past: readonly (readonly [namespace: string, checkpointId: string, version: string])[];
}

export function encodeThread(state: ThreadState): Uint8Array {
  const values = new ValueWriter();
  const header: Header = {
    format: bodyFormat,
    threadId: state.threadId,
    retainedVersions: state.retainedVersions,
    records: state.records.map((record) => writtenRecord(record, values)),
    past: state.past.map(({ namespace, checkpointId, version }) => [namespace, checkpointId, String(version)]),
  };
  const headerBytes = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(lengthBytes);
  length.writeUInt32BE(headerBytes.length);
  return Buffer.concat([length, headerBytes, ...values.pieces]);
}

/** @throws if the body is of a later form than this saver knows. */
export function decodeThread(body: Uint8Array): ThreadState {
  const buffer = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const valuesOffset = lengthBytes + buffer.readUInt32BE();
  const header = JSON.parse(buffer.toString("utf8", lengthBytes, valuesOffset)) as Header;
  if (header.format !== bodyFormat) {
    throw new Error(`This saver reads threads of format ${bodyFormat}, not ${header.format}: update it.`);
  }
  const values = new ValueReader(buffer.subarray(valuesOffset));
  return {
    threadId: header.threadId,
    retainedVersions: header.retainedVersions,
    records: header.records.map((record) => readRecord(record, values)),
    past: header.past.map(([namespace, checkpointId, version]) => ({
      namespace,
      checkpointId,
      version: BigInt(version),
    })),
  };
}

function writtenRecord(record: CheckpointRecord, values: ValueWriter): WrittenRecord {
  const { parentId, checkpoint, ...others } = record;
  return {
    ...others,
    ...(parentId === undefined ? {} : { parentId }),
    ...(checkpoint === undefined ? {} : { checkpoint: writtenCheckpoint(checkpoint, values) }),
    writes: record.writes.map((write) => ({ ...write, value: values.add(write.value) })),
  };
}

function writtenCheckpoint(checkpoint: StoredCheckpoint, values: ValueWriter): WrittenCheckpoint {
  return {
    ...checkpoint,
    frame: values.add(checkpoint.frame),
    metadata: values.add(checkpoint.metadata),
    channelVersions: [...checkpoint.channelVersions],
    values: [...checkpoint.values].map(([channel, value]) => [channel, values.add(value)]),
  };
}

function readRecord(record: WrittenRecord, values: ValueReader): CheckpointRecord {
  return {
    ...record,
    parentId: record.parentId,
    checkpoint: record.checkpoint === undefined ? undefined : readCheckpoint(record.checkpoint, values),
    writes: record.writes.map((write) => ({ ...write, value: values.at(write.value) })),
  };
}

function readCheckpoint(checkpoint: WrittenCheckpoint, values: ValueReader): StoredCheckpoint {
  return {
    ...checkpoint,
    frame: values.at(checkpoint.frame),
    metadata: values.at(checkpoint.metadata),
    channelVersions: new Map(checkpoint.channelVersions),
    values: new Map(checkpoint.values.map(([channel, value]) => [channel, values.at(value)])),
  };
}

/** Lays values out one after the other, each only once. */
class ValueWriter {
  readonly pieces: Uint8Array[] = [];
  readonly #references = new Map<PackedValue, ValueReference>();
  #offset = 0;

  add(value: PackedValue): ValueReference {
    const known = this.#references.get(value);
    if (known !== undefined) {
      return known;
    }
    const reference: ValueReference = [value.type, this.#offset, value.bytes.byteLength];
    this.#references.set(value, reference);
    this.pieces.push(value.bytes);
    this.#offset += value.bytes.byteLength;
    return reference;
  }
}

/** Gives the values of a body, the same object to all that refer to the same one, so that they stay shared. */
class ValueReader {
  readonly #bytes: Uint8Array;
  readonly #values = new Map<string, PackedValue>();

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  at([type, offset, length]: ValueReference): PackedValue {
    const key = `${offset} ${length} ${type}`;
    const known = this.#values.get(key);
    if (known !== undefined) {
      return known;
    }
    // Copied: a value that later versions go on with must not hold on to the whole body it came in.
    const value = { type, bytes: Uint8Array.from(this.#bytes.subarray(offset, offset + length)) };
    this.#values.set(key, value);
    return value;
  }
}
