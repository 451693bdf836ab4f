/** The methods of MailboxService for the receiving side: messages are taken, settled, looked at and brought back. */
import { type MailboxService, ReceiptResult_Outcome } from "#gen/leasehold/v1/mailbox_pb.js";
import { leaseUuidOf } from "../lease/lease-service.ts";
import { microsOf, toTimestamp } from "../proto-values/proto-time.ts";
import type { ServiceImplementation } from "../server/service-implementation.ts";
import { redrive } from "./dead-messages.ts";
import { Settlements } from "./delivery-settlements.ts";
import type { MailboxServiceOptions } from "./mailbox-options.ts";
import { MessageListing } from "./message-listing.ts";
import { pullMessages, streamMessages } from "./receive-calls.ts";
import { ReceiveDesk } from "./receive-desk.ts";
import { ReceiveWindows } from "./receive-windows.ts";

type ReceiveMethods = Pick<
  ServiceImplementation<typeof MailboxService>,
  | "receiveMessages"
  | "pullMessages"
  | "ackMessages"
  | "nackMessages"
  | "extendMessages"
  | "listMessages"
  | "listDeadMessages"
  | "redriveMessages"
>;

/** The methods. They share what waits: call it once for a process. */
export function receiveMethods(options: MailboxServiceOptions): ReceiveMethods {
  const { database, callers, wakeups } = options;
  const desk = new ReceiveDesk(options);
  const windows = new ReceiveWindows(database, wakeups);
  const settlements = new Settlements({ database, wakeups, windows });
  const listing = new MessageListing(options);
  const receiving = { ...options, desk, windows };
  return {
    receiveMessages: (request, call) => streamMessages(receiving, request, call),

    pullMessages: (request, call) => pullMessages(receiving, request, call),

    async ackMessages(request, call) {
      const caller = await callers.of(call);
      const leaseId = leaseUuidOf(request.leaseId);
      const { outcomes } = await settlements.settle("ack", caller, leaseId, request.receipts, 0n);
      return { results: resultsOf(request.receipts, outcomes) };
    },

    async nackMessages(request, call) {
      const caller = await callers.of(call);
      const leaseId = leaseUuidOf(request.leaseId);
      const delayMicros = microsOf(request.delay) ?? 0n;
      const { outcomes } = await settlements.settle("nack", caller, leaseId, request.receipts, delayMicros);
      return { results: resultsOf(request.receipts, outcomes) };
    },

    async extendMessages(request, call) {
      const caller = await callers.of(call);
      const leaseId = leaseUuidOf(request.leaseId);
      const holdMicros = microsOf(request.visibilityTimeout) ?? 0n;
      const settled = await settlements.settle("extend", caller, leaseId, request.receipts, holdMicros);
      return {
        results: resultsOf(request.receipts, settled.outcomes),
        holdExpireTime: toTimestamp(settled.holdExpireTime),
      };
    },

    async listMessages(request, call) {
      return await listing.list(await callers.of(call), request);
    },

    async listDeadMessages(request, call) {
      return await listing.listDead(await callers.of(call), request);
    },

    async redriveMessages(request, call) {
      return { messageIds: await redrive({ database, wakeups }, await callers.of(call), request) };
    },
  };
}

function resultsOf(receipts: readonly string[], outcomes: readonly ReceiptResult_Outcome[]) {
  return receipts.map((receipt, index) => ({ receipt, outcome: outcomes[index] ?? ReceiptResult_Outcome.UNSPECIFIED }));
}
