/** Owns the download of a claim that delivers several items, which only an RPC can tell apart. */
import { randomUUID } from "node:crypto";
import { crc32 } from "node:zlib";
import type { ClaimData, ClaimHandoffResponse, HandoffItem } from "#gen/leasehold/v1/handoff_pb.js";
import { CallError } from "./call-error.ts";
import { closingStream } from "./closing-stream.ts";
import type { Connection } from "./connection.ts";
import { Retries, type RetryPolicy } from "./retries.ts";
import type { StagedItems } from "./staged-items.ts";

/** A claim to be downloaded to a folder. */
export interface ItemsDownload {
  readonly connection: Connection;
  readonly token: string;
  /** The claim to go on with. Undefined: a new one. */
  readonly claimId?: string | undefined;
  /** Empty for a new claim. */
  readonly folder: StagedItems;
  /** The name of an item's file. */
  readonly fileNameOf: (item: HandoffItem) => string;
  /** Told as soon as there is a claim: what goes on with it after this process has ended. */
  readonly onClaim?: (claimId: string) => Promise<void>;
  readonly onProgress?: (receivedBytes: bigint) => void;
  readonly onRetry?: (error: CallError) => void;
  readonly retry?: RetryPolicy;
}

/**
 * Redeems a token and downloads its items, resuming whenever the connection breaks. Gives the claim, which is delivered
 * and not yet confirmed.
 *
 * @throws CallError if the server refuses or is away for too long: the folder keeps what arrived.
 */
export async function downloadItems(download: ItemsDownload): Promise<string> {
  return await new ItemsClaim(download).run();
}

class ItemsClaim {
  readonly #download: ItemsDownload;
  readonly #retries: Retries;
  readonly #requestId = randomUUID();
  #claimId: string | undefined;
  /** How far the server has counted the claim as delivered, if it said that this is less than what is here. */
  #countedBytes: bigint | undefined;

  constructor(download: ItemsDownload) {
    this.#download = download;
    this.#retries = new Retries(download.retry, download.onRetry);
    this.#claimId = download.claimId;
  }

  async run(): Promise<string> {
    for (;;) {
      const before = this.#download.folder.receivedBytes;
      try {
        return await this.#receive();
      } catch (error) {
        if (!(error instanceof CallError) || !this.#canGoOn(error)) {
          throw error;
        }
        await this.#download.folder.close();
        if (this.#download.folder.receivedBytes > before) {
          this.#retries.progressed();
        }
        await this.#retries.wait(error);
      }
    }
  }

  /**
   * Where to go on: a byte before the end of what is here, for an item without bytes that lies just at the end would not
   * be announced from there.
   */
  #offset(): bigint {
    const { receivedBytes } = this.#download.folder;
    const lastByte = receivedBytes > 0n ? receivedBytes - 1n : 0n;
    return this.#countedBytes !== undefined && this.#countedBytes < lastByte ? this.#countedBytes : lastByte;
  }

  #canGoOn(error: CallError): boolean {
    const stored = error.reason === "OFFSET_MISMATCH" ? error.metadata.stored_offset : undefined;
    if (stored !== undefined) {
      this.#countedBytes = BigInt(stored);
      return true;
    }
    return error.isTransient;
  }

  async #receive(): Promise<string> {
    const { connection, token, folder } = this.#download;
    const request = {
      claimToken: token,
      offset: this.#offset(),
      ...(this.#claimId === undefined ? { requestId: this.#requestId } : { claimId: this.#claimId }),
    };
    for await (const response of closingStream((call) => connection.handoffs.claimHandoff(request, call))) {
      const deliveredBytes = await this.#take(response);
      if (deliveredBytes !== undefined) {
        if (deliveredBytes !== folder.receivedBytes || this.#claimId === undefined) {
          break;
        }
        return this.#claimId;
      }
    }
    throw new CallError("UNEXPLAINED", `${connection.url} ended a claim before all of it was sent`);
  }

  /** Gives the size of all items once everything has been sent. */
  async #take({ part }: ClaimHandoffResponse): Promise<bigint | undefined> {
    const { folder, fileNameOf, onProgress, onClaim } = this.#download;
    switch (part.case) {
      case "start":
        if (this.#claimId === undefined) {
          this.#claimId = part.value.claimId;
          await onClaim?.(part.value.claimId);
        }
        return undefined;
      case "itemStart":
        await folder.begin(part.value, fileNameOf(part.value));
        return undefined;
      case "data":
        await this.#append(part.value);
        onProgress?.(folder.receivedBytes);
        return undefined;
      case "end":
        return part.value.contentBytes;
      case undefined:
        return undefined;
    }
  }

  /** Leaves out what is here already. */
  async #append({ offset, data, dataCrc32 }: ClaimData): Promise<void> {
    const { folder, connection } = this.#download;
    if (offset > folder.receivedBytes) {
      throw new CallError(
        "UNEXPLAINED",
        `${connection.url} left out what lies between ${folder.receivedBytes} and ${offset}`,
      );
    }
    if (crc32(data) !== dataCrc32) {
      throw new CallError("CONNECTION_FAILED", `${connection.url} sent data that does not have its checksum`, {
        code: "unavailable",
      });
    }
    const isHere = Number(folder.receivedBytes - offset);
    if (isHere < data.length) {
      await folder.append(data.subarray(isHere));
    }
  }
}
