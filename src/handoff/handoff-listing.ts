/** Pages of a lease's handoffs and their claims, for the owner. */
import { create } from "@bufbuild/protobuf";
import {
  Claim_State,
  type HandoffWithClaims,
  HandoffWithClaimsSchema,
  type ListHandoffsRequest,
} from "#gen/leasehold/v1/handoff_pb.js";
import { type Caller, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import type { Database } from "../database/database.ts";
import { invalidField, notFound } from "../errors/leasehold-error.ts";
import { formatId, type HandoffUuid, parseId, type Uuid } from "../ids/ids.ts";
import { endOf, isLeaseRow } from "../lease/lease-row.ts";
import { leaseUuidOf } from "../lease/lease-service.ts";
import { pageSizeOf } from "../proto-values/paging.ts";
import type { Claims } from "./claims.ts";
import { claimOf, handoffOf } from "./handoff-row.ts";
import { type ListedRow, listHandoffs } from "./handoff-statements.ts";
import { showClaim, showHandoff } from "./handoff-view.ts";

/** A page as ListHandoffs answers with it. */
export interface HandoffPage {
  readonly handoffs: HandoffWithClaims[];
  readonly nextPageToken: string;
}

/** Lists a lease's handoffs. Holds that are over are settled first, so that each claim is shown as it is. */
export async function listHandoffPage(
  options: { readonly database: Database; readonly claims: Claims },
  caller: Caller,
  request: ListHandoffsRequest,
): Promise<HandoffPage> {
  const pageSize = pageSizeOf(request);
  const leaseId = leaseUuidOf(request.leaseId);
  const start = parsePageToken(request.pageToken);
  const values = [
    caller.ownerId,
    caller.keyId,
    scopeBits.read,
    leaseId,
    start?.handoffId ?? null,
    start?.claimId ?? null,
    pageSize + 1,
  ];
  const rows = await options.database.run(listHandoffs, values);
  requireAccess(rows[0]?.access, "read");
  const overdue = overdueHandoffs(rows);
  for (const handoffId of overdue) {
    await options.claims.settle({ ownerId: caller.ownerId, leaseId, handoffId });
  }
  return showPage(overdue.size === 0 ? rows : await options.database.run(listHandoffs, values), pageSize);
}

function overdueHandoffs(rows: readonly ListedRow[]): ReadonlySet<HandoffUuid> {
  const overdue = new Set<HandoffUuid>();
  for (const row of rows) {
    const handoff = handoffOf(row);
    const claim = claimOf(row);
    if (handoff === undefined || claim === undefined) {
      continue;
    }
    const isOver = claim.hold_expire_time <= row.now;
    const isHeld = claim.state === Claim_State.HELD;
    const isOpen = isHeld || claim.state === Claim_State.DELIVERED;
    if ((isOpen && isOver) || (isHeld && handoff.revoke_time !== null)) {
      overdue.add(handoff.handoff_id);
    }
  }
  return overdue;
}

/** Groups a page's rows by handoff. The token of the next page names the last claim that was shown. */
function showPage(rows: readonly ListedRow[], pageSize: number): HandoffPage {
  const [first] = rows;
  if (first === undefined || !isLeaseRow(first)) {
    throw notFound("lease");
  }
  const leaseEnd = endOf(first, first.now);
  const handoffs: HandoffWithClaims[] = [];
  let last = "";
  for (const row of rows.slice(0, pageSize)) {
    const handoff = handoffOf(row);
    if (handoff === undefined) {
      continue;
    }
    const claim = claimOf(row);
    const handoffId = formatId("hnd", handoff.handoff_id);
    if (handoffs.at(-1)?.handoff?.handoffId !== handoffId) {
      handoffs.push(create(HandoffWithClaimsSchema, { handoff: showHandoff(handoff, leaseEnd, row.now) }));
    }
    if (claim !== undefined) {
      handoffs.at(-1)?.claims.push(showClaim(claim));
    }
    last = `${handoffId}.${claim === undefined ? "" : formatId("clm", claim.claim_id)}`;
  }
  return { handoffs, nextPageToken: rows.length > pageSize ? last : "" };
}

function parsePageToken(token: string): { readonly handoffId: HandoffUuid; readonly claimId: Uuid<"clm"> } | undefined {
  if (token === "") {
    return undefined;
  }
  const [handoff = "", claim = ""] = token.split(".");
  const handoffId = parseId("hnd", handoff);
  const claimId = claim === "" ? (lastUuid as Uuid<"clm">) : parseId("clm", claim);
  if (handoffId === undefined || claimId === undefined) {
    throw invalidField("page_token", "must be the next_page_token of the page before");
  }
  return { handoffId, claimId };
}

/** Above every id: a page that ended at a handoff without claims goes on behind it. */
const lastUuid = "ffffffff-ffff-ffff-ffff-ffffffffffff";
