/** The scope that each RPC by API key needs: the table that the comments in the proto show to callers. */
import type { DescMethod } from "@bufbuild/protobuf";
import { AccountService } from "#gen/leasehold/v1/account_pb.js";
import { CheckpointService } from "#gen/leasehold/v1/checkpoint_pb.js";
import { CronService } from "#gen/leasehold/v1/cron_pb.js";
import { HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { MailboxService } from "#gen/leasehold/v1/mailbox_pb.js";
import { ScratchpadService } from "#gen/leasehold/v1/scratchpad_pb.js";
import type { ScopeName } from "./scopes.ts";

const scopes = new Map<DescMethod, ScopeName>([
  [LeaseService.method.createLease, "create"],
  [LeaseService.method.getLease, "read"],
  [LeaseService.method.listLeases, "read"],
  [LeaseService.method.deleteLease, "write"],
  [LeaseService.method.uploadContent, "write"],
  [LeaseService.method.uploadContentPart, "write"],
  [LeaseService.method.downloadContent, "read"],
  [MailboxService.method.receiveMessages, "write"],
  [MailboxService.method.pullMessages, "write"],
  [MailboxService.method.listMessages, "read"],
  [MailboxService.method.ackMessages, "write"],
  [MailboxService.method.nackMessages, "write"],
  [MailboxService.method.extendMessages, "write"],
  [MailboxService.method.listDeadMessages, "read"],
  [MailboxService.method.redriveMessages, "write"],
  [MailboxService.method.rotateDropToken, "write"],
  [MailboxService.method.listWebhookDeliveries, "read"],
  [CheckpointService.method.putCheckpoint, "write"],
  [CheckpointService.method.getCheckpoint, "read"],
  [CheckpointService.method.listCheckpointVersions, "read"],
  [CheckpointService.method.watchCheckpoint, "read"],
  [CheckpointService.method.uploadCheckpoint, "write"],
  [CheckpointService.method.downloadCheckpoint, "read"],
  [ScratchpadService.method.setEntry, "write"],
  [ScratchpadService.method.getEntry, "read"],
  [ScratchpadService.method.deleteEntry, "write"],
  [ScratchpadService.method.listEntries, "read"],
  [ScratchpadService.method.appendToEntry, "write"],
  [ScratchpadService.method.incrementEntry, "write"],
  [ScratchpadService.method.watchEntries, "read"],
  [CronService.method.pauseCron, "write"],
  [CronService.method.resumeCron, "write"],
  [CronService.method.listCronRuns, "read"],
  [HandoffService.method.issueHandoff, "write"],
  [HandoffService.method.listHandoffs, "read"],
  [HandoffService.method.revokeHandoff, "write"],
  [AccountService.method.getAccount, "read"],
  [AccountService.method.listLedgerEntries, "account"],
  [AccountService.method.createApiKey, "account"],
  [AccountService.method.listApiKeys, "account"],
  [AccountService.method.revokeApiKey, "account"],
]);

/** The scope an RPC needs. Undefined if it needs no API key. */
export function scopeOfRpc(method: DescMethod): ScopeName | undefined {
  return scopes.get(method);
}
