/** What the load does: each operation makes one call, or moves one body, and says what later ones need of its answer. */
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import * as http from "node:http";
import { finished } from "node:stream/promises";
import { crc32 } from "node:zlib";
import { AccountService } from "#gen/leasehold/v1/account_pb.js";
import { HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { checkpointOperations } from "./checkpoint-operations.ts";
import { cronOperations } from "./cron-operations.ts";
import type { LoadTarget, Operation } from "./load-target.ts";
import { mailboxOperations } from "./mailbox-operations.ts";
import { scratchpadOperations } from "./scratchpad-operations.ts";

/** Of the body that one claim or small upload moves. */
const smallBodyBytes = 1024;
/** Of the body that one transfer moves. */
export const largeBodyBytes = 256 * 1024 * 1024;

/** How much of a large body is handed to the transport at once: one message, over gRPC. */
const pieceBytes = 64 * 1024;
/** How much is handed over ahead of what the transport has taken. */
const aheadBytes = 2 * 1024 * 1024;

const smallBody = randomBytes(smallBodyBytes);
const piece = randomBytes(pieceBytes);
const piecesSha256 = hashOfPieces();

export const loadOperations = {
  ...mailboxOperations,
  ...checkpointOperations,
  ...scratchpadOperations,
  ...cronOperations,

  createLease: (target) => createLease(target, ""),
  createRepeatableLease: (target) => createLease(target, randomUUID()),

  async createLargeLease({ grpc }) {
    const { lease } = await grpc.unary(LeaseService.method.createLease, {
      sizeBytes: BigInt(largeBodyBytes),
      duration: { seconds: 86_400n },
      variant: { case: "storage", value: {} },
    });
    return lease?.leaseId ?? "";
  },

  async getLease({ grpc }, leaseId) {
    return (await grpc.unary(LeaseService.method.getLease, { leaseId })).lease?.leaseId ?? "";
  },

  async listLeases({ grpc }) {
    return `${(await grpc.unary(LeaseService.method.listLeases, { pageSize: 50 })).leases.length}`;
  },

  async deleteLease({ grpc }, leaseId) {
    return (await grpc.unary(LeaseService.method.deleteLease, { leaseId })).lease?.leaseId ?? "";
  },

  async uploadSmall({ grpc }, leaseId) {
    const request = { leaseId, data: smallBody, dataCrc32: crc32(smallBody), finish: true };
    return (await grpc.unary(LeaseService.method.uploadContentPart, request)).lease?.leaseId ?? "";
  },

  async downloadSmall({ grpc }, leaseId) {
    let bytes = 0;
    await grpc.serverStream(LeaseService.method.downloadContent, { leaseId }, ({ data }) => {
      bytes += data.length;
    });
    return requireBytes(bytes, smallBodyBytes);
  },

  async issueHandoff({ grpc }, leaseId) {
    return (await grpc.unary(HandoffService.method.issueHandoff, { leaseId })).claimToken;
  },

  async issueWideHandoff({ grpc }, leaseId) {
    return (await grpc.unary(HandoffService.method.issueHandoff, { leaseId, maxClaims: 1000 })).claimToken;
  },

  async inspectHandoff({ grpc }, claimToken) {
    return (await grpc.unary(HandoffService.method.inspectHandoff, { claimToken })).handoff?.handoffId ?? "";
  },

  /** The output is what confirmClaim takes: the token and the claim. */
  async claimHandoff({ grpc }, claimToken) {
    let claimId = "";
    let bytes = 0;
    await grpc.serverStream(HandoffService.method.claimHandoff, { claimToken, requestId: randomUUID() }, ({ part }) => {
      if (part.case === "start") {
        claimId = part.value.claimId;
      } else if (part.case === "data") {
        bytes += part.value.data.length;
      }
    });
    requireBytes(bytes, smallBodyBytes);
    return `${claimToken} ${claimId}`;
  },

  async confirmClaim({ grpc }, claim) {
    const [claimToken = "", claimId = ""] = claim.split(" ");
    return (await grpc.unary(HandoffService.method.confirmClaim, { claimToken, claimId })).claim?.claimId ?? "";
  },

  async listHandoffs({ grpc }, leaseId) {
    return `${(await grpc.unary(HandoffService.method.listHandoffs, { leaseId })).handoffs.length}`;
  },

  async revokeHandoff({ grpc }, handoffId) {
    return (await grpc.unary(HandoffService.method.revokeHandoff, { handoffId })).handoff?.handoffId ?? "";
  },

  async getAccount({ grpc }) {
    return (await grpc.unary(AccountService.method.getAccount, {})).account?.accountId ?? "";
  },

  async listLedgerEntries({ grpc }) {
    return `${(await grpc.unary(AccountService.method.listLedgerEntries, { pageSize: 50 })).entries.length}`;
  },

  async uploadOverGrpc({ grpc }, leaseId) {
    const { lease } = await grpc.clientStream(LeaseService.method.uploadContent, uploadMessages(leaseId));
    return lease?.leaseId ?? "";
  },

  /** The input is a path, of the product or of the plain server. */
  async uploadOverHttp({ httpPort, bearer }, path) {
    const request = http.request({
      port: httpPort,
      path,
      method: "PUT",
      headers: { authorization: `Bearer ${bearer}`, "content-length": largeBodyBytes },
    });
    const answered = responseTo(request);
    for (let sent = pieceBytes; sent < largeBodyBytes; sent += pieceBytes) {
      request.write(piece);
      if (request.writableLength > aheadBytes) {
        await Promise.race([once(request, "drain"), answered]);
      }
    }
    request.end(piece);
    const response = await answered;
    response.resume();
    await finished(response);
    return path;
  },

  async deleteOverHttp({ httpPort, bearer }, path) {
    const request = http.request({
      port: httpPort,
      path,
      method: "DELETE",
      headers: { authorization: `Bearer ${bearer}` },
    });
    request.end();
    const response = await responseTo(request);
    response.resume();
    await finished(response);
    return path;
  },

  async downloadOverHttp({ httpPort, bearer }, path) {
    const bytes = await download(httpPort, bearer, path, () => undefined);
    return requireBytes(bytes, largeBodyBytes);
  },

  /** Outside any timed run: that what is timed gives the right bytes. */
  async verifyOverHttp({ httpPort, bearer }, path) {
    const hash = createHash("sha256");
    await download(httpPort, bearer, path, (chunk) => hash.update(chunk));
    if (!hash.digest().equals(piecesSha256)) {
      throw new Error(`${path} gave other bytes than were sent`);
    }
    return path;
  },
} as const satisfies Readonly<Record<string, Operation>>;

export type LoadOperation = keyof typeof loadOperations;

async function createLease({ grpc }: LoadTarget, requestId: string): Promise<string> {
  const { lease } = await grpc.unary(LeaseService.method.createLease, {
    requestId,
    sizeBytes: BigInt(smallBodyBytes),
    duration: { seconds: 86_400n },
    labels: { purpose: "bench" },
    variant: { case: "storage", value: { fileName: "report.json", contentType: "application/json" } },
  });
  return lease?.leaseId ?? "";
}

function* uploadMessages(leaseId: string) {
  for (let offset = 0; offset < largeBodyBytes; offset += pieceBytes) {
    const last = offset + pieceBytes === largeBodyBytes;
    yield {
      target: offset === 0 ? { case: "leaseId" as const, value: leaseId } : { case: undefined },
      offset: BigInt(offset),
      data: piece,
      dataCrc32: crc32(piece),
      finish: last,
      sha256: last ? piecesSha256 : new Uint8Array(),
    };
  }
}

async function download(port: number, bearer: string, path: string, receive: (chunk: Buffer) => void): Promise<number> {
  const request = http.request({ port, path, headers: { authorization: `Bearer ${bearer}` } });
  const answered = responseTo(request);
  request.end();
  const response = await answered;
  let bytes = 0;
  response.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    receive(chunk);
  });
  await finished(response);
  return bytes;
}

/** @throws Error if the answer is not 200. */
async function responseTo(request: http.ClientRequest): Promise<http.IncomingMessage> {
  const [response] = (await once(request, "response")) as [http.IncomingMessage];
  if (response.statusCode !== 200) {
    throw new Error(`${request.method} ${request.path}: ${response.statusCode}`);
  }
  return response;
}

function requireBytes(bytes: number, expected: number): string {
  if (bytes !== expected) {
    throw new Error(`${bytes} bytes came instead of ${expected}`);
  }
  return `${bytes}`;
}

function hashOfPieces(): Buffer {
  const hash = createHash("sha256");
  for (let hashed = 0; hashed < largeBodyBytes; hashed += pieceBytes) {
    hash.update(piece);
  }
  return hash.digest();
}
