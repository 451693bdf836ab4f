/** The method of MailboxService that shows what became of a mailbox's webhook notifications. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import type { MailboxService, WebhookDeliverySchema } from "#gen/leasehold/v1/mailbox_pb.js";
import { type Callers, requireAccess } from "../account/caller.ts";
import { scopeBits } from "../account/scopes.ts";
import type { Database } from "../database/database.ts";
import { invalidField, notFound } from "../errors/leasehold-error.ts";
import { formatId } from "../ids/ids.ts";
import { isLeaseRow, requireLive, requireVariant } from "../lease/lease-row.ts";
import { leaseUuidOf } from "../lease/lease-service.ts";
import { pageSizeOf } from "../proto-values/paging.ts";
import { toTimestamp } from "../proto-values/proto-time.ts";
import type { ServiceImplementation } from "../server/service-implementation.ts";
import { type DeliveryRow, isDeliveryRow, listWebhookDeliveries } from "./webhook-statements.ts";

type WebhookMethods = Pick<ServiceImplementation<typeof MailboxService>, "listWebhookDeliveries">;

/** The methods of MailboxService that are about webhooks. */
export function webhookMethods(options: { readonly database: Database; readonly callers: Callers }): WebhookMethods {
  return {
    async listWebhookDeliveries(request, call) {
      const caller = await options.callers.of(call);
      const pageSize = pageSizeOf(request);
      const before = parsePageToken(request.pageToken);
      const leaseId = leaseUuidOf(request.leaseId);
      const values = [caller.ownerId, caller.keyId, scopeBits.read, leaseId, before ?? null, pageSize + 1];
      const rows = await options.database.run(listWebhookDeliveries, values);
      const [first] = rows;
      requireAccess(first?.access, "read");
      if (first === undefined || !isLeaseRow(first)) {
        throw notFound("lease");
      }
      requireLive(first, first.now);
      requireVariant(first, Lease_Variant.MAILBOX, "messages");
      const deliveries = rows.filter((row) => isDeliveryRow(row));
      const page = deliveries.slice(0, pageSize);
      return {
        deliveries: page.map(showDelivery),
        nextPageToken: deliveries.length > pageSize ? `${page.at(-1)?.sequence}` : "",
        webhookDisableTime: toTimestamp(first.webhook_disable_time),
      };
    },
  };
}

function showDelivery(row: DeliveryRow): MessageInitShape<typeof WebhookDeliverySchema> {
  return {
    messageId: formatId("msg", row.message_id),
    sequence: row.sequence,
    state: row.state,
    attemptCount: row.attempt_count,
    lastAttemptTime: toTimestamp(row.last_attempt_time),
    lastStatus: row.last_status ?? 0,
    lastError: row.last_error ?? "",
    nextAttemptTime: toTimestamp(row.next_attempt_time),
    createTime: toTimestamp(row.drop_time),
  };
}

/** A page ends with a sequence, and the next is of those before it. */
function parsePageToken(token: string): bigint | undefined {
  if (token === "") {
    return undefined;
  }
  if (!/^[1-9][0-9]{0,17}$/.test(token)) {
    throw invalidField("page_token", "must be the next_page_token of the page before");
  }
  return BigInt(token);
}
