/** Tests the commands of checkpoints: made, put, read, listed and watched. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { beforeEach, describe, expect, test } from "vitest";
import { openProxy } from "../client/network.ts";
import { generatedBytes } from "../support/generated-bytes.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { CommandLine } from "./command-line.ts";

const house = await TestLeasehold.start();
const large = generatedBytes(1, 0, 6_000_000);

let owner: CommandLine;
beforeEach(async () => {
  owner = await CommandLine.of(house);
});

async function create(...words: readonly string[]): Promise<string> {
  return await owner.print("cp", "create", "build", "--size", "8MiB", "--duration", "1h", ...words);
}

test("a workflow gets a lease, with its terms and perhaps its first version, and is listed by its name", async () => {
  await writeFile(owner.path("first.json"), "{}");
  const id = await create(
    "--versions",
    "3",
    "--initial",
    "first.json",
    "--type",
    "application/json",
    "--meta",
    "by=me",
  );
  expect(id).toMatch(/^lse_[0-9a-z]{26}$/);
  expect(await owner.json("ls")).toMatchObject({
    leases: [
      {
        leaseId: id,
        variant: "VARIANT_CHECKPOINT",
        checkpoint: { workflowId: "build", retainedVersions: 3, latestVersion: "1", latestBytes: "2" },
      },
    ],
  });
  expect(await owner.print("ls")).toMatch(
    new RegExp(`^${id} +checkpoint +active +8\\.0 MiB +version 1 +0\\.001000 USD +2\\S+Z +build$`, "m"),
  );
  expect(await owner.json("cp", "get", "build")).toMatchObject({
    checkpoint: { version: "1", body: btoa("{}"), contentType: "application/json", metadata: { by: "me" } },
  });
  expect(await owner.failure("cp", "create", "build", "--size", "1KiB", "--duration", "1h")).toMatchObject({
    exit: 8,
    error: { reason: "WORKFLOW_IN_USE", metadata: { lease_id: id } },
  });
  expect(await owner.print("rm", id)).toMatch(/^variant +checkpoint$/m);
});

test("more than ten versions are quoted at their price", async () => {
  expect(await owner.print("quote", "1GiB", "30d", "--versions", "10")).toBe("0.030000 USD");
  expect(await owner.print("quote", "1GiB", "30d", "--variant", "checkpoint", "--versions", "25")).toBe("0.075000 USD");
});

describe("a version", () => {
  test("is put from a file or stdin, read to stdout or a file, and listed newest first", async () => {
    const id = await create();
    await writeFile(owner.path("state.json"), `{"step": 1}`);
    expect(
      await owner.run("cp", "put", "build", "state.json", "--type", "application/json", "--meta", "step=1"),
    ).toEqual({
      exit: 0,
      stdout: "1\n",
      stderr: "version 1 of build, 11 bytes\n",
    });
    expect(await owner.feed("step two", "cp", "put", "build")).toMatchObject({ exit: 0, stdout: "2\n" });
    const read = await owner.run("cp", "get", "build");
    expect(read).toMatchObject({ exit: 0, stdout: "step two" });
    expect(read.stderr).toMatch(/^version 2 of build, 8 bytes, application\/octet-stream, put 2\S+Z\n$/);
    expect(await owner.print("cp", "get", "build", "--version", "1", "-o", "copy.json")).toBe("copy.json");
    expect(await readFile(owner.path("copy.json"), "utf8")).toBe(`{"step": 1}`);
    expect(await owner.failure("cp", "get", "build", "-o", "copy.json")).toMatchObject({ exit: 1 });
    expect(await owner.json("cp", "log", "build")).toMatchObject({
      checkpoints: [
        { leaseId: id, workflowId: "build", version: "2", body: "", bodyBytes: "8" },
        { version: "1", metadata: { step: "1" } },
      ],
    });
    expect(await owner.print("cp", "log", "build", "--limit", "2")).toMatch(
      /^1 +11 bytes +application\/json +2\S+Z +[0-9a-f]{12} +step=1$/m,
    );
  });

  test("is written once by a request id, and only over the version that was expected", async () => {
    await create();
    const words = ["cp", "put", "build", "--expected", "0", "--request-id", crypto.randomUUID()];
    expect([await owner.print(...words), await owner.print(...words)]).toEqual(["1", "1"]);
    expect(await owner.failure("cp", "put", "build", "--expected", "0")).toMatchObject({
      exit: 8,
      error: { reason: "VERSION_MISMATCH", metadata: { current_version: "1" } },
    });
    expect(await owner.print("cp", "put", "build", "--expected", "1")).toBe("2");
  });

  test("that was pushed out is gone", async () => {
    await create("--versions", "1");
    await owner.feed("a", "cp", "put", "build");
    await owner.feed("b", "cp", "put", "build");
    expect(await owner.failure("cp", "get", "build", "--version", "1")).toMatchObject({
      exit: 4,
      error: { reason: "VERSION_GONE" },
    });
    expect(await owner.failure("cp", "get", "elsewhere")).toMatchObject({ exit: 3 });
  });

  test("larger than a message is streamed both ways, through a network that breaks", async () => {
    await create();
    await writeFile(owner.path("large.bin"), large);
    const proxy = await openProxy(house);
    const faraway = owner.with({ LEASEHOLD_URL: proxy.url });
    proxy.cutOnce({ direction: "up", afterBytes: 3_000_000 });
    const put = await faraway.run("cp", "put", "build", "large.bin");
    expect(put).toMatchObject({ exit: 0, stdout: "1\n", stderr: expect.stringContaining("; trying again\n") });
    expect(await owner.feed(large, "cp", "put", "build", "-")).toMatchObject({ exit: 0, stdout: "2\n" });

    proxy.cutOnce({ direction: "down", afterBytes: 3_000_000 });
    const got = await faraway.run("cp", "get", "build", "-o", "copy.bin");
    expect(got).toMatchObject({ exit: 0, stdout: "copy.bin\n", stderr: expect.stringContaining("; trying again\n") });
    expect(await readFile(owner.path("copy.bin"))).toEqual(large);
    expect((await readdir(owner.folder)).sort()).toEqual(["copy.bin", "large.bin"]);
    expect(await owner.failure("cp", "get", "build")).toMatchObject({
      exit: 2,
      error: { message: "The body has 6000000 bytes, too many for JSON: add -o FILE" },
    });
    const { exit, stdout } = await owner.run("cp", "get", "build", "--version", "2", "-o", "second.bin", "--json");
    expect([exit, JSON.parse(stdout)]).toMatchObject([
      0,
      { checkpoint: { version: "2", body: "", bodyBytes: "6000000" }, path: owner.path("second.bin") },
    ]);
  });
});

test("a large version that is refused says why at once", async () => {
  await create();
  await writeFile(owner.path("large.bin"), Buffer.alloc(20_000_000));
  expect(await owner.failure("cp", "put", "build", "large.bin")).toMatchObject({
    exit: 1,
    error: { reason: "BODY_TOO_LARGE" },
  });
  await writeFile(owner.path("large.bin"), large);
  expect(await owner.failure("cp", "put", "build", "large.bin", "--expected", "5")).toMatchObject({
    exit: 8,
    error: { reason: "VERSION_MISMATCH" },
  });
  expect(await owner.failure("cp", "put", "elsewhere", "large.bin")).toMatchObject({ exit: 3 });
});

describe("the lease that was made or read last here", () => {
  test("is the one that a put writes to: not into the next lease of its workflow", async () => {
    const first = await create();
    const zombie = owner;
    await owner.print("rm", first);
    const elsewhere = await CommandLine.of(house);
    owner = zombie.with({ XDG_STATE_HOME: elsewhere.folder });
    const second = await create();
    expect(await zombie.failure("cp", "put", "build")).toMatchObject({
      exit: 4,
      error: { reason: "LEASE_ENDED", leaseId: first, hint: expect.stringContaining("leasehold cp get build") },
    });
    expect(await zombie.json("cp", "log", "build")).toMatchObject({ checkpoints: [] });
    await owner.feed("of the next one", "cp", "put", "build");
    expect(await zombie.print("cp", "get", "build")).toBe("of the next one");
    expect(await zombie.json("cp", "put", "build")).toMatchObject({ checkpoint: { leaseId: second, version: "2" } });
    expect(await zombie.failure("cp", "put", "build", "--lease", first)).toMatchObject({ exit: 4 });
  });
});

describe("watching", () => {
  test("shows the current version and each newer one until Ctrl-C, once each, through a connection that breaks", async () => {
    await create();
    await owner.feed("a", "cp", "put", "build", "--meta", "step=a");
    const proxy = await openProxy(house);
    const watcher = owner.with({ LEASEHOLD_URL: proxy.url }).start("cp", "watch", "build");
    await watcher.says(/^1 {2}1 bytes .* step=a$/m);
    proxy.cutOnce({ direction: "down", afterBytes: 1 });
    await owner.feed("b", "cp", "put", "build", "--meta", "step=b");
    await owner.feed("c", "cp", "put", "build", "--meta", "step=c");
    await watcher.says(/^3 {2}.* step=c$/m);
    watcher.interruptGroup();
    const { exit, stdout } = await watcher.ended();
    expect(exit).toBe(0);
    expect(stdout.match(/^\d+/gm)).toEqual(["1", "2", "3"]);
  });

  test("with --json is a document a line, and begins where it is told to", async () => {
    const id = await create();
    await owner.feed("a", "cp", "put", "build");
    await owner.feed("b", "cp", "put", "build");
    const watcher = owner.start("cp", "watch", "build", "--after", "1", "--json");
    await watcher.says(/"version":"2"/);
    await owner.print("rm", id);
    const { exit, stdout, stderr } = await watcher.ended();
    expect(
      stdout
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toMatchObject([{ checkpoint: { version: "2", body: btoa("b") } }]);
    expect([exit, JSON.parse(stderr)]).toMatchObject([4, { error: { reason: "LEASE_ENDED" } }]);
  });
});

test("a handoff delivers the version it names, or the latest when it is claimed", async () => {
  const id = await create();
  await owner.feed("one", "cp", "put", "build");
  const pinned = (await owner.json("handoff", id, "--checkpoint-version", "1")) as { claimToken: string };
  const latest = (await owner.json("handoff", id)) as { claimToken: string };
  expect(pinned).toMatchObject({ handoff: { checkpointVersion: "1" } });
  await owner.feed("two and more", "cp", "put", "build");
  expect(await owner.print("inspect", latest.claimToken)).toMatch(/^of +checkpoint$/m);
  expect(await owner.json("claim", pinned.claimToken, "-o", "pinned")).toMatchObject({ bytes: "3" });
  expect(await owner.json("claim", latest.claimToken, "-o", "latest")).toMatchObject({ bytes: "12" });
  expect(await readFile(owner.path("pinned"), "utf8")).toBe("one");
  expect(await readFile(owner.path("latest"), "utf8")).toBe("two and more");
});
