/** Owns what all client commands have in common: their options, and how they find the server and a credential. */
import { readFileSync } from "node:fs";
import { BlockList, isIP } from "node:net";
import { join } from "node:path";
import { type Command, Option } from "commander";
import { type Connection, connect } from "../client/connection.ts";
import { loadConfig } from "../config/load-config.ts";
import { adminTokenFile, demoKeyFile } from "../processes/data-files.ts";
import { CommandError } from "./exit-codes.ts";

/** The options of every client command. */
export interface ClientOptions {
  readonly url?: string;
  readonly json?: boolean;
  readonly apiKey?: string;
  readonly adminToken?: string;
}

/** What a command shows to be let in. */
export type Credential = "api key" | "admin token" | "none";

/** Declares a client command. Its action gets its arguments and then its options. */
export function clientCommand(parent: Command, usage: string, credential: Credential, description: string): Command {
  const command = parent
    .command(usage)
    .description(description)
    .option("--json", "print one JSON document on stdout, and errors as JSON on stderr")
    .option("--url <address>", "the server's HTTP address (default: LEASEHOLD_URL)")
    .hook("preAction", stopWhenNobodyReads);
  switch (credential) {
    case "api key":
      return command.addOption(
        new Option("--api-key <key>", "the API key (default: LEASEHOLD_API_KEY, else the demo account's)"),
      );
    case "admin token":
      return command.addOption(
        new Option("--admin-token <token>", "the admin token (default: LEASEHOLD_ADMIN_TOKEN, else the data folder's)"),
      );
    case "none":
      return command;
  }
}

/**
 * The way to the server that a command's options and the environment name. A credential that nobody names is looked for
 * in the data folder, where `leasehold dev` keeps those of its own server, if the server is on this machine.
 *
 * @throws CommandError or ConfigError.
 */
export function connectAs(credential: Credential, options: ClientOptions, url?: string): Connection {
  const config = clientConfig(options, url);
  switch (credential) {
    case "api key":
      return connect({
        url: config.url,
        bearer:
          config.apiKey ?? fromDataDir(config, demoKeyFile) ?? missing("API key", "--api-key or LEASEHOLD_API_KEY"),
      });
    case "admin token":
      return connect({
        url: config.url,
        bearer:
          config.adminToken ??
          fromDataDir(config, adminTokenFile) ??
          missing("admin token", "--admin-token or LEASEHOLD_ADMIN_TOKEN"),
      });
    case "none":
      return connect({ url: config.url });
  }
}

/**
 * The drop token or address of the environment.
 *
 * @throws CommandError or ConfigError.
 */
export function configuredDropToken(): string {
  const { LEASEHOLD_DROP_TOKEN } = process.env;
  return loadConfig({ LEASEHOLD_DROP_TOKEN }).dropToken ?? missing("drop token", "an argument or LEASEHOLD_DROP_TOKEN");
}

/** The settings that clients read, by way of the one table of them; no other can stop a command. */
function clientConfig(options: ClientOptions, url: string | undefined) {
  const { LEASEHOLD_DATA_DIR, LEASEHOLD_URL, LEASEHOLD_API_KEY, LEASEHOLD_ADMIN_TOKEN } = process.env;
  return loadConfig({
    LEASEHOLD_DATA_DIR,
    LEASEHOLD_URL: url ?? options.url ?? LEASEHOLD_URL,
    LEASEHOLD_API_KEY: options.apiKey ?? LEASEHOLD_API_KEY,
    LEASEHOLD_ADMIN_TOKEN: options.adminToken ?? LEASEHOLD_ADMIN_TOKEN,
  });
}

function fromDataDir(config: { readonly url: string; readonly dataDir: string }, name: string): string | undefined {
  if (!isOnThisMachine(config.url)) {
    return undefined;
  }
  const path = join(config.dataDir, name);
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR")) {
      return undefined;
    }
    throw new CommandError("credential", `${path} cannot be read: ${error instanceof Error ? error.message : error}`);
  }
}

/** A secret of this machine's server is not sent to another. */
function isOnThisMachine(url: string): boolean {
  const host = new URL(url).hostname.replace(/^\[|\]$/g, "");
  const loopback = new BlockList();
  loopback.addSubnet("127.0.0.0", 8, "ipv4");
  loopback.addAddress("::1", "ipv6");
  return host === "localhost" || (isIP(host) !== 0 && loopback.check(host, isIP(host) === 6 ? "ipv6" : "ipv4"));
}

function missing(what: string, where: string): never {
  throw new CommandError("credential", `No ${what} is set: give one with ${where}`);
}

/** A reader such as `head` may leave before all is written, which is no failure. */
function stopWhenNobodyReads(): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") {
      throw error;
    }
    process.exit();
  });
}
