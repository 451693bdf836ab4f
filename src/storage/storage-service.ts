/** The methods of LeaseService that move a Storage lease's body. */
import { crc32 } from "node:zlib";
import {
  Lease_State,
  Lease_Variant,
  type LeaseService,
  type UploadContentPartRequest,
  type UploadContentRequest,
} from "#gen/leasehold/v1/lease_pb.js";
import { type Caller, type Callers, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import type { Database } from "../database/database.ts";
import { checksumMismatch, invalidField, notFound } from "../errors/leasehold-error.ts";
import type { LeaseUuid } from "../ids/ids.ts";
import { isLeaseRow, requireLive, requireState, requireVariant } from "../lease/lease-row.ts";
import { type CallerLeases, type LeaseAt, leaseUuidOf } from "../lease/lease-service.ts";
import type { LeaseView } from "../lease/lease-view.ts";
import type { LeaseWatch } from "../lease/lease-watch.ts";
import type { Call } from "../server/call.ts";
import type { ServiceImplementation } from "../server/service-implementation.ts";
import { offsetMismatch } from "./body-refusals.ts";
import { rangeBytes, type StorageBodies } from "./storage-body.ts";
import { findBodyOfCaller } from "./storage-statements.ts";
import { StorageUpload } from "./storage-upload.ts";
import type { StorageUploads } from "./storage-uploads.ts";

/** What the methods need. */
export interface StorageServiceOptions {
  readonly database: Database;
  readonly callers: Callers;
  readonly leases: CallerLeases;
  readonly view: LeaseView;
  readonly watch: LeaseWatch;
  readonly uploads: StorageUploads;
  readonly bodies: StorageBodies;
}

type StorageMethods = Pick<
  ServiceImplementation<typeof LeaseService>,
  "uploadContent" | "uploadContentPart" | "downloadContent"
>;

/** The methods of LeaseService that move a body. */
export function storageService(options: StorageServiceOptions): StorageMethods {
  const { callers, uploads, view, bodies } = options;
  return {
    async uploadContent(requests, call) {
      const caller = await callers.of(call);
      const finished = await uploadStream(options, caller, requests, call);
      return { lease: await view.show(finished.lease, finished.now) };
    },

    async uploadContentPart(request, call) {
      const caller = await callers.of(call);
      requireChecksum(request);
      const dataBytes = BigInt(request.data.length);
      const upload = await uploads.begin(caller, leaseUuidOf(request.leaseId), {
        offset: request.offset,
        restart: false,
        leastBytes: dataBytes,
        mostBytes: dataBytes,
        signal: call.signal,
        whole: request.finish ? { bodyBytes: request.offset + dataBytes, sha256: request.sha256 } : undefined,
      });
      const stored = await guarded(upload, async (writing) => {
        await writing.append(request.data);
        return request.finish ? await writing.finish(request.sha256, call.signal) : await writing.suspend();
      });
      return { lease: await view.show(stored.lease, stored.now) };
    },

    async *downloadContent(request, call) {
      const caller = await callers.of(call);
      const found = await findBodyFor(options.database, caller, leaseUuidOf(request.leaseId));
      const length = rangeBytes(found.content_bytes, request.offset, request.limit);
      const stop = options.watch.watch({
        lease: found,
        now: found.now,
        askedAtMs: found.askedAtMs,
        cut: (error) => call.abort(error),
        caller: { caller, scope: "read" },
      });
      try {
        yield { lease: await view.show(found, found.now) };
        let offset = request.offset;
        for await (const data of bodies.read(found, offset, length)) {
          call.signal.throwIfAborted();
          yield { offset, data, dataCrc32: crc32(data) };
          offset += BigInt(data.length);
        }
      } finally {
        stop();
      }
    },
  };
}

/**
 * A caller's active lease with its body.
 *
 * @throws LeaseholdError NOT_FOUND, LEASE_ENDED, WRONG_VARIANT, WRONG_STATE, or the refusal of the key.
 */
export async function findBodyFor(database: Database, caller: Caller, leaseId: LeaseUuid) {
  const askedAtMs = performance.now();
  const [row] = await database.run(findBodyOfCaller, [caller.ownerId, caller.keyId, scopeBits.read, leaseId]);
  requireAccess(row?.access, "read");
  if (row === undefined || !isLeaseRow(row)) {
    throw notFound("lease");
  }
  requireLive(row, row.now);
  requireVariant(row, Lease_Variant.STORAGE, "body");
  requireState(row, row.now, Lease_State.ACTIVE);
  return { ...row, askedAtMs };
}

/**
 * Runs the steps of an upload, unless there is nothing left to do; whatever fails, what has arrived is kept if it can
 * be.
 */
export async function guarded(
  upload: StorageUpload | LeaseAt,
  steps: (upload: StorageUpload) => Promise<LeaseAt>,
): Promise<LeaseAt> {
  if (!(upload instanceof StorageUpload)) {
    return upload;
  }
  try {
    return await steps(upload);
  } catch (error) {
    await upload.abandon();
    throw error;
  }
}

async function uploadStream(
  options: StorageServiceOptions,
  caller: Caller,
  requests: AsyncIterable<UploadContentRequest>,
  call: Call,
): Promise<LeaseAt> {
  let upload: StorageUpload | undefined;
  let stop: (() => void) | undefined;
  try {
    for await (const request of requests) {
      requireChecksum(request);
      if (upload === undefined) {
        const leaseId = await targetOf(options.leases, caller, request);
        const dataBytes = BigInt(request.data.length);
        const begun = await options.uploads.begin(caller, leaseId, {
          offset: request.offset,
          restart: false,
          leastBytes: dataBytes,
          mostBytes: undefined,
          signal: call.signal,
          whole: request.finish ? { bodyBytes: request.offset + dataBytes, sha256: request.sha256 } : undefined,
        });
        if (!(begun instanceof StorageUpload)) {
          return begun;
        }
        upload = begun;
        stop = options.watch.watch({
          lease: upload.lease,
          now: upload.now,
          cut: (error) => call.abort(error),
          caller: { caller, scope: "write" },
        });
      } else if (request.target.case !== undefined) {
        throw invalidField("target", "must be in the first message only");
      } else if (request.offset !== upload.receivedBytes) {
        throw offsetMismatch(request.offset, upload.receivedBytes);
      }
      await upload.append(request.data);
      if (request.finish) {
        return await upload.finish(request.sha256, call.signal);
      }
    }
    if (upload === undefined) {
      throw invalidField("target", "must be in the first message");
    }
    return await upload.suspend();
  } catch (error) {
    await upload?.abandon();
    throw error;
  } finally {
    stop?.();
  }
}

async function targetOf(leases: CallerLeases, caller: Caller, request: UploadContentRequest): Promise<LeaseUuid> {
  switch (request.target.case) {
    case "leaseId":
      return leaseUuidOf(request.target.value);
    case "create": {
      if (request.target.value.variant.case !== "storage") {
        throw invalidField("create.storage", "must be set: a body is uploaded to a Storage lease");
      }
      if (request.target.value.requestId === "") {
        throw invalidField("create.request_id", "must be set, so that a broken stream can be found again");
      }
      return (await leases.make(caller, request.target.value)).lease.lease_id;
    }
    case undefined:
      throw invalidField("target", "must be in the first message");
  }
}

function requireChecksum(request: UploadContentRequest | UploadContentPartRequest): void {
  if (request.dataCrc32 !== undefined && crc32(request.data) !== request.dataCrc32) {
    throw checksumMismatch("data_crc32");
  }
}
