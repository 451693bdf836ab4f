/** What the load does with mailboxes. */
import { randomBytes } from "node:crypto";
import { LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { MailboxService, ReceiptResult_Outcome } from "#gen/leasehold/v1/mailbox_pb.js";
import type { Operation } from "./load-target.ts";

/** Of the body of one message. */
export const messageBodyBytes = 1024;
/** How many messages are taken and acknowledged by one call each. */
export const messagesPerBatch = 100;

/** Room for more messages than a run drops. */
const capacityBytes = 2 ** 30;

const messageBody = randomBytes(messageBodyBytes);

export const mailboxOperations = {
  /** The output is the lease and its drop token. */
  async createMailbox({ grpc }) {
    const { lease, dropToken } = await grpc.unary(LeaseService.method.createLease, {
      sizeBytes: BigInt(capacityBytes),
      duration: { seconds: 86_400n },
      variant: { case: "mailbox", value: {} },
    });
    return `${lease?.leaseId} ${dropToken}`;
  },

  async dropMessage({ grpc }, dropToken) {
    return (await grpc.unary(MailboxService.method.dropMessage, { dropToken, body: messageBody })).messageId;
  },

  /** Two calls: takes a hundred messages, or fewer, and acknowledges them. The output is how many they were. */
  async pullAndAck({ grpc }, leaseId) {
    const { pullMessages, ackMessages } = MailboxService.method;
    const { deliveries } = await grpc.unary(pullMessages, { leaseId, maxMessages: messagesPerBatch });
    const receipts = deliveries.map(({ receipt }) => receipt);
    const { results } = await grpc.unary(ackMessages, { leaseId, receipts });
    const acked = results.filter(({ outcome }) => outcome === ReceiptResult_Outcome.ACKED).length;
    if (acked !== receipts.length) {
      throw new Error(`${acked} messages were acknowledged of ${receipts.length}`);
    }
    return `${acked}`;
  },
} as const satisfies Readonly<Record<string, Operation>>;
