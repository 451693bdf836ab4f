/** Owns `leasehold ls` and `leasehold rm`: the caller's leases, listed and ended. */
import type { Command } from "commander";
import {
  DeleteLeaseResponseSchema,
  type Lease,
  Lease_EndReasonSchema,
  Lease_StateSchema,
  ListLeasesResponseSchema,
} from "#gen/leasehold/v1/lease_pb.js";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { collectPages } from "./collect-pages.ts";
import { printFields, printTable, show } from "./output.ts";
import { parseCount } from "./parse-values.ts";
import { showBytes, showDollars, showEnum, showTime } from "./show-values.ts";

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
  const { details } = lease;
  const storage = details.case === "storage" ? details.value : undefined;
  return {
    lease: lease.leaseId,
    state: showEnum(Lease_StateSchema, lease.state),
    file: storage?.fileName ?? "",
    stored: `${showBytes(storage?.storedBytes ?? 0n)} of ${showBytes(lease.sizeBytes)}`,
    sha256: Buffer.from(storage?.sha256 ?? []).toString("hex"),
    price: showDollars(lease.priceMicros),
    created: showTime(lease.createTime),
    expires: showTime(lease.expireTime),
    ended:
      lease.endTime === undefined
        ? ""
        : `${showTime(lease.endTime)} (${showEnum(Lease_EndReasonSchema, lease.endReason)})`,
    destroyed: showTime(lease.destroyTime),
    unrecoverable: showTime(lease.unrecoverableTime),
    labels: Object.entries(lease.labels)
      .map(([key, value]) => `${key}=${value}`)
      .join(" "),
  };
}

function printLeases(leases: readonly Lease[]): void {
  printTable(
    ["LEASE", "STATE", "SIZE", "PRICE", "EXPIRES", "FILE"],
    leases.map((lease) => [
      lease.leaseId,
      showEnum(Lease_StateSchema, lease.state),
      showBytes(lease.sizeBytes),
      showDollars(lease.priceMicros),
      showTime(lease.expireTime),
      lease.details.case === "storage" ? lease.details.value.fileName : "",
    ]),
    "There are no leases.",
  );
}
