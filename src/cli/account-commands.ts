/** Owns `leasehold account`: accounts as the operator makes and credits them, and the caller's own. */
import { randomUUID } from "node:crypto";
import type { Command } from "commander";
import { type Account, GetAccountResponseSchema } from "#gen/leasehold/v1/account_pb.js";
import {
  CreateAccountResponseSchema,
  CreditAccountResponseSchema,
  ListAccountsResponseSchema,
} from "#gen/leasehold/v1/admin_pb.js";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { collectPages } from "./collect-pages.ts";
import { printFields, printTable, show } from "./output.ts";
import { parseCount, parseDollars, parseRequestId } from "./parse-values.ts";
import { showDollars, showTime } from "./show-values.ts";

interface RequestOptions extends ClientOptions {
  readonly requestId?: string;
}

/** Adds the commands. */
export function addAccountCommands(program: Command): void {
  const account = program.command("account").description("accounts and their balances");

  clientCommand(account, "create <name>", "admin token", "make an account with an empty balance, and its first key")
    .option("--request-id <uuid>", "makes the command safe to repeat", parseRequestId)
    .action(async (name: string, options: RequestOptions) => {
      const { admin } = connectAs("admin token", options);
      const made = await admin.createAccount({ name, requestId: options.requestId ?? randomUUID() });
      show(options, CreateAccountResponseSchema, made, () =>
        printFields({ ...accountFields(made.account), "api key": made.apiKey }),
      );
    });

  clientCommand(account, "credit", "admin token", "add US dollars to an account's balance")
    .argument("<account>", "the account's id")
    .argument("<dollars>", "such as 10 or 0.25", parseDollars)
    .option("--request-id <uuid>", "makes the command safe to repeat", parseRequestId)
    .action(async (accountId: string, amountMicros: bigint, options: RequestOptions) => {
      const { admin } = connectAs("admin token", options);
      const requestId = options.requestId ?? randomUUID();
      const credited = await admin.creditAccount({ accountId, amountMicros, requestId });
      show(options, CreditAccountResponseSchema, credited, () => printFields(accountFields(credited.account)));
    });

  clientCommand(account, "show", "api key", "show the account that the API key belongs to").action(
    async (options: ClientOptions) => {
      const shown = await connectAs("api key", options).accounts.getAccount({});
      show(options, GetAccountResponseSchema, shown, () => printFields(accountFields(shown.account)));
    },
  );

  clientCommand(account, "ls", "admin token", "list accounts, newest first")
    .option("--limit <count>", "list no more than this", parseCount)
    .action(async (options: ClientOptions & { readonly limit?: number }) => {
      const { admin } = connectAs("admin token", options);
      const { items: accounts, nextPageToken } = await collectPages(options.limit, async (page) => {
        const response = await admin.listAccounts(page);
        return { items: response.accounts, nextPageToken: response.nextPageToken };
      });
      show(options, ListAccountsResponseSchema, { accounts, nextPageToken }, () => printAccounts(accounts));
    });
}

function printAccounts(accounts: readonly Account[]): void {
  printTable(
    ["ACCOUNT", "BALANCE", "CREATED", "SUSPENDED", "NAME"],
    accounts.map((one) => [
      one.accountId,
      showDollars(one.balanceMicros),
      showTime(one.createTime),
      showTime(one.suspendTime),
      one.name,
    ]),
    "There are no accounts.",
  );
}

function accountFields(account: Account | undefined): Record<string, string> {
  return account === undefined
    ? {}
    : {
        account: account.accountId,
        name: account.name,
        balance: showDollars(account.balanceMicros),
        created: showTime(account.createTime),
        suspended: showTime(account.suspendTime),
      };
}
