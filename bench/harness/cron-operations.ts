/** What the load does with Cron leases. */
import { randomBytes } from "node:crypto";
import { LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import type { Operation } from "./load-target.ts";

/** Of what one firing delivers. */
const payloadBytes = 1024;

const payload = randomBytes(payloadBytes);

export const cronOperations = {
  /** The input is a mailbox and the second, since the Unix epoch, at which its message is due. */
  async createCron({ grpc }, input) {
    const [mailboxLeaseId = "", dueSeconds = ""] = input.split(" ");
    const { lease } = await grpc.unary(LeaseService.method.createLease, {
      sizeBytes: BigInt(payloadBytes),
      duration: { seconds: 86_400n },
      variant: {
        case: "cron",
        value: {
          schedule: { kind: { case: "at", value: { seconds: BigInt(dueSeconds) } } },
          target: { case: "mailboxLeaseId", value: mailboxLeaseId },
          payload,
        },
      },
    });
    return lease?.leaseId ?? "";
  },
} as const satisfies Readonly<Record<string, Operation>>;
