/** Owns the upload of a body to a Storage lease: a connection that breaks is taken up again where the server's copy ends. */
import { fromJsonString } from "@bufbuild/protobuf";
import { type Lease, Lease_State, UploadContentResponseSchema } from "#gen/leasehold/v1/lease_pb.js";
import { CallError, isTransientCallError } from "./call-error.ts";
import type { Connection } from "./connection.ts";
import { httpCall } from "./http-call.ts";
import { Retries, type RetryPolicy } from "./retries.ts";

/** A body that can be read more than once. */
export interface UploadSource {
  readonly sizeBytes: bigint;
  /** Of the whole body, 32 bytes. */
  readonly sha256: Uint8Array;
  /** The bytes from an offset to the end. Called again for each attempt. */
  read(offset: bigint): AsyncIterable<Uint8Array>;
}

/** An upload. */
export interface UploadOptions {
  readonly connection: Connection;
  /** As CreateLease or GetLease has just shown it. */
  readonly lease: Lease;
  readonly source: UploadSource;
  /** Told how far the body has been sent, in bytes. It goes back when an attempt broke. */
  readonly onProgress?: (sentBytes: bigint) => void;
  readonly onRetry?: (error: CallError) => void;
  readonly retry?: RetryPolicy;
}

/**
 * Uploads a body and gives the lease, active with it. A lease that has this body already is given as it is; one that
 * has the beginning of it gets the rest; one that has other bytes, but no whole body yet, gets this one from the start.
 *
 * @throws CallError if the server refuses, or cannot be reached for too long: what is stored stays, to go on later.
 */
export async function uploadResumably(options: UploadOptions): Promise<Lease> {
  return await new Upload(options).run();
}

class Upload {
  readonly #options: UploadOptions;
  readonly #retries: Retries;
  #lease: Lease;
  /** Whether what is stored may have come from elsewhere: a wrong checksum is then no fault of this body's. */
  #foundBytes: boolean;
  #fromStart = false;
  /** Attempts of this upload that broke, and that the server may not have taken up yet: each may supersede a later one. */
  #strays = 0;

  constructor(options: UploadOptions) {
    this.#options = options;
    this.#retries = new Retries(options.retry, options.onRetry);
    this.#lease = options.lease;
    this.#foundBytes = storedBytesOf(options.lease) > 0n;
  }

  async run(): Promise<Lease> {
    for (;;) {
      if (this.#lease.state === Lease_State.ACTIVE) {
        return this.#requireSame();
      }
      const offset = this.#nextOffset();
      try {
        return await this.#send(offset);
      } catch (error) {
        await this.#recover(error, offset);
      }
    }
  }

  #nextOffset(): bigint {
    const stored = storedBytesOf(this.#lease);
    return this.#fromStart || stored > this.#options.source.sizeBytes ? 0n : stored;
  }

  /** Finds out where to go on. @throws the error, if there is nothing to be done about it. */
  async #recover(error: unknown, offset: bigint): Promise<void> {
    if (!(error instanceof CallError)) {
      throw error;
    }
    if (error.reason === "CHECKSUM_MISMATCH" && this.#foundBytes && offset > 0n) {
      this.#foundBytes = false;
      this.#fromStart = true;
      return;
    }
    if (!this.#mayPass(error)) {
      throw error;
    }
    await this.#retries.wait(error);
    const before = storedBytesOf(this.#lease);
    const { connection, lease, source } = this.#options;
    this.#lease = await this.#retries.until(async () => {
      const response = await connection.leases.getLease({ leaseId: lease.leaseId });
      return response.lease ?? lease;
    }, isTransientCallError);
    const stored = storedBytesOf(this.#lease);
    // Other bytes than this body's were as many as this body has; fewer are this body's own, sent from the start.
    const hasRestarted = this.#fromStart && stored < source.sizeBytes;
    if (hasRestarted) {
      this.#fromStart = false;
    }
    if (hasRestarted || stored > before) {
      this.#retries.progressed();
    }
  }

  #mayPass(error: CallError): boolean {
    if (error.isTransient) {
      this.#strays += 1;
      return true;
    }
    switch (error.reason) {
      case "OFFSET_MISMATCH":
        // An earlier attempt may still be storing its last bytes: the next one will find them.
        return true;
      case "STREAM_SUPERSEDED":
        // By an attempt that came late, unless there is none: then by somebody else, whom it would be wrong to fight.
        this.#strays -= 1;
        return this.#strays >= 0;
      default:
        return false;
    }
  }

  async #send(offset: bigint): Promise<Lease> {
    const { connection, lease, source } = this.#options;
    if (offset === source.sizeBytes && offset > 0n) {
      // All is stored and only the end is missing, which no range of bytes can say.
      const response = await connection.leases.uploadContentPart({
        leaseId: lease.leaseId,
        offset,
        finish: true,
        sha256: source.sha256,
      });
      return response.lease ?? lease;
    }
    const answer = await httpCall(connection, {
      method: "PUT",
      path: `/api/leases/${lease.leaseId}/content`,
      headers: {
        "content-length": `${source.sizeBytes - offset}`,
        "content-type": "application/octet-stream",
        "repr-digest": `sha-256=:${Buffer.from(source.sha256).toString("base64")}:`,
        ...(offset === 0n ? {} : { "content-range": `bytes ${offset}-${source.sizeBytes - 1n}/${source.sizeBytes}` }),
      },
      body: this.#counted(offset),
    });
    const response = fromJsonString(UploadContentResponseSchema, await answer.text(), { ignoreUnknownFields: true });
    return response.lease ?? lease;
  }

  async *#counted(offset: bigint): AsyncGenerator<Uint8Array> {
    let sent = offset;
    this.#options.onProgress?.(sent);
    for await (const chunk of this.#options.source.read(offset)) {
      yield chunk;
      sent += BigInt(chunk.length);
      this.#options.onProgress?.(sent);
    }
  }

  /** The answer to the last part may have been lost; or the caller repeats an upload that had succeeded. */
  #requireSame(): Lease {
    const { details } = this.#lease;
    if (details.case === "storage" && Buffer.compare(details.value.sha256, this.#options.source.sha256) === 0) {
      return this.#lease;
    }
    throw new CallError("WRONG_STATE", "The lease has its content already, and it is another: make a new lease.", {
      code: "failed_precondition",
      metadata: { state: "STATE_ACTIVE" },
    });
  }
}

function storedBytesOf(lease: Lease): bigint {
  return lease.details.case === "storage" ? lease.details.value.storedBytes : 0n;
}
