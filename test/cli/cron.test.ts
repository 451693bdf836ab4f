/** Tests the commands of crons: made, quoted, paused and resumed, listed, and their runs shown. */
import { beforeEach, expect, test } from "vitest";
import { buildCronFirer } from "../../src/app.ts";
import { type Connection, connect } from "../../src/client/connection.ts";
import { letPass } from "../cron/schedules.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { CommandLine } from "./command-line.ts";

const house = await TestLeasehold.start({ settings: { LEASEHOLD_WEBHOOK_ALLOW_PRIVATE: "1" } });

let owner: CommandLine;
let calls: Connection;
let mailbox: string;
let pad: string;
beforeEach(async () => {
  owner = await CommandLine.of(house);
  calls = connect({ url: house.httpUrl, bearer: owner.env.LEASEHOLD_API_KEY });
  mailbox = await leased({ case: "mailbox", value: {} });
  pad = await leased({ case: "scratchpad", value: {} });
});

async function leased(variant: { readonly case: "mailbox" | "scratchpad"; readonly value: object }): Promise<string> {
  const { lease } = await calls.leases.createLease({ sizeBytes: 65_536n, duration: { seconds: 3_600n }, variant });
  return lease?.leaseId ?? "";
}

/** The words of `cron create` for an hour. */
function create(...words: readonly string[]): string[] {
  return ["cron", "create", "--duration", "1h", "--text", "wake up", ...words];
}

test("a cron is made of each kind of schedule for each kind of target, and listed by what it does", async () => {
  const at = new Date(Date.now() + 1_800_000).toISOString();
  const zoned = ["--expression", "*/15 * * * *", "--time-zone", "Europe/Berlin"];
  const [every, once, posted] = await Promise.all([
    owner.run(...create("--every", "10m", "--to-mailbox", mailbox, "--content-type", "text/plain")),
    owner.json(...create("--at", at, "--to-scratchpad", pad, "--key", "alarm", "--overlap", "skip", "--jitter", "1m")),
    owner.run(
      ...create(...zoned, "--to-webhook", "http://127.0.0.1:9/wake", "--misfire", "last", "--max-lateness", "5m"),
    ),
  ]);
  expect(every).toMatchObject({ exit: 0, stdout: expect.stringMatching(/^lse_[0-9a-z]{26}\n$/) });
  expect(every.stderr).toMatch(/^Fires 5 times until 2\S+Z for \d\.\d{6} USD\n$/);
  expect(once).toMatchObject({
    lease: {
      variant: "VARIANT_CRON",
      sizeBytes: "7",
      cron: {
        state: "STATE_RUNNING",
        firings: "1",
        nextSlotTime: at,
        scratchpadLeaseId: pad,
        scratchpadKey: "alarm",
        overlap: "OVERLAP_SKIP",
        jitter: "60s",
      },
    },
  });
  expect(posted.stderr).toMatch(/^What is posted is signed with whsec_\S+, which is shown here and nowhere else/m);
  const [listed, json] = await Promise.all([owner.print("ls"), owner.json("ls", "--limit", "1")]);
  expect(listed).toMatch(/cron +active +7 bytes +running +\S+ USD +2\S+Z +every 10m$/m);
  expect(listed).toMatch(/ at 2\S+Z$/m);
  expect(listed).toMatch(/ \*\/15 \* \* \* \* \(Europe\/Berlin\)$/m);
  expect(json).toMatchObject({ leases: [{ variant: "VARIANT_CRON" }] });
});

test("a quote of a schedule says how often it fires, and costs what the lease costs", async () => {
  const quoted = await owner.print("quote", "7", "1h", "--every", "1s");
  const made = await owner.run(...create("--every", "1s", "--to-mailbox", mailbox));
  expect(quoted).toMatch(/^\d\.\d{6} USD for 3599 firings$/);
  expect(quoted).not.toMatch(/^0\.001000 /);
  expect(made.stderr).toContain(` for ${quoted.replace(" for 3599 firings", "")}\n`);
});

