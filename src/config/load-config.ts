/** Owns the way from environment variables to the one validated, frozen Config. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { BlockList, isIP } from "node:net";
import { ConfigError } from "./config-error.ts";
import { isInDataDir, placeInDataDir } from "./setting.ts";
import type { SettingKind } from "./setting-kind.ts";
import { type Config, settings } from "./settings.ts";

/**
 * Reads every setting. An empty variable counts as unset.
 * Throws ConfigError, whose message is one line, for the first value that is not allowed.
 */
export function loadConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const values: Record<string, unknown> = {};
  for (const row of settings) {
    const text = environment[row.variable];
    values[row.key] =
      text === undefined || text === ""
        ? defaultValue(row, values)
        : Object.freeze(parse(row.variable, row.kind, text));
  }
  // The loop has set each key of the table to a value of its kind, which is what Config says.
  const config = Object.freeze(values) as unknown as Config;
  checkDurations(config);
  checkClaimHold(config);
  checkPorts(config);
  checkTls(config);
  return config;
}

function parse(variable: string, kind: SettingKind<unknown>, text: string): unknown {
  const value = kind.parse(text);
  if (value !== undefined) {
    return value;
  }
  // JSON keeps a value with line ends on one line.
  const shown = kind.secret
    ? "is not valid"
    : `is ${JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)}`;
  throw new ConfigError(variable, `${shown}: it must be ${kind.allowed}`);
}

/** A default may lie in the data folder, whose row stands first in the table. */
function defaultValue(row: (typeof settings)[number], values: Readonly<Record<string, unknown>>): unknown {
  const value: unknown = row.default;
  if (isInDataDir(value)) {
    return placeInDataDir(value, String(values.dataDir));
  }
  return row.key === "dataDir" ? row.kind.parse(row.default) : Object.freeze(value);
}

function checkDurations({ minDurationSeconds, maxDurationSeconds }: Config): void {
  if (minDurationSeconds > maxDurationSeconds) {
    throw new ConfigError(
      "LEASEHOLD_MIN_DURATION_SECONDS",
      `is ${minDurationSeconds}: it must not be above LEASEHOLD_MAX_DURATION_SECONDS (${maxDurationSeconds})`,
    );
  }
}

function checkClaimHold({ claimHoldSeconds, claimHoldCapSeconds }: Config): void {
  if (claimHoldSeconds > claimHoldCapSeconds) {
    throw new ConfigError(
      "LEASEHOLD_CLAIM_HOLD_SECONDS",
      `is ${claimHoldSeconds}: it must not be above LEASEHOLD_CLAIM_HOLD_CAP_SECONDS (${claimHoldCapSeconds})`,
    );
  }
}

function checkPorts({ httpPort, grpcPort, operatorPort }: Config): void {
  if (grpcPort !== 0 && grpcPort === httpPort) {
    throw new ConfigError("LEASEHOLD_GRPC_PORT", `is ${grpcPort}: it must differ from LEASEHOLD_HTTP_PORT`);
  }
  if (operatorPort !== undefined && operatorPort !== 0 && [httpPort, grpcPort].includes(operatorPort)) {
    throw new ConfigError("LEASEHOLD_OPERATOR_PORT", `is ${operatorPort}: it must differ from the other ports`);
  }
}

function checkTls({ host, tlsCertPath, tlsKeyPath, allowPlaintext }: Config): void {
  if (tlsCertPath !== undefined && tlsKeyPath === undefined) {
    throw new ConfigError("LEASEHOLD_TLS_KEY_PATH", "is not set: it must name the key for LEASEHOLD_TLS_CERT_PATH");
  }
  if (tlsKeyPath !== undefined && tlsCertPath === undefined) {
    throw new ConfigError(
      "LEASEHOLD_TLS_CERT_PATH",
      "is not set: it must name the certificate for LEASEHOLD_TLS_KEY_PATH",
    );
  }
  if (tlsCertPath !== undefined && tlsKeyPath !== undefined) {
    checkPair(tlsCertPath, tlsKeyPath);
  }
  if (tlsCertPath === undefined && !allowPlaintext && !isLoopback(host)) {
    throw new ConfigError(
      "LEASEHOLD_HOST",
      `is "${host}", which others can reach: set LEASEHOLD_TLS_CERT_PATH and LEASEHOLD_TLS_KEY_PATH, ` +
        "or LEASEHOLD_ALLOW_PLAINTEXT=1",
    );
  }
}

/** A pair that does not match would otherwise show only at the first handshake. */
function checkPair(certPath: string, keyPath: string): void {
  const certificate = readPem("LEASEHOLD_TLS_CERT_PATH", certPath, "certificate", (pem) => new X509Certificate(pem));
  const key = readPem("LEASEHOLD_TLS_KEY_PATH", keyPath, "private key", createPrivateKey);
  if (!certificate.checkPrivateKey(key)) {
    throw new ConfigError(
      "LEASEHOLD_TLS_KEY_PATH",
      `is ${JSON.stringify(keyPath)}: it must fit LEASEHOLD_TLS_CERT_PATH`,
    );
  }
}

function readPem<Parsed>(variable: string, file: string, what: string, parsePem: (pem: Buffer) => Parsed): Parsed {
  try {
    return parsePem(readFileSync(file));
  } catch (error) {
    const problem = `is ${JSON.stringify(file)}: it must be a readable PEM file with a ${what}`;
    throw new ConfigError(variable, problem, { cause: error });
  }
}

/** A name other than localhost counts as reachable: what it resolves to can change. */
function isLoopback(host: string): boolean {
  const loopback = new BlockList();
  loopback.addSubnet("127.0.0.0", 8, "ipv4");
  loopback.addAddress("::1", "ipv6");
  return isIP(host) === 0
    ? host.toLowerCase() === "localhost"
    : loopback.check(host, isIP(host) === 6 ? "ipv6" : "ipv4");
}
