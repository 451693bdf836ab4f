/** Reads the bodies of versions, and shows versions with or without them. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { CheckpointSchema } from "#gen/leasehold/v1/checkpoint_pb.js";
import { ContentCorruptError } from "../content/content-corrupt-error.ts";
import type { ContentStore } from "../content/content-store.ts";
import { openTail, readSealedBody, type SealedBody } from "../content/sealed-body.ts";
import { open } from "../content/sealing.ts";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import { formatId } from "../ids/ids.ts";
import type { LeaseRow } from "../lease/lease-row.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import { toTimestamp } from "../proto-values/proto-time.ts";
import { unpackVersion, type VersionDetails, versionPart } from "./checkpoint-details.ts";
import type { CheckpointReads } from "./checkpoint-reads.ts";
import type { KeptVersion } from "./checkpoint-row.ts";
import type { ListedVersion } from "./checkpoint-statements.ts";

/** What a Checkpoint message is made from. */
export type CheckpointInit = MessageInitShape<typeof CheckpointSchema>;

/** A lease of whose versions one is shown. */
export type ShownLease = LeaseRow & { readonly workflow_id: string };

/** How much of a body is sent, and for how long, before it is asked again whether the version is still kept. */
const askEveryBytes = 4 * 1_048_576;
const askEveryMs = 1_000;

/** How much of a message other fields than the body may take, at the most that the schema allows. */
const mostOtherBytes = 32_768;

/** Opens versions. */
export class CheckpointBodies {
  readonly #store: ContentStore;
  readonly #seals: LeaseSeals;
  readonly #reads: CheckpointReads;
  readonly #maxMessageBytes: number;

  constructor(options: {
    readonly store: ContentStore;
    readonly seals: LeaseSeals;
    readonly reads: CheckpointReads;
    readonly maxMessageBytes: number;
  }) {
    this.#store = options.store;
    this.#seals = options.seals;
    this.#reads = options.reads;
    this.#maxMessageBytes = options.maxMessageBytes;
  }

  /** What a version keeps sealed beside its body. */
  async details(lease: LeaseRow, version: ListedVersion): Promise<VersionDetails> {
    const context = this.#seals.context(lease.lease_id, versionPart(version.body_id));
    return unpackVersion(open(await this.#seals.keyOf(lease), version.sealed_checkpoint, context));
  }

  /** A version without its body. */
  async show(lease: ShownLease, version: ListedVersion): Promise<CheckpointInit> {
    const { contentType, metadata, sha256 } = await this.details(lease, version);
    return {
      leaseId: formatId("lse", lease.lease_id),
      workflowId: lease.workflow_id,
      version: version.version,
      bodyBytes: version.body_bytes,
      contentType,
      metadata,
      createTime: toTimestamp(version.put_time),
      sha256,
    };
  }

  /** As showWhole. "gone" if a later version pushes this one out before its body is read. */
  async showUnlessGone(kept: KeptVersion): Promise<CheckpointInit | "gone" | undefined> {
    return await this.showWhole(kept).catch((error: unknown) => {
      if (error instanceof LeaseholdError && error.reason === "VERSION_GONE") {
        return "gone" as const;
      }
      throw error;
    });
  }

  /** A version with its body; undefined if a message cannot carry that. */
  async showWhole(kept: KeptVersion): Promise<CheckpointInit | undefined> {
    const shown = await this.show(kept, kept);
    if (!this.#fits(kept.body_bytes, shown)) {
      return undefined;
    }
    if (kept.file_generation === null) {
      const owner = { ...this.#owner(kept), key: await this.#seals.keyOf(kept) };
      return { ...shown, body: openTail(owner, kept.sealed_tail, 0, true) };
    }
    const pieces: Buffer[] = [];
    for await (const piece of this.read(kept, 0n, undefined)) {
      pieces.push(piece);
    }
    return { ...shown, body: Buffer.concat(pieces) };
  }

  /** The error of a body that a message cannot carry. */
  tooLargeForMessage(kept: KeptVersion): LeaseholdError {
    const metadata = {
      limit: "max_message_bytes",
      limit_bytes: `${this.#maxMessageBytes}`,
      value_bytes: `${kept.body_bytes}`,
    };
    const message = `The body is ${kept.body_bytes} bytes, more than a message carries: use DownloadCheckpoint.`;
    return new LeaseholdError("BODY_TOO_LARGE", message, { metadata });
  }

  /**
   * Reads a body in pieces of at most 64 KiB. limitBytes undefined: to the end.
   *
   * A file that is open can be read although it is removed: so it is asked again and again whether the version is still
   * kept, and one that was pushed out is not read on.
   *
   * @throws LeaseholdError VERSION_GONE or LEASE_ENDED once it is.
   */
  async *read(kept: KeptVersion, offset: bigint, limitBytes: bigint | undefined): AsyncGenerator<Buffer> {
    const body = await this.#bodyOf(kept);
    let sentBytes = 0;
    let askedAtMs = performance.now();
    try {
      for await (const piece of readSealedBody(this.#store, body, offset, limitBytes)) {
        if (sentBytes >= askEveryBytes || performance.now() - askedAtMs >= askEveryMs) {
          await this.#requireKept(kept);
          sentBytes = 0;
          askedAtMs = performance.now();
        }
        yield piece;
        sentBytes += piece.length;
      }
    } catch (error) {
      if (error instanceof ContentCorruptError) {
        // A file that is gone under a reader is the end of its version, unless that is kept: then it is what it looks like.
        await this.#requireKept(kept);
      }
      throw error;
    }
  }

  async #requireKept(kept: KeptVersion): Promise<void> {
    await this.#reads.findAllowed(kept.owner_id, kept.lease_id, kept.version);
  }

  async #bodyOf(kept: KeptVersion): Promise<SealedBody> {
    const { file_generation: generation } = kept;
    const segments = generation === null ? [] : [{ generation, firstChunk: 0, chunkCount: Number(kept.file_chunks) }];
    const tail = { sealed: kept.sealed_tail, final: true };
    return { ...this.#owner(kept), key: await this.#seals.keyOf(kept), segments, tail };
  }

  #owner(kept: KeptVersion) {
    return { installationId: this.#seals.installationId, leaseId: kept.lease_id, bodyId: kept.body_id };
  }

  #fits(bodyBytes: bigint, shown: CheckpointInit): boolean {
    const room = BigInt(this.#maxMessageBytes) - bodyBytes;
    if (room > mostOtherBytes) {
      return true;
    }
    // The body's own tag and length, and those of the message around it, take 16 bytes at most.
    return room >= BigInt(toBinary(CheckpointSchema, create(CheckpointSchema, shown)).length + 16);
  }
}