test("a cron is paused and resumed, its runs are shown when slots have come, and it is ended", async () => {
  const id = await owner.print(...create("--every", "10m", "--to-mailbox", mailbox));
  expect(await owner.run("cron", "runs", id)).toEqual({ exit: 0, stdout: "", stderr: "No slot has come yet.\n" });
  expect(await owner.print("cron", "pause", id)).toBe("paused");
  expect(await owner.print("cron", "resume", id)).toMatch(/^2\d{3}-\S+T\S+Z$/);
  await letPass(house.database, id, 1_201);
  await buildCronFirer(house.core).fireDue();
  const [runs, json, ended] = await Promise.all([
    owner.print("cron", "runs", id),
    owner.json("cron", "runs", id, "--limit", "1"),
    owner.failure("cron", "runs", pad),
  ]);
  expect(runs.split("\n").slice(1)).toEqual(
    [1, 2].map(() => expect.stringMatching(/^2\S+Z +delivered +2\S+Z +2\S+Z +1$/)),
  );
  expect(json).toMatchObject({
    runs: [{ outcome: "OUTCOME_DELIVERED", attemptCount: 1, lastError: "" }],
    nextPageToken: expect.stringMatching(/./),
  });
  expect(ended).toMatchObject({ exit: 1, error: { reason: "WRONG_VARIANT" } });
  expect(await owner.print("rm", id)).toMatch(/^variant +cron$/m);
  expect(await owner.failure("cron", "pause", id)).toMatchObject({ exit: 4, error: { reason: "LEASE_ENDED" } });
});

test("options that do not fit together are told before any call is made", async () => {
  const away = owner.with({ LEASEHOLD_URL: "http://127.0.0.1:9" });
  const every = ["--every", "10m"];
  const failures = await Promise.all(
    [
      create("--to-mailbox", mailbox),
      create(...every, "--expression", "* * * * *", "--to-mailbox", mailbox),
      create(...every),
      create(...every, "--to-mailbox", mailbox, "--to-webhook", "http://127.0.0.1:9/wake"),
      create(...every, "--to-mailbox", mailbox, "--key", "alarm"),
      create(...every, "--to-scratchpad", pad),
      create(...every, "--time-zone", "Europe/Berlin", "--to-mailbox", mailbox),
      create("--at", "2026-12-24T18:00", "--to-mailbox", mailbox),
      ["quote", "7", "1h", "--variant", "cron"],
      ["quote", "7", "1h", "--variant", "mailbox", ...every],
    ].map((words) => away.failure(...words)),
  );
  expect(failures.map(({ exit }) => exit)).toEqual(failures.map(() => 2));
  expect(failures.map(({ error }) => (error as { message: string }).message)).toEqual([
    "Say when to fire: with --expression, --every or --at",
    "A schedule is one of --expression, --every and --at",
    expect.stringContaining("Say where to deliver"),
    expect.stringContaining("Say where to deliver"),
    "--to-scratchpad and --key belong together",
    "--to-scratchpad and --key belong together",
    "--time-zone is for --expression",
    expect.stringContaining("It must be a time such as 2026-12-24T18:00:00Z"),
    expect.stringContaining("Say when it fires"),
    expect.stringContaining("has no schedule"),
  ]);
});

test("what the server refuses names the field, and a target that is not there is not found", async () => {
  const target = ["--to-mailbox", mailbox];
  const failures = await Promise.all([
    owner.failure(...create("--expression", "61 * * * *", ...target)),
    owner.failure("quote", "7", "1h", "--expression", "@daily"),
    owner.failure(...create("--expression", "0 * * * *", "--time-zone", "Mars/Olympus", ...target)),
    owner.failure(...create("--every", "10m", "--to-mailbox", `lse_${"0".repeat(26)}`)),
  ]);
  expect(failures).toMatchObject([
    { exit: 2, error: { reason: "INVALID_FIELD", metadata: { field: "cron.schedule.expression" } } },
    { exit: 2, error: { reason: "INVALID_FIELD", metadata: { field: "schedule.expression" } } },
    { exit: 2, error: { reason: "INVALID_FIELD", metadata: { field: "cron.time_zone" } } },
    { exit: 3, error: { reason: "NOT_FOUND" } },
  ]);
});
