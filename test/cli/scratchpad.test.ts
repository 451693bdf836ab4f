/** Tests the commands of scratchpads: made, and their entries set, read, counted, listed, watched and handed over. */
import { readdir, readFile } from "node:fs/promises";
import { beforeEach, expect, test } from "vitest";
import { type Connection, connect } from "../../src/client/connection.ts";
import { openProxy } from "../client/network.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { CommandLine } from "./command-line.ts";

const house = await TestLeasehold.start();

let owner: CommandLine;
/** What a test is not about is done by calls, as each command is a process that has to start. */
let calls: Connection;
let pad: string;
beforeEach(async () => {
  owner = await CommandLine.of(house);
  calls = connect({ url: house.httpUrl, bearer: owner.env.LEASEHOLD_API_KEY });
  const variant = { case: "scratchpad", value: { maxEntryBytes: 1024 } } as const;
  const { lease } = await calls.leases.createLease({ sizeBytes: 65_536n, duration: { seconds: 3_600n }, variant });
  pad = lease?.leaseId ?? "";
});

/** What commands print that may run at the same time. */
async function prints(...commands: readonly (readonly string[])[]): Promise<string[]> {
  return await Promise.all(commands.map((words) => owner.print(...words)));
}

test("a scratchpad is leased, listed by what is in it, and ended", async () => {
  const id = await owner.print("pad", "create", "--size", "64KiB", "--duration", "1h", "--max-entry", "1KiB");
  expect(id).toMatch(/^lse_[0-9a-z]{26}$/);
  await calls.scratchpads.incrementEntry({ leaseId: id, key: "hits" });
  const [listed, json, quoted] = await prints(
    ["ls"],
    ["ls", "--limit", "1", "--json"],
    ["quote", "1GiB", "1d", "--variant", "scratchpad"],
  );
  expect(quoted).toBe("0.001000 USD");
  expect(listed).toMatch(new RegExp(`^${id} +scratchpad +active +64\\.0 KiB +1 entry +0\\.001000 USD +2\\S+Z$`, "m"));
  expect(JSON.parse(json ?? "")).toMatchObject({
    leases: [{ variant: "VARIANT_SCRATCHPAD", scratchpad: { maxEntryBytes: 1024, entryCount: "1", version: "1" } }],
  });
  expect(await owner.print("rm", id)).toMatch(/^variant +scratchpad$/m);
  expect(await owner.failure("pad", "get", id, "hits")).toMatchObject({ exit: 4, error: { reason: "LEASE_ENDED" } });
});

test("entries are set, appended to, counted, read, listed by prefix and destroyed", async () => {
  expect(await owner.feed("from stdin", "pad", "set", pad, "job/1")).toMatchObject({ exit: 0, stdout: "1\n" });
  expect(await owner.print("pad", "set", pad, "job/2", "--text", "two", "--ttl", "10m")).toBe("2");
  expect(await owner.print("pad", "append", pad, "log", "--line", "started")).toBe("3");
  expect(await owner.json("pad", "append", pad, "log", "--text", "done")).toEqual({ version: "4", offset: "8" });
  expect(await owner.print("pad", "incr", pad, "hits", "--by", "-3")).toBe("-3");

  const read = await owner.run("pad", "get", pad, "log");
  expect(read).toMatchObject({ exit: 0, stdout: "started\ndone" });
  expect(read.stderr).toMatch(/^version 4 of log, 12 bytes, changed 2\S+Z\n$/);
  const [listed, json] = await prints(
    ["pad", "ls", pad, "--prefix", "job/", "--values"],
    ["pad", "ls", pad, "--limit", "1", "--json"],
  );
  expect(listed?.split("\n").slice(1)).toEqual([
    expect.stringMatching(/^job\/1 {2}1 +10 bytes +2\S+Z +from stdin$/),
    expect.stringMatching(/^job\/2 {2}2 +3 bytes +2\S+Z +2\S+Z +two$/),
  ]);
  expect(JSON.parse(json ?? "")).toMatchObject({
    entries: [{ key: "hits", value: "", valueBytes: "2" }],
    nextPageToken: expect.stringMatching(/./),
    version: "5",
  });
  expect(await owner.print("pad", "rm", pad, "log")).toBe("6");
  expect(await owner.run("pad", "rm", pad, "log")).toEqual({
    exit: 0,
    stdout: "",
    stderr: "There was no entry log.\n",
  });
});

