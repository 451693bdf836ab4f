/** Tests the commands that receive a mailbox's messages and settle them. */
import { readdir, readFile } from "node:fs/promises";
import { beforeEach, describe, expect, test } from "vitest";
import { openProxy } from "../client/network.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { MailboxLines } from "./mailbox-lines.ts";

const house = await TestLeasehold.start();

let box: MailboxLines;
beforeEach(async () => {
  box = await MailboxLines.open(house);
});

describe("receiving", () => {
  test("shows messages for people: text as it is but unable to pass for anything else, the rest by size", async () => {
    const { owner, stranger, leaseId } = box;
    await stranger.print("drop", "--text", "line one\nreceipt  rcp_fake", "--attribute", "note=\u001b[2Jgone");
    await stranger.feed(Buffer.from([0x1b, 0x5b, 0x32, 0x4a]), "drop");
    const shown = await owner.print("recv", leaseId, "--max", "5");
    expect(shown).toMatch(/^msg_[0-9a-z]{26} {2}#1 {2}26 bytes {2}text\/plain; charset=utf-8 {2}dropped 2\S+Z$/m);
    expect(shown.match(/^receipt {2}rcp_/gm)).toHaveLength(2);
    expect(shown).toContain("\n  line one\n  receipt  rcp_fake\n");
    expect(shown).toContain("attributes  note=\\u{1b}[2Jgone\n");
    expect(shown).toContain("body  4 bytes, not text: --json or --dir gives it");
    expect(shown).not.toContain("\u001b");
    const empty = await owner.run("recv", leaseId);
    expect(empty).toEqual({ exit: 0, stdout: "", stderr: "There is nothing to receive.\n" });
  });

  test("holds each message until it is settled: acknowledged, given back, held for longer, or stale", async () => {
    const { owner, stranger, leaseId } = box;
    for (const text of ["a", "b", "c"]) {
      await stranger.print("drop", "--text", text);
    }
    const [a, b, c] = await box.receive("--max", "3", "--hold", "1h");
    const [first = "", second = "", third = ""] = [a?.receipt, b?.receipt, c?.receipt];
    expect(await owner.json("ack", leaseId, first)).toMatchObject({
      results: [{ receipt: first, outcome: "OUTCOME_ACKED" }],
    });
    expect(await owner.print("ack", leaseId, first)).toMatch(new RegExp(`^${first} +already gone$`, "m"));
    expect(await owner.json("extend", leaseId, second, "--hold", "2h")).toMatchObject({
      results: [{ outcome: "OUTCOME_EXTENDED" }],
      holdExpireTime: expect.any(String),
    });
    expect(await owner.json("nack", leaseId, third)).toMatchObject({ results: [{ outcome: "OUTCOME_NACKED" }] });
    const [again] = await box.receive("--max", "3");
    expect(again).toMatchObject({ message: { body: btoa("c") }, deliveryCount: 2 });
    const late = await owner.run("ack", leaseId, third, second, "--json");
    expect(JSON.parse(late.stdout)).toMatchObject({
      results: [{ outcome: "OUTCOME_STALE" }, { outcome: "OUTCOME_ACKED" }],
    });
    expect(late).toMatchObject({ exit: 4, stderr: expect.stringContaining("1 of 2 receipts are stale") });
    expect(await owner.run("nack", leaseId, "rcp_typo")).toMatchObject({ exit: 3 });
    await owner.print("nack", leaseId, again?.receipt ?? "", "--delay", "1h");
    expect(await owner.print("peek", leaseId)).toMatch(
      /^msg_\S+ +delayed +2 +2\S+Z +2\S+Z +1 bytes +text\/plain.* c$/m,
    );
  });

  test("with --ack leaves nothing behind, and with --dir the bodies are files named after the messages", async () => {
    const { owner, stranger, leaseId } = box;
    const body = Buffer.from([0, 1, 2, 255]);
    const id = (await stranger.feed(body, "drop", "--type", "image/x-odd")).stdout.trim();
    expect(await box.receive("--ack", "--dir", "in")).toMatchObject([{ message: { body: "" }, path: `in/${id}` }]);
    expect(await readFile(owner.path(`in/${id}`))).toEqual(body);
    expect(await readdir(owner.path("in"))).toEqual([id]);
    expect(await owner.json("peek", leaseId)).toEqual({ messages: [], nextPageToken: "" });
    expect(await owner.run("peek", leaseId)).toMatchObject({ stdout: "", stderr: "The mailbox is empty.\n" });
  });

  test("waits for the first message, as long as it is told to", async () => {
    const { owner, stranger, leaseId } = box;
    const waiting = owner.start("recv", leaseId, "--wait", "10m", "--json");
    await stranger.print("drop", "--text", "late");
    const { exit, stdout } = await waiting.ended();
    expect([exit, JSON.parse(stdout)]).toMatchObject([0, { deliveries: [{ message: { body: btoa("late") } }] }]);
  });

  test("goes on until Ctrl-C, through a connection that breaks, and loses nothing", async () => {
    const { owner, stranger, leaseId } = box;
    const proxy = await openProxy(house);
    const follower = owner.with({ LEASEHOLD_URL: proxy.url }).start("recv", leaseId, "--follow", "--ack");
    await stranger.print("drop", "--text", "first");
    await follower.says(/^ {2}first$/m);
    proxy.cutOnce({ direction: "down", afterBytes: 1 });
    await stranger.print("drop", "--text", "second", "--attribute", `long=${"x".repeat(200)}`);
    await follower.says(/; trying again\n/);
    await stranger.print("drop", "--text", "third");
    await follower.says(/^ {2}third$/m);
    follower.interruptGroup();
    expect(await follower.ended()).toMatchObject({ exit: 0 });
    await query(house.database, "update message set visible_time = now() where is_held");
    const left = await box.receive("--max", "5");
    expect([
      ...left.map(({ message }) => atob(message.body)),
      ...(follower.stdout.match(/^ {2}second$/gm) ?? []),
    ]).toHaveLength(1);
  });

  test("ends at Ctrl-C also while there is no server to be reached", async () => {
    const { owner, leaseId } = box;
    const follower = owner.with({ LEASEHOLD_URL: "http://127.0.0.1:1" }).start("recv", leaseId, "--follow");
    await follower.says(/; trying again\n/);
    follower.interruptGroup();
    expect(await follower.ended()).toMatchObject({ exit: 0, stdout: "" });
  });

  test("with --json is a document a line; of a mailbox that ends it says so", async () => {
    const { owner, stranger, leaseId } = box;
    await stranger.print("drop", "--text", "one");
    await stranger.print("drop", "--text", "two");
    const follower = owner.start("recv", leaseId, "--follow", "--json");
    await follower.says(/"sequence":"2"/);
    await owner.print("rm", leaseId);
    const { exit, stdout, stderr } = await follower.ended();
    expect(
      stdout
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toMatchObject([
      { message: { sequence: "1", body: btoa("one") }, receipt: expect.stringMatching(/^rcp_/), deliveryCount: 1 },
      { message: { sequence: "2", body: btoa("two") } },
    ]);
    expect([exit, JSON.parse(stderr)]).toMatchObject([4, { error: { reason: "LEASE_ENDED" } }]);
  });
});
