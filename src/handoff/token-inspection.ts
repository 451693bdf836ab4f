/** Looks at a token for its holder, and consumes nothing. */
import { create } from "@bufbuild/protobuf";
import {
  Handoff_State,
  type HandoffItem,
  type InspectHandoffResponse,
  InspectHandoffResponseSchema,
} from "#gen/leasehold/v1/handoff_pb.js";
import type { Database } from "../database/database.ts";
import { notFound } from "../errors/leasehold-error.ts";
import { requireLive } from "../lease/lease-row.ts";
import type { LeaseContent, LeaseVariants } from "../lease/lease-variant.ts";
import { toTimestamp } from "../proto-values/proto-time.ts";
import type { Claims } from "./claims.ts";
import { handoffOf } from "./handoff-row.ts";
import { findHandoff } from "./handoff-statements.ts";
import { showHandoff, showItem } from "./handoff-view.ts";
import type { HeldHandoff, TokenHolders } from "./token-holders.ts";

/** What looking needs. */
export interface InspectionOptions {
  readonly database: Database;
  readonly variants: LeaseVariants;
  readonly holders: TokenHolders;
  readonly claims: Claims;
}

/**
 * What a token is good for. Writes nothing, unless the hold of a claim is over: the claim is settled then.
 *
 * @throws LeaseholdError TOKEN_MALFORMED, NOT_FOUND or LEASE_ENDED. Of a token that is used up, over or
 * revoked the terms are shown, and no longer what it was for.
 */
export async function inspectToken(options: InspectionOptions, token: string): Promise<InspectHandoffResponse> {
  const held = await options.holders.find(token);
  const row = await findSettled(options, held);
  const handoff = handoffOf(row);
  if (handoff === undefined) {
    throw notFound("token");
  }
  requireLive(row, row.now);
  const shown = showHandoff(handoff, undefined, row.now);
  // What a token was for is shown while it is good for it: names and checksums are sealed content too.
  const isGood = shown.state === Handoff_State.OPEN || shown.state === Handoff_State.BUSY;
  const content = isGood
    ? await options.variants.of(row).openContent(row, handoff.content_version ?? row.content_version)
    : undefined;
  return create(InspectHandoffResponseSchema, {
    handoff: shown,
    variant: row.variant,
    contentBytes: content?.totalBytes ?? 0n,
    items: content === undefined ? [] : await firstItems(content),
    itemCount: content?.itemCount ?? 0n,
    leaseExpireTime: toTimestamp(row.expire_time),
  });
}

/** How many items are shown of a token. */
const maxShownItems = 100;

async function firstItems(content: LeaseContent): Promise<HandoffItem[]> {
  const items: HandoffItem[] = [];
  for await (const item of content.items(0n)) {
    items.push(showItem(item));
    if (items.length === maxShownItems) {
      break;
    }
  }
  return items;
}

async function findSettled({ database, claims }: InspectionOptions, held: HeldHandoff) {
  const [row] = await database.run(findHandoff, [held.ownerId, held.handoffId]);
  if (row === undefined) {
    throw notFound("token");
  }
  if (!row.has_overdue) {
    return row;
  }
  await claims.settle(held);
  const [settled] = await database.run(findHandoff, [held.ownerId, held.handoffId]);
  return settled ?? row;
}
