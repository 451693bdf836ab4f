/** Tests what settings a start accepts and how it refuses the rest. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ConfigError } from "../../src/config/config-error.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { makeSelfSignedCertificate } from "./self-signed-certificate.ts";

describe("defaults", () => {
  test("an empty environment gives the published defaults", () => {
    expect(loadConfig({})).toEqual({
      dataDir: resolve(".leasehold"),
      contentDir: resolve(".leasehold/content"),
      keysDir: resolve(".leasehold/keys"),
      databaseUrl: undefined,
      databasePoolSize: 16,
      host: "127.0.0.1",
      httpPort: 8080,
      grpcPort: 50051,
      operatorPort: undefined,
      publicUrl: undefined,
      corsOrigins: ["*"],
      tlsCertPath: undefined,
      tlsKeyPath: undefined,
      allowPlaintext: false,
      adminToken: undefined,
      rateMicrosPerGibDay: 1000n,
      minChargeMicros: 1000n,
      firingMicros: 1n,
      minDurationSeconds: 60,
      maxDurationSeconds: 31_536_000,
      scratchpadMaxDurationSeconds: 86_400,
      maxFileBytes: 5_368_709_120n,
      uploadWindowSeconds: 86_400,
      claimHoldSeconds: 600,
      claimHoldCapSeconds: 86_400,
      tombstoneSeconds: 2_592_000,
      epochSeconds: 3600,
      sweepIntervalSeconds: 1,
      webhookAllowPrivate: false,
      stallSeconds: 30,
      callDeadlineSeconds: 60,
      maxHeaderBytes: 16_384,
      maxStreamsPerConnection: 256,
      maxMessageBytes: 4_194_304,
      logLevel: "info",
      url: "http://127.0.0.1:8080",
      grpcUrl: "http://127.0.0.1:50051",
      apiKey: undefined,
      dropToken: undefined,
    });
  });

  test("an empty variable counts as unset", () => {
    expect(loadConfig({ LEASEHOLD_HTTP_PORT: "", DATABASE_URL: "" })).toEqual(loadConfig({}));
  });

  test("content and keys follow the data folder unless they are set themselves", () => {
    const config = loadConfig({ LEASEHOLD_DATA_DIR: "/srv/leasehold", LEASEHOLD_KEYS_DIR: "/mnt/keys" });
    expect(config).toMatchObject({
      dataDir: "/srv/leasehold",
      contentDir: "/srv/leasehold/content",
      keysDir: "/mnt/keys",
    });
  });
});

test("the config cannot be changed, lists inside it included", () => {
  const config = loadConfig({ LEASEHOLD_CORS_ORIGINS: "https://a.example,https://b.example" });
  expect(() => Object.assign(config, { httpPort: 1 })).toThrow(TypeError);
  expect(() => Object.assign(config.corsOrigins, { 0: "*" })).toThrow(TypeError);
  expect(() => Object.assign(loadConfig({}).corsOrigins, { 0: "https://a.example" })).toThrow(TypeError);
  expect(config.corsOrigins).toEqual(["https://a.example", "https://b.example"]);
});

test("money and content sizes are exact beyond 2^53", () => {
  const config = loadConfig({
    LEASEHOLD_MAX_FILE_BYTES: "70368744177663",
    LEASEHOLD_MIN_CHARGE_MICROS: "999999999999999",
  });
  expect(config.maxFileBytes).toBe(70_368_744_177_663n);
  expect(config.minChargeMicros).toBe(999_999_999_999_999n);
});

test("timers may be set to fractions of a second", () => {
  const config = loadConfig({ LEASEHOLD_STALL_SECONDS: "0.25", LEASEHOLD_SWEEP_INTERVAL_SECONDS: "0.05" });
  expect(config).toMatchObject({ stallSeconds: 0.25, sweepIntervalSeconds: 0.05 });
});

test("an address loses the slash at its end, so that paths can be appended", () => {
  expect(loadConfig({ LEASEHOLD_PUBLIC_URL: "https://lease.example/room/" }).publicUrl).toBe(
    "https://lease.example/room",
  );
});

describe("a bad value stops the start with one line that names it and says what is allowed", () => {
  test.for([
    ["LEASEHOLD_HTTP_PORT", "80800", 'LEASEHOLD_HTTP_PORT is "80800": it must be a whole number from 0 to 65535'],
    ["LEASEHOLD_GRPC_PORT", "50051x", 'LEASEHOLD_GRPC_PORT is "50051x": it must be a whole number from 0 to 65535'],
    ["LEASEHOLD_HOST", "local host", 'LEASEHOLD_HOST is "local host": it must be an IP address or a host name'],
    ["LEASEHOLD_DATA_DIR", "a\0b", 'LEASEHOLD_DATA_DIR is "a\\u0000b": it must be a path'],
    [
      "LEASEHOLD_STALL_SECONDS",
      "0",
      'LEASEHOLD_STALL_SECONDS is "0": it must be a number of seconds from 0.05 to 3600',
    ],
    ["LEASEHOLD_EPOCH_SECONDS", "1.5", 'LEASEHOLD_EPOCH_SECONDS is "1.5": it must be a whole number from 1 to 2592000'],
    [
      "LEASEHOLD_MAX_FILE_BYTES",
      "-1",
      'LEASEHOLD_MAX_FILE_BYTES is "-1": it must be a whole number from 1 to 70368744177664',
    ],
    [
      "LEASEHOLD_MIN_CHARGE_MICROS",
      "1e3",
      'LEASEHOLD_MIN_CHARGE_MICROS is "1e3": it must be a whole number from 0 to 1000000000000000',
    ],
    [
      "LEASEHOLD_LOG_LEVEL",
      "loud",
      'LEASEHOLD_LOG_LEVEL is "loud": it must be one of trace, debug, info, warn, error, fatal, silent',
    ],
    ["LEASEHOLD_ALLOW_PLAINTEXT", "yes", 'LEASEHOLD_ALLOW_PLAINTEXT is "yes": it must be 1 or 0 (or true or false)'],
    [
      "LEASEHOLD_PUBLIC_URL",
      "lease.example",
      'LEASEHOLD_PUBLIC_URL is "lease.example": it must be an http:// or https:// address without query and fragment',
    ],
    [
      "LEASEHOLD_CORS_ORIGINS",
      "*,https://a.example",
      'LEASEHOLD_CORS_ORIGINS is "*,https://a.example": it must be * or origins such as https://app.example, separated by commas',
    ],
    [
      "LEASEHOLD_URL",
      "ftp://x",
      'LEASEHOLD_URL is "ftp://x": it must be an http:// or https:// address without query and fragment',
    ],
  ] as const)("%s", ([variable, value, message]) => {
    expect(refusal({ [variable]: value })).toMatchObject({ name: "ConfigError", variable, message });
  });

  test("a value with line ends, or a long one, still makes one short line", () => {
    const { message } = refusal({ LEASEHOLD_LOG_LEVEL: `info\n${"x".repeat(10_000)}` });
    expect(message).not.toContain("\n");
    expect(message.length).toBeLessThan(250);
  });

  test.for([
    ["LEASEHOLD_ADMIN_TOKEN", "hidden word"],
    ["LEASEHOLD_API_KEY", "hidden\nword"],
    ["DATABASE_URL", "mysql://root:hidden@db/word"],
  ] as const)("but never shows the secret in %s", ([variable, value]) => {
    const { message } = refusal({ [variable]: value });
    expect(message).toMatch(new RegExp(`^${variable} is not valid: it must be `));
    expect(message).not.toMatch(/hidden|word/);
  });
});

describe("settings that contradict each other are refused", () => {
  test.for([
    [{ LEASEHOLD_MIN_DURATION_SECONDS: "61", LEASEHOLD_MAX_DURATION_SECONDS: "60" }, "LEASEHOLD_MIN_DURATION_SECONDS"],
    [{ LEASEHOLD_CLAIM_HOLD_CAP_SECONDS: "599" }, "LEASEHOLD_CLAIM_HOLD_SECONDS"],
    [{ LEASEHOLD_GRPC_PORT: "8080" }, "LEASEHOLD_GRPC_PORT"],
    [{ LEASEHOLD_OPERATOR_PORT: "50051" }, "LEASEHOLD_OPERATOR_PORT"],
    [{ LEASEHOLD_TLS_CERT_PATH: "/dev/null" }, "LEASEHOLD_TLS_KEY_PATH"],
    [{ LEASEHOLD_TLS_KEY_PATH: "/dev/null" }, "LEASEHOLD_TLS_CERT_PATH"],
  ] as const)("%o", ([environment, variable]) => {
    expect(refusal(environment).variable).toBe(variable);
  });

  test("but several ports may ask for any free one", () => {
    const anyPort = { LEASEHOLD_HTTP_PORT: "0", LEASEHOLD_GRPC_PORT: "0", LEASEHOLD_OPERATOR_PORT: "0" };
    expect(loadConfig(anyPort)).toMatchObject({ httpPort: 0, grpcPort: 0, operatorPort: 0 });
  });
});

describe("plaintext", () => {
  test.for(["127.0.0.1", "127.8.9.10", "::1", "localhost"])(
    "is served on %s, which only this machine reaches",
    (host) => {
      expect(loadConfig({ LEASEHOLD_HOST: host }).host).toBe(host);
    },
  );

  test.for(["0.0.0.0", "::", "192.168.1.5", "lease.example"])("is refused on %s unless it is allowed", (host) => {
    expect(refusal({ LEASEHOLD_HOST: host })).toMatchObject({
      variable: "LEASEHOLD_HOST",
      message:
        `LEASEHOLD_HOST is "${host}", which others can reach: set LEASEHOLD_TLS_CERT_PATH and LEASEHOLD_TLS_KEY_PATH, ` +
        "or LEASEHOLD_ALLOW_PLAINTEXT=1",
    });
    expect(loadConfig({ LEASEHOLD_HOST: host, LEASEHOLD_ALLOW_PLAINTEXT: "1" }).host).toBe(host);
  });
});

describe("TLS", () => {
  const folder = mkdtempSync(join(tmpdir(), "leasehold-config-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  function write(name: string, text: string): string {
    const file = join(folder, name);
    writeFileSync(file, text);
    return file;
  }

  test("a matching pair lifts the bar on hosts that others reach", () => {
    const { certificate, key } = makeSelfSignedCertificate();
    const environment = {
      LEASEHOLD_HOST: "0.0.0.0",
      LEASEHOLD_TLS_CERT_PATH: write("cert.pem", certificate),
      LEASEHOLD_TLS_KEY_PATH: write("key.pem", key),
    };
    expect(loadConfig(environment).tlsCertPath).toBe(join(folder, "cert.pem"));
  });

  test.for([
    ["a missing certificate", undefined, makeSelfSignedCertificate().key, "LEASEHOLD_TLS_CERT_PATH"],
    ["a certificate that is none", "words", makeSelfSignedCertificate().key, "LEASEHOLD_TLS_CERT_PATH"],
    ["a key that is none", makeSelfSignedCertificate().certificate, "words", "LEASEHOLD_TLS_KEY_PATH"],
    [
      "another's key",
      makeSelfSignedCertificate().certificate,
      makeSelfSignedCertificate().key,
      "LEASEHOLD_TLS_KEY_PATH",
    ],
  ] as const)("%s stops the start", ([, certificate, key, variable]) => {
    const environment = {
      LEASEHOLD_TLS_CERT_PATH: certificate === undefined ? join(folder, "nowhere") : write("bad-cert.pem", certificate),
      LEASEHOLD_TLS_KEY_PATH: write("bad-key.pem", key),
    };
    expect(refusal(environment).variable).toBe(variable);
    expect(refusal(environment).message).not.toContain("\n");
  });
});

function refusal(environment: Readonly<Record<string, string>>): ConfigError {
  try {
    loadConfig(environment);
  } catch (error) {
    if (error instanceof ConfigError) {
      return error;
    }
    throw error;
  }
  throw new Error("The settings were accepted");
}
