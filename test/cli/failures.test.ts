/** Tests how commands fail: with the exit code that `--help` promises, one line for people, one JSON document for programs. */
import { chmod, mkdir, readdir, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { exitCodes } from "../../src/cli/exit-codes.ts";
import { settings } from "../../src/config/settings.ts";
import { leasehold, Spawned } from "../processes/spawned.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { CommandLine } from "./command-line.ts";

const house = await TestLeasehold.start();
const nowhere = { LEASEHOLD_URL: "http://127.0.0.1:1" };

test("--help names every command's place, exit code and setting", async () => {
  const { exit, stdout, stderr } = await leasehold(["--help"]);
  expect([exit, stderr]).toEqual([0, ""]);
  for (const { variable, description } of settings) {
    expect(stdout).toContain(`  ${variable} (default: `);
    expect(stdout).toContain(description);
  }
  for (const { code, meaning } of Object.values(exitCodes)) {
    expect(stdout).toContain(`  ${code}  ${meaning}\n`);
  }
  expect(await leasehold(["--version"])).toMatchObject({ exit: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
});

describe("2, called wrongly:", () => {
  test.for([
    [["put"], "missing required argument 'file'"],
    [["nothing"], "unknown command 'nothing'"],
    [["ls", "--nothing"], "unknown option '--nothing'"],
    [["quote", "1MiB", "1y"], "must be a duration such as"],
    [["quote", "1.5", "1d"], "must be a whole number of bytes"],
    [["account", "credit", "acc_x", "1.0000001"], "must be a sum in US dollars"],
    [["ls", "--url", "ftp://example"], "LEASEHOLD_URL is"],
    [["claim", "http://127.0.0.1/elsewhere"], "no claim address"],
    [["claim", "http://127.0.0.1/api/drop/x"], "no claim address"],
    [["mailbox", "create", "--duration", "1h"], "required option '--size <size>' not specified"],
    [["mailbox", "create", "--size", "1MiB", "--duration", "1h", "--max-message", "3GiB"], "less than 2GiB"],
    [["extend", "lse_x", "rcp_x"], "required option '--hold <duration>' not specified"],
    [["ack", "lse_x"], "missing required argument 'receipt'"],
    [["cp", "get", "build", "--version", "first"], "must be a whole number"],
    [["put", "missing.bin"], "missing.bin does not exist"],
  ] as const)("%s", async ([words, problem]) => {
    const caller = await CommandLine.of(house);
    const outcome = await caller.run(...words);
    expect(outcome).toMatchObject({ exit: 2, stdout: "" });
    expect(outcome.stderr).toMatch(/^leasehold: [^\n]+\n$/);
    expect(outcome.stderr).toContain(problem);
  });

  test("a file that does not fit the room it is to have, before anything is paid", async () => {
    const caller = await CommandLine.of(house);
    await writeFile(caller.path("note.txt"), "a note");
    expect(await caller.failure("put", "note.txt", "--size", "5")).toMatchObject({ exit: 2 });
    expect(await caller.json("ls")).toMatchObject({ leases: [] });
  });

  test("what the server finds wrong, with every field at fault", async () => {
    const caller = await CommandLine.of(house);
    expect(await caller.failure("quote", "1MiB", "5s")).toMatchObject({
      exit: 2,
      stdout: "",
      error: { code: "invalid_argument", reason: "OUT_OF_BOUNDS", exitCode: 2, metadata: { min: "60", value: "5" } },
    });
    expect(await caller.failure("rm", "nonsense")).toMatchObject({
      exit: 2,
      error: { reason: "INVALID_FIELD", fieldViolations: [{ field: "lease_id", description: expect.any(String) }] },
    });
    expect(await caller.failure("inspect", "lh_claim_typo")).toMatchObject({
      exit: 2,
      error: { reason: "TOKEN_MALFORMED" },
    });
    expect(await caller.failure("get")).toMatchObject({
      exit: 2,
      error: { message: expect.stringContaining("lease") },
    });
  });
});

test("3, not found", async () => {
  const caller = await CommandLine.of(house);
  const unknown = `lse_${"0".repeat(26)}`;
  expect(await caller.failure("get", unknown)).toMatchObject({
    exit: 3,
    stdout: "",
    error: { code: "not_found", reason: "NOT_FOUND", exitCode: 3 },
  });
  const { stderr } = await caller.run("rm", unknown);
  expect(stderr).toBe("leasehold: There is no such lease. (NOT_FOUND)\n");
});

test("4, gone: a lease that has ended and a token that is used up", async () => {
  const caller = await CommandLine.of(house);
  await writeFile(caller.path("note.txt"), "a note");
  const id = await caller.print("put", "note.txt");
  const { claimToken } = (await caller.json("handoff", id)) as { claimToken: string };
  await caller.print("claim", claimToken, "-o", "first.txt");
  expect(await caller.failure("claim", claimToken, "-o", "second.txt")).toMatchObject({
    exit: 4,
    error: { reason: "HANDOFF_EXHAUSTED" },
  });
  await caller.print("rm", id);
  expect(await caller.failure("get", id, "-o", "third.txt")).toMatchObject({
    exit: 4,
    error: { reason: "LEASE_ENDED", metadata: { end_reason: expect.any(String), end_time: expect.any(String) } },
  });
  expect(await caller.failure("handoff", id)).toMatchObject({ exit: 4, error: { reason: "LEASE_ENDED" } });
  expect((await readdir(caller.folder)).sort()).toEqual(["first.txt", "note.txt"]);
});

describe("5, the credential", () => {
  test("is missing, wrong, or lacks the scope", async () => {
    const caller = await CommandLine.of(house);
    const nobody = caller.with({ LEASEHOLD_API_KEY: "", LEASEHOLD_ADMIN_TOKEN: "", LEASEHOLD_DATA_DIR: caller.folder });
    expect(await nobody.run("ls")).toEqual({
      exit: 5,
      stdout: "",
      stderr: "leasehold: No API key is set: give one with --api-key or LEASEHOLD_API_KEY\n",
    });
    expect(await nobody.failure("account", "ls")).toMatchObject({ exit: 5, error: { exitCode: 5 } });
    expect(await caller.failure("ls", "--api-key", "lh_key_typo")).toMatchObject({
      exit: 5,
      error: { reason: "CREDENTIAL_INVALID" },
    });
    expect(await caller.failure("account", "ls", "--admin-token", "wrong")).toMatchObject({ exit: 5 });
    const reader = (await caller.json("key", "create", "--scope", "read")) as { apiKey: string };
    expect(await caller.failure("ledger", "--api-key", reader.apiKey)).toMatchObject({
      exit: 5,
      error: { reason: "SCOPE_MISSING", metadata: { scope: "account" } },
    });
  });

  test("is found in the data folder beside a server on this machine, and is sent to no other", async () => {
    const caller = await CommandLine.of(house);
    const dataDir = caller.path("data");
    await mkdir(dataDir);
    await writeFile(`${dataDir}/demo-api-key`, `${caller.env.LEASEHOLD_API_KEY}\n`);
    await writeFile(`${dataDir}/admin-token`, `${caller.env.LEASEHOLD_ADMIN_TOKEN}\n`);
    const finder = caller.with({ LEASEHOLD_API_KEY: "", LEASEHOLD_ADMIN_TOKEN: "", LEASEHOLD_DATA_DIR: dataDir });
    expect(await finder.json("ls")).toMatchObject({ leases: [] });
    expect(await finder.json("account", "ls", "--limit", "1")).toMatchObject({ accounts: [{}] });
    const elsewhere = finder.with({ LEASEHOLD_URL: "http://leasehold.invalid:8080" });
    expect(await elsewhere.failure("ls")).toMatchObject({ exit: 5 });
    if (process.getuid?.() !== 0) {
      await chmod(`${dataDir}/demo-api-key`, 0);
      expect(await finder.failure("ls")).toMatchObject({ exit: 5 });
    }
  });
});

test("6, the money: a balance or a limit that is too low", async () => {
  const poor = await CommandLine.of(house, 0n);
  await writeFile(poor.path("note.txt"), "a note");
  expect(await poor.failure("put", "note.txt")).toMatchObject({
    exit: 6,
    stdout: "",
    error: { reason: "PAYMENT_REQUIRED", metadata: { price_micros: "1000", balance_micros: "0" } },
  });
  const thrifty = await CommandLine.of(house);
  await writeFile(thrifty.path("note.txt"), "a note");
  expect(await thrifty.failure("put", "note.txt", "--max-price", "0.000999")).toMatchObject({
    exit: 6,
    error: { reason: "PRICE_TOO_HIGH" },
  });
});

test("7, unavailable: no server answers", async () => {
  const caller = (await CommandLine.of(house)).with(nowhere);
  const outcome = await caller.run("ls");
  expect(outcome).toMatchObject({ exit: 7, stdout: "" });
  expect(outcome.stderr).toMatch(
    /^leasehold: http:\/\/127\.0\.0\.1:1 cannot be reached: .*ECONNREFUSED.* \(CONNECTION_FAILED\); start a server with leasehold dev, .*\n$/,
  );
  expect(await caller.failure("pricing")).toMatchObject({
    exit: 7,
    error: { code: "unavailable", reason: "CONNECTION_FAILED", exitCode: 7 },
  });
});

test("7, unavailable: every claim of a token is held just now", async () => {
  const caller = await CommandLine.of(house);
  await writeFile(caller.path("note.txt"), "a note");
  const id = await caller.print("put", "note.txt");
  const { claimToken } = (await caller.json("handoff", id)) as { claimToken: string };
  await caller.print("claim", claimToken, "-o", "first.txt", "--no-confirm");
  expect(await caller.failure("claim", claimToken, "-o", "second.txt")).toMatchObject({
    exit: 7,
    error: { reason: "HANDOFF_BUSY", retryAfterMs: expect.any(Number) },
  });
});

test("a reader that leaves before all is written is no failure", async () => {
  const caller = await CommandLine.of(house);
  const spawned = new Spawned(["pricing"], { env: caller.env });
  spawned.process.stdout?.destroy();
  expect(await spawned.ended()).toMatchObject({ exit: 0, stderr: "" });
});
