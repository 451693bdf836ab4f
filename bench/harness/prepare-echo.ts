/** Gives the echo the very answers that the product gives, so that both send the same bytes. */
import { randomUUID } from "node:crypto";
import { toBinary } from "@bufbuild/protobuf";
import { HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { MailboxService } from "#gen/leasehold/v1/mailbox_pb.js";
import { GrpcConnection } from "./grpc-connection.ts";
import { endMailboxes, makeMailboxes } from "./make-mailboxes.ts";
import type { EchoServer, LeaseholdServer, Stage } from "./stage.ts";

/** The product, the echo of it that knows its answers, and a lease with a small body and room for handoffs. */
export async function prepareEcho(stage: Stage): Promise<{ leasehold: LeaseholdServer; echo: EchoServer }> {
  const leasehold = await stage.leasehold("main");
  const echo = await stage.echoOf(leasehold);
  const [leaseId = ""] = await stage.call(leasehold, { operation: "createLease", stop: { calls: 1 } });
  await stage.call(leasehold, { operation: "uploadSmall", inputs: [leaseId], stop: "inputs" });
  const grpc = new GrpcConnection(leasehold.grpcPort, leasehold.bearer);
  const { createLease, getLease } = LeaseService.method;
  const got = await grpc.unary(getLease, { leaseId });
  const created = await grpc.unary(createLease, {
    sizeBytes: 1024n,
    duration: { seconds: 86_400n },
    labels: { purpose: "bench" },
    variant: { case: "storage", value: { fileName: "report.json", contentType: "application/json" } },
  });
  const { issueHandoff, claimHandoff } = HandoffService.method;
  const { claimToken } = await grpc.unary(issueHandoff, { leaseId });
  const claimed: Uint8Array[] = [];
  await grpc.serverStream(claimHandoff, { claimToken, requestId: randomUUID() }, (part) => {
    claimed.push(toBinary(claimHandoff.output, part));
  });
  const mailboxes = await makeMailboxes(stage, leasehold, 1);
  const { dropMessage } = MailboxService.method;
  const dropped = await grpc.unary(dropMessage, {
    dropToken: mailboxes[0]?.dropToken ?? "",
    body: new Uint8Array(1024),
  });
  await endMailboxes(stage, leasehold, mailboxes);
  grpc.close();
  await echo.process.ask("answerWith", {
    createLease: toBinary(createLease.output, created),
    getLease: toBinary(getLease.output, got),
    claimHandoff: claimed,
    dropMessage: toBinary(dropMessage.output, dropped),
  });
  return { leasehold, echo };
}
