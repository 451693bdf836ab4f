/** Owns the account that `leasehold dev` makes, so that there is a key to try things with. */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { CallError } from "../client/call-error.ts";
import { type Connection, type ConnectionOptions, connect } from "../client/connection.ts";
import { demoKeyFile } from "./data-files.ts";
import { readSecretFile, replaceSecretFile } from "./secret-file.ts";

/** Ten US dollars. */
const creditMicros = 10_000_000n;
/** The same on every start, so that a start that broke off half way is finished by the next, and nothing is made twice. */
const accountRequestId = "5f0c1f0e-6a3e-4d8b-9c55-1d3a5b7e9f01";
const creditRequestId = "5f0c1f0e-6a3e-4d8b-9c55-1d3a5b7e9f02";

/** The account's key, and what it has. */
export interface DemoAccount {
  readonly apiKey: string;
  /** Undefined while the operator has suspended it. */
  readonly balanceMicros: bigint | undefined;
}

/** Where to ask for it. */
export interface DemoAccountOptions {
  readonly dataDir: string;
  readonly httpUrl: string;
  readonly adminUrl: string;
  readonly adminToken: string;
  readonly tls?: ConnectionOptions["tls"];
}

/** The account whose key the data folder keeps. Without a key that the database knows, an account is made and credited. */
export async function ensureDemoAccount(options: DemoAccountOptions): Promise<DemoAccount> {
  const path = join(options.dataDir, demoKeyFile);
  const kept = await readSecretFile(path);
  const known = kept === undefined ? undefined : await findDemo(options, kept);
  if (known !== undefined) {
    return known;
  }
  const { admin } = connectTo(options, options.adminUrl, options.adminToken);
  const apiKey = await makeAccount(admin, accountRequestId, creditRequestId);
  const demo =
    (await findDemo(options, apiKey)) ??
    // Its first key was revoked: whoever did that gets another account to go on with.
    (await findDemo(options, await makeAccount(admin, randomUUID(), randomUUID())));
  if (demo === undefined) {
    throw new Error("an account was made and its key is unknown");
  }
  await replaceSecretFile(path, demo.apiKey);
  return demo;
}

/** Makes and credits an account, and gives its first key. */
async function makeAccount(admin: Connection["admin"], requestId: string, creditId: string): Promise<string> {
  const { account, apiKey } = await admin.createAccount({ name: "demo", requestId });
  const accountId = account?.accountId ?? "";
  await admin.creditAccount({ accountId, amountMicros: creditMicros, requestId: creditId });
  return apiKey;
}

/** The account of a key, or undefined if the key is not good any more. */
async function findDemo(options: DemoAccountOptions, apiKey: string): Promise<DemoAccount | undefined> {
  try {
    const { account } = await connectTo(options, options.httpUrl, apiKey).accounts.getAccount({});
    return { apiKey, balanceMicros: account?.balanceMicros };
  } catch (error) {
    switch (error instanceof CallError && error.reason) {
      case "CREDENTIAL_INVALID":
        return undefined;
      case "ACCOUNT_SUSPENDED":
        return { apiKey, balanceMicros: undefined };
      default:
        throw error;
    }
  }
}

function connectTo({ tls }: DemoAccountOptions, url: string, bearer: string): Connection {
  return connect({ url, bearer, ...(tls === undefined ? {} : { tls }) });
}
