/** Owns the download of a lease, or of a claim of one: a connection that breaks is taken up again where the file ends. */
import { randomUUID } from "node:crypto";
import { CallError, isTransientCallError } from "./call-error.ts";
import type { Connection } from "./connection.ts";
import { type HttpAnswer, httpCall } from "./http-call.ts";
import type { PartFile } from "./part-file.ts";
import { Retries, type RetryPolicy } from "./retries.ts";

/** What every download needs. */
export interface DownloadOptions {
  readonly connection: Connection;
  /** What is in it is not asked for again. */
  readonly file: PartFile;
  /** How large the content is, in bytes. */
  readonly contentBytes: bigint;
  /** Of the whole content. Empty: not known, and not checked. */
  readonly sha256: Uint8Array;
  /** Told how much of the content is in the file. */
  readonly onProgress?: (receivedBytes: bigint) => void;
  readonly onRetry?: (error: CallError) => void;
  readonly retry?: RetryPolicy;
}

/** What a download is held to. */
export type ExpectedContent = Pick<DownloadOptions, "contentBytes" | "sha256">;

/** A download of a claim. What it delivers is settled when it is made, and may be newer than what was looked at before. */
export interface ClaimDownloadOptions extends DownloadOptions {
  readonly token: string;
  /** The claim to go on with. Undefined: a new one. */
  readonly claimId?: string | undefined;
  /** Told as soon as there is a claim: what goes on with it after this process has ended. */
  readonly onClaim?: (claimId: string) => Promise<void>;
  /** Told what the claim delivers. */
  readonly onContent?: (content: ExpectedContent) => void;
}

/**
 * Downloads the rest of a lease's content to a file.
 *
 * @throws CallError if the server refuses or is away for too long: the file keeps what arrived; or CHECKSUM_MISMATCH,
 * and the file is emptied.
 */
export async function downloadLease(leaseId: string, options: DownloadOptions): Promise<void> {
  const { connection, contentBytes } = options;
  await download(options, options, async (offset) =>
    offset === contentBytes && offset > 0n
      ? undefined
      : await httpCall(connection, {
          method: "GET",
          path: `/api/leases/${leaseId}/content`,
          headers: offset === 0n ? {} : { range: `bytes=${offset}-` },
        }),
  );
}

/**
 * Redeems a token and downloads the content to a file. The first call carries a request id, so that a claim whose
 * answer is lost is found again and not made twice. Gives the claim, which is delivered and not yet confirmed.
 *
 * @throws CallError as downloadLease does.
 */
export async function downloadClaim(options: ClaimDownloadOptions): Promise<string> {
  const { connection, token } = options;
  const requestId = randomUUID();
  let { claimId } = options;
  if (claimId === undefined) {
    await options.file.truncate(0n);
  }
  const expected = { contentBytes: options.contentBytes, sha256: options.sha256 };
  await download(options, expected, async (offset) => {
    const answer = await httpCall(connection, {
      method: "POST",
      path: `/api/claim/${encodeURIComponent(token)}`,
      headers: {
        "content-length": "0",
        ...(claimId === undefined ? { "leasehold-request-id": requestId } : { "leasehold-claim-id": claimId }),
        ...(offset === 0n ? {} : { range: `bytes=${offset}-` }),
      },
    });
    const given = answer.header("leasehold-claim-id");
    if (claimId === undefined && given !== undefined) {
      claimId = given;
      await options.onClaim?.(given);
    }
    Object.assign(expected, contentOf(answer));
    options.onContent?.(expected);
    return answer;
  });
  if (claimId === undefined) {
    throw new CallError("UNEXPLAINED", `${connection.url} gave a claim without an id`);
  }
  return claimId;
}

/** Says that a delivered claim arrived whole. Gives whether the lease has ended. Safe to repeat, and repeated. */
export async function confirmClaim(
  options: Pick<DownloadOptions, "connection" | "retry" | "onRetry">,
  token: string,
  claimId: string,
): Promise<boolean> {
  const retries = new Retries(options.retry, options.onRetry);
  const response = await retries.until(
    () => options.connection.handoffs.confirmClaim({ claimToken: token, claimId }),
    isTransientCallError,
  );
  return response.leaseEnded;
}

/** The size and checksum of the whole content, as far as an answer tells them. */
function contentOf(answer: HttpAnswer): Partial<ExpectedContent> {
  const range = /\/(\d+)$/.exec(answer.header("content-range") ?? "")?.[1];
  const bytes = range ?? (answer.status === 200 ? answer.header("content-length") : undefined);
  const sha256 = /sha-256=:([^:]*):/.exec(answer.header("repr-digest") ?? "")?.[1];
  return {
    ...(bytes === undefined ? {} : { contentBytes: BigInt(bytes) }),
    ...(sha256 === undefined ? {} : { sha256: Buffer.from(sha256, "base64") }),
  };
}

/** `ask` gives undefined if nothing is left to ask for, and may correct what is expected. */
async function download(
  options: DownloadOptions,
  expected: ExpectedContent,
  ask: (offset: bigint) => Promise<HttpAnswer | undefined>,
): Promise<void> {
  const { file } = options;
  const retries = new Retries(options.retry, options.onRetry);
  if (file.sizeBytes > expected.contentBytes) {
    await file.truncate(0n);
  }
  for (;;) {
    const offset = file.sizeBytes;
    try {
      const answer = await ask(offset);
      if (answer !== undefined) {
        await receive(options, expected, answer);
      }
      break;
    } catch (error) {
      if (!(error instanceof CallError) || !(await canGoOn(error, file))) {
        throw error;
      }
      if (file.sizeBytes > offset) {
        retries.progressed();
      }
      await retries.wait(error);
    }
  }
  const { sha256 } = expected;
  if (sha256.length > 0 && Buffer.compare(await file.digest(), sha256) !== 0) {
    await file.truncate(0n);
    throw new CallError("CHECKSUM_MISMATCH", "What arrived does not have the SHA-256 of the content: start again.", {
      code: "data_loss",
      metadata: { field: "sha256" },
    });
  }
}

async function receive(options: DownloadOptions, expected: ExpectedContent, answer: HttpAnswer): Promise<void> {
  const { file, connection } = options;
  const { contentBytes } = expected;
  if (answer.status === 200) {
    // All of it, also where only the rest was asked for: a proxy may ignore ranges.
    await file.truncate(0n);
  }
  options.onProgress?.(file.sizeBytes);
  for await (const chunk of answer.body()) {
    await file.append(chunk);
    options.onProgress?.(file.sizeBytes);
  }
  if (file.sizeBytes !== contentBytes) {
    throw new CallError("UNEXPLAINED", `${connection.url} sent ${file.sizeBytes} bytes instead of ${contentBytes}`);
  }
}

/** Whether another attempt may help; for a claim that the server has counted less of, after going back to there. */
async function canGoOn(error: CallError, file: PartFile): Promise<boolean> {
  const stored = error.reason === "OFFSET_MISMATCH" ? error.metadata.stored_offset : undefined;
  if (stored !== undefined) {
    await file.truncate(BigInt(stored));
    return true;
  }
  return error.isTransient;
}
