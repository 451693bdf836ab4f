/** Owns `leasehold ls` and `leasehold rm`: the caller's leases, listed and ended. */
import type { Command } from "commander";
import { CronDetails_StateSchema } from "#gen/leasehold/v1/cron_pb.js";
import {
  DeleteLeaseResponseSchema,
  type Lease,
  Lease_EndReasonSchema,
  Lease_StateSchema,
  Lease_VariantSchema,
  ListLeasesResponseSchema,
} from "#gen/leasehold/v1/lease_pb.js";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { collectPages } from "./collect-pages.ts";
import { printFields, printTable, show } from "./output.ts";
import { parseCount } from "./parse-values.ts";
import { cronFields, showSchedule } from "./show-cron.ts";
import { showBytes, showDollars, showEnum, showPairs, showText, showTime } from "./show-values.ts";

interface ListOptions extends ClientOptions {
  readonly ended?: boolean;
  readonly limit?: number;
}

/** Adds the commands. */
export function addLeaseCommands(program: Command): void {
  clientCommand(program, "ls", "api key", "list leases, newest first")
    .option("--ended", "list those that have ended too, as long as they are known")
    .option("--limit <count>", "list no more than this", parseCount)
    .action(async (options: ListOptions) => {
      const connection = connectAs("api key", options);
      const { items: leases, nextPageToken } = await collectPages(options.limit, async (page) => {
        const response = await connection.leases.listLeases({ ...page, showEnded: options.ended === true });
        return { items: response.leases, nextPageToken: response.nextPageToken };
      });
      show(options, ListLeasesResponseSchema, { leases, nextPageToken }, () => printLeases(leases));
    });

  clientCommand(program, "rm <lease>", "api key", "end a lease and destroy its content").action(
    async (leaseId: string, options: ClientOptions) => {
      const deleted = await connectAs("api key", options).leases.deleteLease({ leaseId });
      show(options, DeleteLeaseResponseSchema, deleted, () => deleted.lease && printFields(leaseFields(deleted.lease)));
    },
  );
}

/** A lease, for people. */
function leaseFields(lease: Lease): Record<string, string> {
  return {
    lease: lease.leaseId,
    variant: showEnum(Lease_VariantSchema, lease.variant),
    state: showEnum(Lease_StateSchema, lease.state),
    ...detailFields(lease),
    price: showDollars(lease.priceMicros),
    created: showTime(lease.createTime),
    expires: showTime(lease.expireTime),
    ended:
      lease.endTime === undefined
        ? ""
        : `${showTime(lease.endTime)} (${showEnum(Lease_EndReasonSchema, lease.endReason)})`,
    destroyed: showTime(lease.destroyTime),
    unrecoverable: showTime(lease.unrecoverableTime),
    labels: showPairs(lease.labels),
  };
}

/** What only its variant has. Of an ended lease most of it is gone. */
function detailFields({ details, sizeBytes }: Lease): Record<string, string> {
  switch (details.case) {
    case "storage":
      return {
        file: details.value.fileName,
        stored: `${showBytes(details.value.storedBytes)} of ${showBytes(sizeBytes)}`,
        sha256: Buffer.from(details.value.sha256).toString("hex"),
      };
    case "mailbox":
      return {
        messages:
          details.value.maxMessages === 0 ? "" : `${details.value.messageCount} of ${details.value.maxMessages}`,
        used: `${showBytes(details.value.usedBytes)} of ${showBytes(sizeBytes)}`,
        deliveries: details.value.maxDeliveries === 0 ? "" : `${details.value.maxDeliveries} at most`,
        webhook: details.value.webhookUrl,
      };
    case "checkpoint":
      return {
        workflow: details.value.workflowId,
        version: `${details.value.latestVersion}`,
        latest: `${showBytes(details.value.latestBytes)} of ${showBytes(sizeBytes)}`,
        kept: details.value.retainedVersions === 0 ? "" : `${details.value.retainedVersions} versions`,
      };
    case "scratchpad":
      return details.value.maxEntryBytes === 0
        ? {}
        : {
            entries: `${details.value.entryCount}, of at most ${showBytes(BigInt(details.value.maxEntryBytes))}`,
            used: `${showBytes(details.value.usedBytes)} of ${showBytes(sizeBytes)}`,
            version: `${details.value.version}`,
          };
    case "cron":
      return cronFields(details.value);
    case undefined:
      return {};
  }
}

/** How much is in a lease, and what it is called. */
function summaryOf({ details }: Lease): { readonly content: string; readonly name: string } {
  switch (details.case) {
    case "storage":
      return { content: showBytes(details.value.storedBytes), name: details.value.fileName };
    case "mailbox":
      return {
        content: details.value.messageCount === 1n ? "1 message" : `${details.value.messageCount} messages`,
        name: "",
      };
    case "checkpoint":
      return { content: `version ${details.value.latestVersion}`, name: details.value.workflowId };
    case "scratchpad":
      return {
        content: details.value.entryCount === 1n ? "1 entry" : `${details.value.entryCount} entries`,
        name: "",
      };
    case "cron":
      return { content: showEnum(CronDetails_StateSchema, details.value.state), name: showSchedule(details.value) };
    case undefined:
      return { content: "", name: "" };
  }
}

function printLeases(leases: readonly Lease[]): void {
  printTable(
    ["LEASE", "VARIANT", "STATE", "SIZE", "CONTENT", "PRICE", "EXPIRES", "NAME"],
    leases.map((lease) => {
      const { content, name } = summaryOf(lease);
      return [
        lease.leaseId,
        showEnum(Lease_VariantSchema, lease.variant),
        showEnum(Lease_StateSchema, lease.state),
        showBytes(lease.sizeBytes),
        content,
        showDollars(lease.priceMicros),
        showTime(lease.expireTime),
        showText(name),
      ];
    }),
    "There are no leases.",
  );
}
