/** Owns what `leasehold dev` prints once everything runs: where it is, a key, and commands to paste. */
import { existsSync } from "node:fs";
import { relative, resolve } from "node:path";
import { showDollars } from "../cli/show-values.ts";
import { loadConfig } from "../config/load-config.ts";
import type { Config } from "../config/settings.ts";
import type { DemoAccount } from "./demo-account.ts";
import type { ServingAddresses } from "./parent-link.ts";

/** What the text is about. */
export interface WelcomeOptions {
  readonly config: Config;
  readonly addresses: ServingAddresses;
  readonly demo: DemoAccount;
}

/** The text, without a line end at its end. Every command in it works as it is printed, from the same folder. */
export function welcome({ config, addresses, demo }: WelcomeOptions): string {
  const balance = demo.balanceMicros === undefined ? "is suspended" : `has ${showDollars(demo.balanceMicros)}`;
  const commands = [curl(config, addresses, demo), bufCurl(config, addresses, demo), put(config, addresses, demo)];
  return `
Leasehold runs, and keeps everything in ${relative(".", config.dataDir) || "."}. Ctrl-C stops it.

  HTTP     ${addresses.httpUrl}  (Connect, gRPC-Web, plain HTTP)
  gRPC     ${addresses.grpcUrl}
  API key  ${demo.apiKey}  (its account ${balance})

To try it, paste any of these into another terminal, in this folder: lease room and upload a line; list leases; lease
room for a file and upload it.

${commands.join("\n\n")}
`;
}

/** One pipeline, since the upload needs the id of the lease: made with JSON over Connect, filled with a plain PUT. */
function curl(config: Config, { httpUrl }: ServingAddresses, { apiKey }: DemoAccount): string {
  const call = `curl -sS${certificate(config)} -H 'authorization: Bearer ${apiKey}'`;
  const lease = `{"sizeBytes":"1024","duration":"86400s","storage":{"fileName":"hello.txt"}}`;
  const create = `${call} -H 'content-type: application/json' ${httpUrl}/leasehold.v1.LeaseService/CreateLease -d '${lease}'`;
  return `${create} | grep -o 'lse_[0-9a-z]*' | xargs -I LEASE ${call} -X PUT ${httpUrl}/api/leases/LEASE/content -d 'Hello, lease'`;
}

/** The schema comes from the server's own reflection. */
function bufCurl(config: Config, { grpcUrl }: ServingAddresses, { apiKey }: DemoAccount): string {
  // In the repository buf is installed; elsewhere npx has to be told the package's name.
  const buf = isInstalledPackage() ? "npx --yes @bufbuild/buf" : "npx buf";
  const http2 =
    config.tlsCertPath === undefined ? " --http2-prior-knowledge" : ` --cacert ${shellWord(config.tlsCertPath)}`;
  return `${buf} curl --protocol grpc${http2} -H 'authorization: Bearer ${apiKey}' ${grpcUrl}/leasehold.v1.LeaseService/ListLeases`;
}

/** What the command finds by itself is left out. */
function put(config: Config, { httpUrl }: ServingAddresses, { apiKey }: DemoAccount): string {
  const defaults = loadConfig({});
  const settings = [
    config.tlsCertPath === undefined ? "" : `NODE_EXTRA_CA_CERTS=${shellWord(config.tlsCertPath)} `,
    httpUrl === defaults.url ? "" : `LEASEHOLD_URL=${httpUrl} `,
    config.dataDir === defaults.dataDir ? "" : `LEASEHOLD_API_KEY=${apiKey} `,
  ];
  return `${settings.join("")}npx leasehold put ${existsSync(resolve("package.json")) ? "package.json" : "FILE"}`;
}

function certificate({ tlsCertPath }: Config): string {
  return tlsCertPath === undefined ? "" : ` --cacert ${shellWord(tlsCertPath)}`;
}

function isInstalledPackage(): boolean {
  return import.meta.url.includes("/node_modules/");
}

function shellWord(text: string): string {
  return /^[\w./:-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
