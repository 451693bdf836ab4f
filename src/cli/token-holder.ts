/** Owns how the holder of a token names it: as it is, or as the address it is used at, which names the server too. */
import type { Connection } from "../client/connection.ts";
import { type ClientOptions, connectAs } from "./client-command.ts";
import { CommandError } from "./exit-codes.ts";

/** What a token is good for, as its address has it. */
export type TokenUse = "claim" | "drop";

/** A token, and the way to where it counts. */
export interface TokenHolder {
  readonly connection: Connection;
  readonly token: string;
}

/** An address names the server, whatever LEASEHOLD_URL is. @throws CommandError if it is no address of this use. */
export function holderOf(use: TokenUse, text: string, options: ClientOptions): TokenHolder {
  if (!isAddress(text)) {
    return { connection: connectAs("none", options), token: text };
  }
  const [, base, usedFor, token] = /^(.*)\/api\/([a-z]+)\/([^/?#]+)$/.exec(URL.parse(text)?.href ?? "") ?? [];
  if (base === undefined || token === undefined || usedFor !== use) {
    throw new CommandError("usage", `The address is no ${use} address: it must end in /api/${use}/TOKEN`);
  }
  return { connection: connectAs("none", options, base), token: decodeURIComponent(token) };
}

/** Whether a word is a token of this use, or an address, and no file's name. */
export function isTokenOrAddress(use: TokenUse, word: string): boolean {
  return word.startsWith(`lh_${use}_`) || isAddress(word);
}

/** The address that a token is used at. */
export function addressOf(use: TokenUse, connection: Connection, token: string): string {
  return `${connection.url}/api/${use}/${token}`;
}

function isAddress(text: string): boolean {
  return /^https?:\/\//i.test(text);
}
