/** HandoffService: issues tokens, shows them, and redeems them. */
import { crc32 } from "node:zlib";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ClaimHandoffResponseSchema, HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { type Callers, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import type { ServerKeys } from "../content/server-keys.ts";
import { notFound } from "../errors/leasehold-error.ts";
import { type ClaimUuid, formatId, parseId } from "../ids/ids.ts";
import { endOf, isLeaseRow } from "../lease/lease-row.ts";
import { toTimestamp } from "../proto-values/proto-time.ts";
import type { ServiceImplementation } from "../server/service-implementation.ts";
import { type ClaimPart, streamClaim } from "./claim-stream.ts";
import type { OpenClaim } from "./claims.ts";
import { HandoffIssuer } from "./handoff-issuer.ts";
import { listHandoffPage } from "./handoff-listing.ts";
import { handoffOf } from "./handoff-row.ts";
import { revokeHandoff } from "./handoff-statements.ts";
import { showClaim, showHandoff, showItem } from "./handoff-view.ts";
import { type InspectionOptions, inspectToken } from "./token-inspection.ts";

/** What the service needs. */
export interface HandoffServiceOptions extends InspectionOptions {
  readonly callers: Callers;
  readonly serverKeys: ServerKeys;
  /** Where plain HTTP is reached from outside, for claim_url: without a slash at the end. */
  readonly publicUrl: string;
}

/** HandoffService. */
export function handoffService(options: HandoffServiceOptions): ServiceImplementation<typeof HandoffService> {
  const { callers, database, claims } = options;
  const issuer = new HandoffIssuer(options);
  return {
    async issueHandoff(request, call) {
      const { handoff, token, leaseEnd, now } = await issuer.issue(await callers.of(call), request);
      return {
        handoff: showHandoff(handoff, leaseEnd, now),
        claimToken: token,
        claimUrl: `${options.publicUrl}/api/claim/${token}`,
      };
    },

    async inspectHandoff(request) {
      return await inspectToken(options, request.claimToken);
    },

    async *claimHandoff(request, call) {
      const open = await claims.open({
        token: request.claimToken,
        claimId: request.claimId === "" ? undefined : claimUuidOf(request.claimId),
        offset: request.offset,
        requestId: request.requestId === "" ? undefined : request.requestId,
      });
      for await (const part of streamClaim(open, claims, call)) {
        yield toResponse(open, part);
      }
      yield { part: { case: "end", value: { contentBytes: open.content.totalBytes } } };
    },

    async confirmClaim(request) {
      const confirmed = await claims.confirm(request.claimToken, claimUuidOf(request.claimId));
      return { claim: showClaim(confirmed.claim), leaseEnded: confirmed.leaseEnded };
    },

    async listHandoffs(request, call) {
      return await listHandoffPage(options, await callers.of(call), request);
    },

    async revokeHandoff(request, call) {
      const caller = await callers.of(call);
      const handoffId = parseId("hnd", request.handoffId) ?? null;
      const values = [caller.ownerId, caller.keyId, scopeBits.write, handoffId];
      const [row] = await database.run(revokeHandoff, values, { repeatable: true });
      requireAccess(row?.access, "write");
      const handoff = row === undefined ? undefined : handoffOf(row);
      if (row === undefined || handoff === undefined || !isLeaseRow(row)) {
        throw notFound("handoff");
      }
      return { handoff: showHandoff(handoff, endOf(row, row.now), row.now) };
    },
  };
}

/** The UUID of a claim id that the schema's rule has let through: that lets some through which nobody was ever given. */
function claimUuidOf(claimId: string): ClaimUuid {
  const uuid = parseId("clm", claimId);
  if (uuid === undefined) {
    throw notFound("claim");
  }
  return uuid;
}

function toResponse(open: OpenClaim, part: ClaimPart): MessageInitShape<typeof ClaimHandoffResponseSchema> {
  switch (part.kind) {
    case "start": {
      const claimId = formatId("clm", open.claim.claim_id);
      const holdExpireTime = toTimestamp(open.claim.hold_expire_time);
      const contentBytes = open.content.totalBytes;
      return { part: { case: "start", value: { claimId, holdExpireTime, contentBytes, offset: open.offset } } };
    }
    case "item":
      return { part: { case: "itemStart", value: showItem(part.item) } };
    case "data":
      return { part: { case: "data", value: { offset: part.offset, data: part.data, dataCrc32: crc32(part.data) } } };
  }
}
