/** Tests `leasehold dev` as its user sees it: one command, Ctrl-C, and all that is in between. */
import { execFile } from "node:child_process";
import { readFile, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { connect } from "../../src/client/connection.ts";
import { findProcess, waitUntilGone } from "../../src/database/embedded/process-table.ts";
import { makeSelfSignedCertificate } from "../config/self-signed-certificate.ts";
import { familyOf, leasehold, Spawned, stillRunning } from "./spawned.ts";
import { temporaryDataDir } from "./temporary-data-dir.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const goneLimitMs = 30_000;

test("it starts, prints commands that work, ends with nothing left at Ctrl-C, and finds its data again", async () => {
  const dataDir = await temporaryDataDir();
  const first = await startDev(dataDir);
  expect((await stat(join(dataDir, "demo-api-key"))).mode & 0o777).toBe(0o600);
  expect((await stat(join(dataDir, "admin-token"))).mode & 0o777).toBe(0o600);
  expect(await readFile(join(dataDir, "demo-api-key"), "utf8")).toBe(`${first.apiKey}\n`);
  expect(first.dev.stdout).toContain("10.000000 USD");

  const commands = commandsOf(first.dev);
  expect(commands).toHaveLength(3);
  const outputs = await Promise.all(commands.map(paste));
  expect(JSON.parse(outputs[0] ?? "")).toMatchObject({
    lease: { state: "STATE_ACTIVE", storage: { fileName: "hello.txt", storedBytes: "12" } },
  });
  expect(JSON.parse(outputs[1] ?? "")).toBeTypeOf("object");
  expect(outputs[2]).toMatch(/^lse_[0-9a-z]{26}\n$/);

  const family = await familyOf(first.dev.pid);
  expect(family.length).toBeGreaterThan(5);
  first.dev.interruptGroup();
  const outcome = await first.dev.ended();
  expect(outcome.exit).toBe(0);
  expect(await stillRunning(family)).toEqual([]);
  expect(outcome.stderr).not.toMatch(/"level":(50|60)|Error/);
  expect(endsOf(outcome.stderr)).toEqual(["serve", "sweep"]);

  const second = await startDev(dataDir);
  expect(second.apiKey).toBe(first.apiKey);
  const { leases } = await connect({ url: second.httpUrl, bearer: second.apiKey }).leases.listLeases({});
  expect(leases.map((lease) => lease.leaseId).sort()).toContain(outputs[2]?.trim());
  expect(leases).toHaveLength(2);
  second.dev.interruptGroup();
  expect((await second.dev.ended()).exit).toBe(0);
});

test("a process of it that is killed is started again at the same address; if all of it is killed, Postgres ends too", async () => {
  const { dev, httpUrl, apiKey } = await startDev(await temporaryDataDir());
  const family = await Promise.all((await familyOf(dev.pid)).map(findProcess));
  const serve = family.find((running) => running?.command.endsWith("main.ts serve"));
  process.kill(serve?.pid ?? Number.NaN, "SIGKILL");
  await dev.says(/leasehold serve ended unasked \(SIGKILL\); starting it again/);
  await dev.says(/"msg":"serving"[\s\S]*"msg":"serving"/);
  const { account } = await connect({ url: httpUrl, bearer: apiKey }).accounts.getAccount({});
  expect(account?.balanceMicros).toBe(10_000_000n);

  const pids = await familyOf(dev.pid);
  dev.process.kill("SIGKILL");
  expect(await waitUntilGone(pids, goneLimitMs)).toEqual([]);
});

test("two run beside each other in folders of their own", async () => {
  const [one, other] = await Promise.all([startDev(await temporaryDataDir()), startDev(await temporaryDataDir())]);
  expect(one.httpUrl).not.toBe(other.httpUrl);
  await expect(connect({ url: one.httpUrl, bearer: other.apiKey }).accounts.getAccount({})).rejects.toMatchObject({
    reason: "CREDENTIAL_INVALID",
  });
  for (const { dev } of [one, other]) {
    dev.process.kill("SIGTERM");
    expect((await dev.ended()).exit).toBe(0);
  }
});

test("with TLS it makes its account all the same, and the commands it prints know the certificate", async () => {
  const dataDir = await temporaryDataDir();
  const { certificate, key } = makeSelfSignedCertificate();
  const tls = {
    LEASEHOLD_TLS_CERT_PATH: join(dataDir, "certificate.pem"),
    LEASEHOLD_TLS_KEY_PATH: join(dataDir, "key.pem"),
  };
  await writeFile(tls.LEASEHOLD_TLS_CERT_PATH, certificate);
  await writeFile(tls.LEASEHOLD_TLS_KEY_PATH, key);
  const { dev, httpUrl } = await startDev(dataDir, tls);
  expect(httpUrl).toMatch(/^https:/);
  const [created, listed, put] = await Promise.all(commandsOf(dev).map(paste));
  expect(created).toContain('"STATE_ACTIVE"');
  expect(JSON.parse(listed ?? "")).toBeTypeOf("object");
  expect(put).toMatch(/^lse_[0-9a-z]{26}\n$/);
  dev.interruptGroup();
  expect((await dev.ended()).exit).toBe(0);
});

test.for(["LEASEHOLD_HTTP_PORT", "LEASEHOLD_GRPC_PORT"])(
  "a taken %s is told in one line, with everything stopped",
  async (variable) => {
    const taken = createServer();
    const { promise, resolve } = Promise.withResolvers<void>();
    taken.listen(0, "127.0.0.1", resolve);
    await promise;
    onTestFinished(() => void taken.close());
    const address = taken.address();
    const port = address instanceof Object ? `${address.port}` : "";
    const dataDir = await temporaryDataDir();
    const dev = new Spawned(["dev"], { env: { ...devSettings(dataDir, "warn"), [variable]: port } });
    await dev.says(/made a new database/);
    const family = await familyOf(dev.pid);
    const outcome = await dev.ended();
    expect(outcome.exit).toBe(1);
    expect(outcome.stdout).toBe("");
    const lines = outcome.stderr.split("\n").filter((line) => line !== "" && !line.startsWith("made a new database"));
    expect(lines).toEqual([
      `leasehold: Port ${port} of 127.0.0.1 is taken: stop the program that has it, or set another ${variable}`,
    ]);
    expect(await stillRunning(family)).toEqual([]);
  },
);

test("a setting that is not allowed is told in one line before anything starts", async () => {
  const outcome = await leasehold(["dev"], { env: { LEASEHOLD_HTTP_PORT: "eighty" } });
  expect(outcome).toMatchObject({ exit: 2, stdout: "" });
  expect(outcome.stderr).toMatch(/^leasehold: LEASEHOLD_HTTP_PORT is "eighty": .*\n$/);
});

interface RunningDev {
  readonly dev: Spawned;
  readonly httpUrl: string;
  readonly apiKey: string;
}

async function startDev(dataDir: string, settings: Readonly<Record<string, string>> = {}): Promise<RunningDev> {
  const dev = new Spawned(["dev"], { cwd: root, env: { ...devSettings(dataDir, "info"), ...settings } });
  await dev.says(/npx leasehold put/);
  const [, httpUrl = ""] = await dev.says(/HTTP +(https?:\S+)/);
  const [apiKey] = await dev.says(/lh_key_\w+/);
  return { dev, httpUrl, apiKey };
}

function devSettings(dataDir: string, logLevel: string): Record<string, string> {
  return {
    LEASEHOLD_DATA_DIR: dataDir,
    LEASEHOLD_HTTP_PORT: "0",
    LEASEHOLD_GRPC_PORT: "0",
    LEASEHOLD_LOG_LEVEL: logLevel,
  };
}

/** What it prints to be pasted. */
function commandsOf(dev: Spawned): string[] {
  return dev.stdout.split("\n").filter((line) => /^curl |npx buf |npx leasehold /.test(line));
}

/** As in another terminal of the same folder. */
async function paste(command: string): Promise<string> {
  const { stdout } = await promisify(execFile)("bash", ["-c", command], { cwd: root });
  return stdout;
}

/** Which processes said that they had stopped, in order. */
function endsOf(log: string): string[] {
  return [...log.matchAll(/"name":"(\w+)","msg":"stopped"/g)].map(([, name = ""]) => name);
}
