/** Tests that `put` and `claim` come through a network that breaks. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { openProxy } from "../client/network.ts";
import { generatedBytes } from "../support/generated-bytes.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { CommandLine } from "./command-line.ts";

const house = await TestLeasehold.start();
const body = generatedBytes(1, 0, 3_000_000);

test("a broken upload and a broken claim go on by themselves, say so, and end with the right bytes", async () => {
  const sender = await CommandLine.of(house);
  await writeFile(sender.path("artifact.bin"), body);
  const proxy = await openProxy(house);
  proxy.cutOnce({ direction: "up", afterBytes: 1_500_000 });
  const put = await sender
    .with({ LEASEHOLD_URL: proxy.url })
    .run("put", "artifact.bin", "--handoff", "--delete-on-claim");
  expect(put.exit).toBe(0);
  expect(put.stderr).toMatch(/cannot be reached: .*; trying again\n/);
  const token = put.stdout.trim().split("/").at(-1) ?? "";

  const receiver = await CommandLine.of(house);
  proxy.cutOnce({ direction: "down", afterBytes: 1_500_000 });
  const claim = await receiver.with({ LEASEHOLD_URL: proxy.url }).run("claim", token);
  expect(claim).toMatchObject({ exit: 0, stdout: "artifact.bin\n" });
  expect(claim.stderr).toMatch(/; trying again\n/);
  expect(claim.stderr).toContain("The lease has ended with this claim: its content is destroyed.");
  expect(await readFile(receiver.path("artifact.bin"))).toEqual(body);
  expect(await readdir(receiver.folder)).toEqual(["artifact.bin"]);
});

test("with --json a broken transfer writes nothing but the one document", async () => {
  const sender = await CommandLine.of(house);
  await writeFile(sender.path("artifact.bin"), body);
  const proxy = await openProxy(house);
  proxy.cutOnce({ direction: "up", afterBytes: 1_500_000 });
  const put = await sender.with({ LEASEHOLD_URL: proxy.url }).run("put", "artifact.bin", "--json");
  expect(put).toMatchObject({ exit: 0, stderr: "" });
  expect(JSON.parse(put.stdout)).toMatchObject({
    lease: { state: "STATE_ACTIVE", storage: { storedBytes: "3000000" } },
  });
});