test("a change is made once by a request id, over the version that was expected, and refused by what is wrong", async () => {
  const words = ["pad", "incr", pad, "hits", "--request-id", crypto.randomUUID()];
  expect([await owner.print(...words), await owner.print(...words)]).toEqual(["1", "1"]);
  const failures = await Promise.all([
    owner.failure("pad", "set", pad, "hits", "--text", "x", "--expected", "0"),
    owner.failure("pad", "get", pad, "elsewhere"),
    owner.failure("pad", "set", pad, "large", "--text", "x".repeat(1025)),
    owner.failure("pad", "append", pad, "log", "--text", "a", "--line", "b"),
    owner.failure("pad", "incr", pad, "hits", "--by", "1.5"),
  ]);
  expect(failures).toMatchObject([
    { exit: 8, error: { reason: "VERSION_MISMATCH", metadata: { current_version: "1" } } },
    { exit: 3, error: { reason: "NOT_FOUND" } },
    { exit: 1, error: { reason: "BODY_TOO_LARGE" } },
    { exit: 2 },
    { exit: 2 },
  ]);
});

test("watching shows the entries and each change until Ctrl-C, once each, through a connection that breaks", async () => {
  const { scratchpads } = calls;
  const entry = { leaseId: pad, key: "log/a" };
  await scratchpads.setEntry({ ...entry, value: Buffer.from("one") });
  const proxy = await openProxy(house);
  const watcher = owner.with({ LEASEHOLD_URL: proxy.url }).start("pad", "watch", pad, "--prefix", "log/");
  await watcher.says(/^1 {2}set {2}log\/a {2}3 bytes {2}one$/m);
  proxy.cutOnce({ direction: "down", afterBytes: 1 });
  await scratchpads.appendToEntry({ ...entry, value: Buffer.from(" two") });
  await watcher.says(/^2 {2}appended {2}log\/a {2}4 bytes at 3 {2}two$/m);
  await scratchpads.deleteEntry(entry);
  await watcher.says(/^3 {2}deleted {2}log\/a$/m);
  watcher.interruptGroup();
  const { exit, stdout } = await watcher.ended();
  expect(exit).toBe(0);
  expect(stdout.match(/^\d+/gm)).toEqual(["1", "2", "3"]);
});

test("watching with --json is a document a line, and begins after the version it is told", async () => {
  await calls.scratchpads.incrementEntry({ leaseId: pad, key: "hits" });
  await calls.scratchpads.incrementEntry({ leaseId: pad, key: "hits" });
  const watcher = owner.start("pad", "watch", pad, "--after", "1", "--json");
  await watcher.says(/"version":"2".*\n/);
  watcher.interruptGroup();
  const { stdout } = await watcher.ended();
  const lines = stdout.trimEnd().split("\n");
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { change: "CHANGE_SET", entry: { key: "hits", value: btoa("2") }, caughtUpVersion: "2" },
  ]);
});

test("a handoff is claimed as a folder with a file for each entry, as they were", async () => {
  for (const key of ["job/1", "log/1", "items.jsonl", "Plain", "plain"]) {
    await calls.scratchpads.setEntry({ leaseId: pad, key, value: Buffer.from(`of ${key}`) });
  }
  const { claimToken } = (await owner.json("handoff", pad)) as { claimToken: string };
  const receiver = (await CommandLine.of(house)).with({ LEASEHOLD_API_KEY: "" });
  expect(await receiver.print("inspect", claimToken)).toMatch(/^of +scratchpad$/m);
  const claimed = (await receiver.json("claim", claimToken, "-o", "copy")) as {
    items: readonly { readonly file: string; readonly name: string }[];
  };
  expect(claimed.items.map(({ name }) => name).toSorted()).toEqual(["Plain", "items.jsonl", "job/1", "log/1", "plain"]);
  for (const { file, name } of claimed.items) {
    expect(await readFile(receiver.path(`copy/${file}`), "utf8")).toBe(`of ${name}`);
  }
  expect(await readdir(receiver.path("copy"))).toHaveLength(6);
  expect(claimed.items.find(({ name }) => name === "plain")).toMatchObject({ file: "plain" });
});
