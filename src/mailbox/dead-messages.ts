/** Brings dead messages back. */
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import type { RedriveMessagesRequest } from "#gen/leasehold/v1/mailbox_pb.js";
import { type Caller, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import type { Database } from "../database/database.ts";
import { notFound } from "../errors/leasehold-error.ts";
import { formatId, type LeaseUuid, parseId } from "../ids/ids.ts";
import { isLeaseRow, requireLive, requireVariant } from "../lease/lease-row.ts";
import { leaseUuidOf } from "../lease/lease-service.ts";
import type { Wakeups } from "../wakeups/wakeups.ts";
import { buryExhausted, redriveMessages } from "./dead-statements.ts";

/** How many messages one call brings back, and one statement buries. */
const atOnce = 1_000;

/**
 * Makes dead what is exhausted in a mailbox.
 *
 * @returns whether there was anything.
 */
export async function buryIn(
  options: { readonly database: Database; readonly wakeups: Wakeups },
  ownerId: Caller["ownerId"],
  leaseId: LeaseUuid,
): Promise<boolean> {
  const [row] = await options.database.run(buryExhausted, [ownerId, leaseId, atOnce], { repeatable: true });
  if (row?.has_promoted === true) {
    options.wakeups.changed(leaseId);
  }
  return (row?.buried_messages ?? 0) > 0;
}

/**
 * Brings messages back, those to be buried among them. Their ids, oldest first.
 *
 * @throws LeaseholdError NOT_FOUND, LEASE_ENDED, WRONG_VARIANT, or the refusal of the key.
 */
export async function redrive(
  options: { readonly database: Database; readonly wakeups: Wakeups },
  caller: Caller,
  request: RedriveMessagesRequest,
): Promise<string[]> {
  const leaseId = leaseUuidOf(request.leaseId);
  while (await buryIn(options, caller.ownerId, leaseId)) {
    // Until there is none left: each is a message that the caller may mean.
  }
  const asked = request.messageIds.map((id) => parseId("msg", id));
  const rows = await options.database.run(redriveMessages, [
    caller.ownerId,
    caller.keyId,
    scopeBits.write,
    leaseId,
    asked.length === 0 ? null : asked,
    atOnce,
  ]);
  const [first] = rows;
  requireAccess(first?.access, "write");
  if (first === undefined || !isLeaseRow(first)) {
    throw notFound("lease");
  }
  requireLive(first, first.now);
  requireVariant(first, Lease_Variant.MAILBOX, "messages");
  const messageIds = rows.flatMap(({ message_id }) => (message_id === null ? [] : [formatId("msg", message_id)]));
  if (messageIds.length > 0) {
    options.wakeups.changed(leaseId);
  }
  return messageIds;
}
