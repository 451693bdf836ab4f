/** Shows handoffs and claims as the proto's messages. */
import { create } from "@bufbuild/protobuf";
import {
  type Claim,
  ClaimSchema,
  type Handoff,
  type HandoffItem,
  HandoffItemSchema,
  HandoffSchema,
} from "#gen/leasehold/v1/handoff_pb.js";
import type { DatabaseTime } from "../database/row-types.ts";
import { formatId } from "../ids/ids.ts";
import type { LeaseEnd } from "../lease/lease-row.ts";
import type { ContentItem } from "../lease/lease-variant.ts";
import { toTimestamp } from "../proto-values/proto-time.ts";
import { type ClaimRow, type HandoffRow, handoffStateOf } from "./handoff-row.ts";

/** A handoff at `now`, of a lease that has or has not ended. */
export function showHandoff(row: HandoffRow, leaseEnd: LeaseEnd | undefined, now: DatabaseTime): Handoff {
  return create(HandoffSchema, {
    handoffId: formatId("hnd", row.handoff_id),
    leaseId: formatId("lse", row.lease_id),
    state: handoffStateOf(row, leaseEnd, now),
    maxClaims: row.max_claims,
    openClaims: row.open_claims,
    usedClaims: row.used_claims,
    burntClaims: row.burnt_claims,
    incompleteClaims: row.incomplete_claims,
    maxIncompleteClaims: row.max_incomplete_claims,
    deleteOnClaim: row.delete_on_claim,
    incompleteClaimPolicy: row.incomplete_claim_policy,
    createTime: toTimestamp(row.create_time),
    expireTime: toTimestamp(row.expire_time),
    revokeTime: toTimestamp(row.revoke_time),
    checkpointVersion: row.content_version ?? 0n,
  });
}

/** A claim. */
export function showClaim(row: ClaimRow): Claim {
  return create(ClaimSchema, {
    claimId: formatId("clm", row.claim_id),
    state: row.state,
    createTime: toTimestamp(row.create_time),
    holdExpireTime: toTimestamp(row.hold_expire_time),
    deliverTime: toTimestamp(row.deliver_time),
    endTime: toTimestamp(row.end_time),
    deliveredBytes: row.delivered_bytes,
    servedBytes: row.served_bytes,
  });
}

/** An item of a lease's content, without the content. */
export function showItem(item: ContentItem): HandoffItem {
  const { name, contentType, sizeBytes, sha256, attributes = {}, createTime } = item;
  const shownTime = toTimestamp(createTime ?? null);
  return create(HandoffItemSchema, { name, contentType, sizeBytes, sha256, attributes, createTime: shownTime });
}
