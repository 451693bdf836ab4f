/** Owns `leasehold key`: the API keys of the caller's account. */
import { randomUUID } from "node:crypto";
import { type Command, Option } from "commander";
import {
  type ApiKey,
  ApiKey_Scope,
  ApiKey_ScopeSchema,
  CreateApiKeyResponseSchema,
  ListApiKeysResponseSchema,
  RevokeApiKeyResponseSchema,
} from "#gen/leasehold/v1/account_pb.js";
import { type ClientOptions, clientCommand, connectAs } from "./client-command.ts";
import { collectPages } from "./collect-pages.ts";
import { printFields, printTable, show } from "./output.ts";
import { parseCount, parseDollars, parseDuration, parseRequestId } from "./parse-values.ts";
import { showDollars, showEnum, showTime } from "./show-values.ts";

const scopes: Readonly<Record<string, ApiKey_Scope>> = {
  read: ApiKey_Scope.READ,
  write: ApiKey_Scope.WRITE,
  create: ApiKey_Scope.CREATE,
  account: ApiKey_Scope.ACCOUNT,
};

interface CreateOptions extends ClientOptions {
  readonly scope?: readonly string[];
  readonly ttl?: bigint;
  readonly ceiling?: bigint;
  readonly requestId?: string;
}

/** Adds the commands. */
export function addKeyCommands(program: Command): void {
  const key = program.command("key").description("the account's API keys");

  clientCommand(key, "create [name]", "api key", "make a key with no more rights than the one used to make it")
    .addOption(
      new Option("--scope <scope...>", "what it may do (default: all that the key used may)").choices(
        Object.keys(scopes),
      ),
    )
    .option("--ttl <duration>", "how long it lasts, such as 30d (default: as long as the key used)", parseDuration)
    .option("--ceiling <dollars>", "the most it may spend in all", parseDollars)
    .option("--request-id <uuid>", "makes the command safe to repeat", parseRequestId)
    .action(async (name: string | undefined, options: CreateOptions) => {
      const { accounts } = connectAs("api key", options);
      const made = await accounts.createApiKey({
        name: name ?? "",
        scopes: (options.scope ?? []).map((scope) => scopes[scope] ?? ApiKey_Scope.UNSPECIFIED),
        requestId: options.requestId ?? randomUUID(),
        ...(options.ttl === undefined ? {} : { ttl: { seconds: options.ttl } }),
        ...(options.ceiling === undefined ? {} : { spendCeilingMicros: options.ceiling }),
      });
      show(options, CreateApiKeyResponseSchema, made, () =>
        printFields({ ...keyFields(made.key), "api key": made.apiKey }),
      );
    });

  clientCommand(key, "list", "api key", "list keys, newest first, without their secrets")
    .option("--limit <count>", "list no more than this", parseCount)
    .action(async (options: ClientOptions & { readonly limit?: number }) => {
      const { accounts } = connectAs("api key", options);
      const { items: keys, nextPageToken } = await collectPages(options.limit, async (page) => {
        const response = await accounts.listApiKeys(page);
        return { items: response.keys, nextPageToken: response.nextPageToken };
      });
      show(options, ListApiKeysResponseSchema, { keys, nextPageToken }, () => printKeys(keys));
    });

  clientCommand(key, "revoke <key>", "api key", "stop a key at once, by its id").action(
    async (keyId: string, options: ClientOptions) => {
      const revoked = await connectAs("api key", options).accounts.revokeApiKey({ keyId });
      show(options, RevokeApiKeyResponseSchema, revoked, () => printFields(keyFields(revoked.key)));
    },
  );
}

function printKeys(keys: readonly ApiKey[]): void {
  printTable(
    ["KEY", "SCOPES", "SPENT", "CEILING", "EXPIRES", "REVOKED", "NAME"],
    keys.map((one) => [
      one.keyId,
      scopesOf(one),
      showDollars(one.spentMicros),
      one.spendCeilingMicros === undefined ? "" : showDollars(one.spendCeilingMicros),
      showTime(one.expireTime),
      showTime(one.revokeTime),
      one.name,
    ]),
    "There are no keys.",
  );
}

function keyFields(key: ApiKey | undefined): Record<string, string> {
  return key === undefined
    ? {}
    : {
        key: key.keyId,
        name: key.name,
        scopes: scopesOf(key),
        ceiling: key.spendCeilingMicros === undefined ? "" : showDollars(key.spendCeilingMicros),
        expires: showTime(key.expireTime),
        revoked: showTime(key.revokeTime),
      };
}

function scopesOf(key: ApiKey): string {
  return key.scopes.map((scope) => showEnum(ApiKey_ScopeSchema, scope)).join(",");
}
