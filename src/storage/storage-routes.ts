/** The plain HTTP form of a Storage lease's body: PUT to write it, resumed with Content-Range; GET to read it, with Range. */

import { create } from "@bufbuild/protobuf";
import { LeaseService, UploadContentResponseSchema } from "#gen/leasehold/v1/lease_pb.js";
import { giveBack } from "../content/sealing.ts";
import { invalidField, LeaseholdError } from "../errors/leasehold-error.ts";
import type { LeaseSeals } from "../lease/lease-seals.ts";
import { leaseUuidOf } from "../lease/lease-service.ts";
import { bodyHeaders } from "../server/content-headers.ts";
import type { HttpExchange } from "../server/http-exchange.ts";
import { type ByteRange, parseContentRange, parseRange, parseReprDigest } from "../server/http-ranges.ts";
import type { Route } from "../server/router.ts";
import { unpackDetails } from "./storage-details.ts";
import { findBodyFor, guarded, type StorageServiceOptions } from "./storage-service.ts";

/** What the routes need. */
export interface StorageRoutesOptions extends StorageServiceOptions {
  readonly seals: LeaseSeals;
}

/** `PUT|GET /api/leases/{lease_id}/content`. */
export function storageRoutes(options: StorageRoutesOptions): Route[] {
  const path = "/api/leases/:lease_id/content";
  return [
    {
      method: "PUT",
      path,
      rpc: LeaseService.method.uploadContent,
      handle: (exchange) => putContent(options, exchange),
    },
    {
      method: "GET",
      path,
      rpc: LeaseService.method.downloadContent,
      handle: (exchange) => getContent(options, exchange),
    },
  ];
}

/**
 * Stores the request's body. Without Content-Range it is the whole of it, from the start; with `bytes N-M/T` it is a
 * part, and the last when M + 1 is T. What arrived of a broken request is kept.
 */
async function putContent(options: StorageRoutesOptions, exchange: HttpExchange): Promise<void> {
  const { call } = exchange;
  const caller = await options.callers.of(call);
  const part = parseContentRange(call.header("content-range"));
  const sha256 = parseReprDigest(call.header("repr-digest"));
  requireLength(exchange, part);
  const leaseId = leaseUuidOf(exchange.params.lease_id ?? "");
  const upload = await options.uploads.begin(caller, leaseId, {
    offset: part?.first ?? 0n,
    restart: part === undefined,
    leastBytes: BigInt(call.header("content-length") ?? 0),
    mostBytes: part === undefined ? undefined : part.last + 1n - part.first,
    signal: call.signal,
    whole: wholeOf(part, call.header("content-length"), sha256),
  });
  const stop = options.watch.watch({
    lease: upload.lease,
    now: upload.now,
    cut: (error) => call.abort(error),
    caller: { caller, scope: "write" },
  });
  try {
    const stored = await guarded(upload, async (writing) => {
      for await (const chunk of exchange.body()) {
        requireWithin(writing.receivedBytes + BigInt(chunk.length), part);
        await writing.append(chunk);
        giveBack(chunk);
      }
      requireWhole(writing.receivedBytes, part);
      const last = part === undefined || part.total === writing.receivedBytes;
      return last ? await writing.finish(sha256, call.signal) : await writing.suspend();
    });
    const lease = await options.view.show(stored.lease, stored.now);
    await exchange.sendMessage(UploadContentResponseSchema, create(UploadContentResponseSchema, { lease }));
  } finally {
    stop();
  }
}

/** What the whole body is, if this request ends it and says how long it is. */
function wholeOf(part: ByteRange | undefined, length: string | undefined, sha256: Uint8Array) {
  const bodyBytes = part === undefined ? (length === undefined ? undefined : BigInt(length)) : part.total;
  const isLast = part === undefined || part.total === part.last + 1n;
  return bodyBytes === undefined || !isLast ? undefined : { bodyBytes, sha256 };
}

/** Sends the body, or the range of it that was asked for. */
async function getContent(options: StorageRoutesOptions, exchange: HttpExchange): Promise<void> {
  const { call, request } = exchange;
  const caller = await options.callers.of(call);
  const found = await findBodyFor(options.database, caller, leaseUuidOf(exchange.params.lease_id ?? ""));
  const details = unpackDetails(await options.seals.openDetails(found));
  const headers = bodyHeaders({ ...details, name: details.fileName });
  const condition = call.header("if-range");
  const asked = condition === undefined || condition === headers.etag ? call.header("range") : undefined;
  const range = parseRange(asked, found.content_bytes);
  const length = range.end - range.start;
  headers["content-length"] = `${length}`;
  if (range.partial) {
    headers["content-range"] = `bytes ${range.start}-${range.end - 1n}/${found.content_bytes}`;
  }
  exchange.begin(range.partial ? 206 : 200, headers);
  if (request.method === "HEAD") {
    await exchange.end();
    return;
  }
  const stop = options.watch.watch({
    lease: found,
    now: found.now,
    askedAtMs: found.askedAtMs,
    cut: (error) => call.abort(error),
    caller: { caller, scope: "read" },
  });
  try {
    for await (const data of options.bodies.read(found, range.start, length)) {
      call.signal.throwIfAborted();
      await exchange.write(data);
    }
    await exchange.end();
  } finally {
    stop();
  }
}

function requireLength(exchange: HttpExchange, part: ByteRange | undefined): void {
  const length = exchange.call.header("content-length");
  if (part !== undefined && length !== undefined && BigInt(length) !== part.last + 1n - part.first) {
    throw invalidField("content-range", "must be as long as the body");
  }
}

function requireWithin(receivedBytes: bigint, part: ByteRange | undefined): void {
  if (part !== undefined && receivedBytes > part.last + 1n) {
    throw new LeaseholdError("MALFORMED_REQUEST", `The body goes on past ${part.last + 1n}, where Content-Range ends.`);
  }
}

function requireWhole(receivedBytes: bigint, part: ByteRange | undefined): void {
  if (part !== undefined && receivedBytes !== part.last + 1n) {
    throw new LeaseholdError(
      "MALFORMED_REQUEST",
      `The body ends at ${receivedBytes}, and Content-Range at ${part.last + 1n}.`,
    );
  }
}
