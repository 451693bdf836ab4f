/** Owns `leasehold ledger`: every movement of the account's money. */
import type { Command } from "commander";
import { LedgerEntry_KindSchema, ListLedgerEntriesResponseSchema } from "#gen/leasehold/v1/account_pb.js";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { collectPages } from "./collect-pages.ts";
import { printTable, show } from "./output.ts";
import { parseCount } from "./parse-values.ts";
import { showDollars, showEnum, showTime } from "./show-values.ts";

/** Adds the command. */
export function addLedgerCommand(program: Command): void {
  clientCommand(program, "ledger", "api key", "list what was credited, charged and refunded, newest first")
    .option("--limit <count>", "list no more than this", parseCount)
    .action(async (options: ClientOptions & { readonly limit?: number }) => {
      const { accounts } = connectAs("api key", options);
      const { items: entries, nextPageToken } = await collectPages(options.limit, async (page) => {
        const response = await accounts.listLedgerEntries(page);
        return { items: response.entries, nextPageToken: response.nextPageToken };
      });
      show(options, ListLedgerEntriesResponseSchema, { entries, nextPageToken }, () =>
        printTable(
          ["TIME", "KIND", "AMOUNT", "BALANCE", "LEASE"],
          entries.map((entry) => [
            showTime(entry.createTime),
            showEnum(LedgerEntry_KindSchema, entry.kind),
            showDollars(entry.amountMicros),
            showDollars(entry.balanceAfterMicros),
            entry.leaseId,
          ]),
          "No money has moved.",
        ),
      );
    });
}
