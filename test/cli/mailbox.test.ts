/** Tests the commands of mailboxes: made, dropped into, looked after, and handed over. */
import { cp, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { beforeEach, describe, expect, test } from "vitest";
import { openProxy } from "../client/network.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { CommandLine } from "./command-line.ts";
import { MailboxLines } from "./mailbox-lines.ts";

const house = await TestLeasehold.start();
const messageId = expect.stringMatching(/^msg_[0-9a-z]{26}$/);

let box: MailboxLines;
beforeEach(async () => {
  box = await MailboxLines.open(house);
});

describe("a mailbox", () => {
  test("is made with its terms; its secrets are shown once, and again to the same request id", async () => {
    const owner = await CommandLine.of(house, 1_000n);
    const words = [
      ...["mailbox", "create", "--size", "10MiB", "--duration", "1d", "--max-message", "64KiB", "--max-messages", "50"],
      ...["--max-deliveries", "3", "--webhook", "https://hooks.example/in", "--label", "kind=inbox"],
      ...["--request-id", crypto.randomUUID()],
    ];
    const made = await owner.json(...words);
    expect(made).toMatchObject({
      lease: {
        variant: "VARIANT_MAILBOX",
        state: "STATE_ACTIVE",
        sizeBytes: "10485760",
        labels: { kind: "inbox" },
        mailbox: { maxMessageBytes: 65_536, maxMessages: 50, maxDeliveries: 3, webhookUrl: "https://hooks.example/in" },
      },
      dropToken: expect.stringMatching(/^lh_drop_[0-9A-Za-z]{49}$/),
      webhookSecret: expect.stringMatching(/^whsec_/),
    });
    const { dropToken, dropUrl } = made as { dropToken: string; dropUrl: string };
    expect(dropUrl).toBe(`${house.httpUrl}/api/drop/${dropToken}`);
    expect(await owner.json(...words)).toEqual(made);
    const shown = await owner.run(...words);
    expect(shown.stdout).toMatch(new RegExp(`^drop token +${dropToken}$`, "m"));
    expect(shown.stdout).toMatch(/^webhook secret +whsec_/m);
    expect(shown.stderr).toContain("The drop token and the webhook secret are shown here and nowhere else");
    expect(await owner.json("account", "show")).toMatchObject({ account: { balanceMicros: "0" } });
  });

  test("is listed with what is in it, and removed with it", async () => {
    const { owner, stranger, leaseId } = box;
    await stranger.print("drop", "--text", "one");
    expect(await owner.print("ls")).toMatch(
      new RegExp(`^${leaseId} +mailbox +active +1\\.0 MiB +1 message +0\\.001000 USD`, "m"),
    );
    expect(await owner.print("rm", leaseId)).toMatch(/^variant +mailbox$/m);
    expect(await stranger.failure("drop", "--text", "two")).toMatchObject({
      exit: 4,
      error: { reason: "LEASE_ENDED" },
    });
  });

  test("has its price quoted", async () => {
    const { owner } = box;
    expect(await owner.print("quote", "1GiB", "30d", "--variant", "mailbox")).toBe("0.030000 USD");
    expect(await owner.failure("quote", "1GiB", "1d", "--variant", "mailbox", "--versions", "5")).toMatchObject({
      exit: 2,
    });
  });
});

describe("a message", () => {
  test("is dropped without an account from text, a file or stdin, with all that is said of it, once per request id", async () => {
    const { stranger, dropToken, dropUrl } = box;
    const id = await stranger.print("drop", "--text", "hello", "--attribute", "from=anna", "--attribute", "n=1");
    expect(id).toEqual(messageId);
    await writeFile(stranger.path("note.json"), "{}");
    await stranger.print("drop", dropToken, "note.json", "--type", "application/json");
    const piped = await stranger.feed("piped", "drop", dropUrl, "-");
    expect(piped).toMatchObject({ exit: 0, stdout: expect.stringMatching(/^msg_/) });
    const again = ["drop", "--text", "once", "--request-id", crypto.randomUUID()];
    expect(await stranger.json(...again)).toEqual(await stranger.json(...again));

    const deliveries = await box.receive("--max", "10");
    expect(deliveries).toMatchObject([
      { message: { messageId: id, contentType: "text/plain; charset=utf-8", attributes: { from: "anna", n: "1" } } },
      { message: { contentType: "application/json" } },
      { message: { contentType: "application/octet-stream" } },
      {},
    ]);
    expect(deliveries.map(({ message }) => Buffer.from(message.body, "base64").toString())).toEqual([
      "hello",
      "{}",
      "piped",
      "once",
    ]);
  });

  test("is dropped once through a network that breaks", async () => {
    const { stranger } = box;
    const proxy = await openProxy(house);
    proxy.cutOnce({ direction: "down", afterBytes: 1 });
    const dropped = await stranger.with({ LEASEHOLD_URL: proxy.url }).run("drop", "--text", "once");
    expect(dropped).toMatchObject({ exit: 0, stderr: expect.stringContaining("; trying again\n") });
    expect(await box.receive("--max", "10")).toMatchObject([{ message: { messageId: dropped.stdout.trim() } }]);
  });

  test("that cannot be dropped says why, and nothing is sent to where it does not belong", async () => {
    const { stranger, owner, leaseId } = box;
    const nobody = stranger.with({ LEASEHOLD_DROP_TOKEN: "" });
    expect(await nobody.run("drop", "--text", "lost")).toEqual({
      exit: 5,
      stdout: "",
      stderr: "leasehold: No drop token is set: give one with an argument or LEASEHOLD_DROP_TOKEN\n",
    });
    expect(await stranger.failure("drop", "one", "two")).toMatchObject({ exit: 2 });
    expect(await stranger.failure("drop", `${house.httpUrl}/api/claim/x`, "--text", "x")).toMatchObject({ exit: 2 });
    expect(await stranger.failure("drop", "missing.txt")).toMatchObject({ exit: 2 });
    expect(await stranger.failure("drop", "note", "--text", "twice")).toMatchObject({ exit: 2 });
    expect(await stranger.feed(Buffer.alloc(1_048_577), "drop")).toMatchObject({
      exit: 2,
      stderr: expect.stringContaining("has more than 1048576 bytes"),
    });
    const away = stranger.with({ LEASEHOLD_URL: "http://127.0.0.1:1" });
    expect(await away.start("drop", "--text", "x").says(/; trying again/)).toBeTruthy();
    await owner.print("rotate", leaseId);
    expect(await stranger.failure("drop", "--text", "late")).toMatchObject({
      exit: 4,
      error: { reason: "DROP_TOKEN_ROTATED" },
    });
  });

  test("is for a mailbox with room", async () => {
    const small = await MailboxLines.open(house, "--max-messages", "1");
    await small.stranger.print("drop", "--text", "first");
    expect(await small.stranger.failure("drop", "--text", "second")).toMatchObject({
      exit: 7,
      error: { reason: "MAILBOX_FULL" },
    });
  });
});

test("a message that is given back too often is dead, listed with its reason, and brought back", async () => {
  box = await MailboxLines.open(house, "--max-deliveries", "1");
  const { owner, stranger, leaseId } = box;
  const ids = [await stranger.print("drop", "--text", "bad"), await stranger.print("drop", "--text", "worse")];
  expect(await owner.run("dead", leaseId)).toMatchObject({ stdout: "", stderr: "No message is dead.\n" });
  const receipts = (await box.receive("--max", "2")).map(({ receipt }) => receipt);
  expect(await owner.json("nack", leaseId, ...receipts)).toMatchObject({
    results: [{ outcome: "OUTCOME_DEAD" }, { outcome: "OUTCOME_DEAD" }],
  });
  expect(await owner.print("dead", leaseId)).toMatch(new RegExp(`^${ids[0]} +nacked +1 .* bad$`, "m"));
  expect(await owner.json("dead", leaseId, "--limit", "1")).toMatchObject({
    messages: [{ message: { messageId: ids[0] }, reason: "REASON_NACKED" }],
    nextPageToken: expect.stringMatching(/./),
  });
  expect(await owner.print("redrive", leaseId, ids[1] ?? "")).toBe(ids[1]);
  expect(await owner.json("redrive", leaseId)).toEqual({ messageIds: [ids[0]] });
  expect(await box.receive("--max", "5")).toMatchObject([{ deliveryCount: 1 }, { deliveryCount: 1 }]);
});

test("a drop token is replaced at once or after a grace; what was announced is listed", async () => {
  box = await MailboxLines.open(house, "--webhook", "https://hooks.example/in");
  const { owner, stranger, leaseId, dropToken } = box;
  const rotated = (await owner.json("rotate", leaseId, "--grace", "1h")) as { dropToken: string };
  expect(rotated).toMatchObject({ oldTokenExpireTime: expect.any(String) });
  const old = await stranger.print("drop", dropToken, "--text", "with the old one");
  const fresh = await stranger.print("drop", rotated.dropToken, "--text", "with the new one");
  expect(await owner.json("webhooks", leaseId)).toMatchObject({
    deliveries: [
      { messageId: fresh, state: "STATE_PENDING" },
      { messageId: old, state: "STATE_PENDING" },
    ],
  });
  expect(await owner.print("webhooks", leaseId, "--limit", "1")).toMatch(
    new RegExp(`^${fresh} +pending +0 +2\\S+Z$`, "m"),
  );
  expect(await owner.print("rotate", leaseId)).toMatch(/^old token +stopped$/m);
});

describe("a handoff of a mailbox", () => {
  test("is claimed as a folder of files named after the messages, which stay where they are", async () => {
    const { owner, stranger, leaseId } = box;
    const ids = [
      await stranger.print("drop", "--text", "one", "--attribute", "from=anna"),
      await stranger.print("drop", "--text", ""),
    ];
    const handoff = (await owner.json("handoff", leaseId)) as { handoff: { handoffId: string }; claimToken: string };
    const receiver = (await CommandLine.of(house)).with({ LEASEHOLD_API_KEY: "" });
    const inspected = await receiver.print("inspect", handoff.claimToken);
    expect(inspected).toMatch(/^of +mailbox$/m);
    expect(inspected).toMatch(new RegExp(`^${ids[0]} +3 bytes +text/plain; charset=utf-8 +2\\S+Z +from=anna$`, "m"));

    const { handoffId } = handoff.handoff;
    expect(await receiver.print("claim", handoff.claimToken)).toBe(ids.map((id) => `${handoffId}/${id}`).join("\n"));
    expect(await readFile(receiver.path(`${handoffId}/${ids[0]}`), "utf8")).toBe("one");
    expect((await readdir(receiver.path(handoffId))).sort()).toEqual(["items.jsonl", ...ids].sort());
    expect(await readdir(receiver.folder)).toEqual([handoffId]);
    expect(await box.receive("--max", "5")).toHaveLength(2);
  });

  test("goes to the folder that was asked for, unless one is there; a claim that goes on is told by its id", async () => {
    const { owner, stranger, leaseId } = box;
    const id = await stranger.print("drop", "--text", "one");
    const { claimToken } = (await owner.json("handoff", leaseId)) as { claimToken: string };
    await writeFile(owner.path("taken"), "");
    expect(await owner.failure("claim", claimToken, "-o", "taken", "--force")).toMatchObject({ exit: 1 });
    const claimed = await owner.json("claim", claimToken, "-o", "mine", "--no-confirm");
    expect(claimed).toEqual({
      path: owner.path("mine"),
      claimId: expect.stringMatching(/^clm_/),
      bytes: "3",
      items: [
        {
          file: id,
          name: id,
          contentType: "text/plain; charset=utf-8",
          bytes: "3",
          sha256: "",
          attributes: {},
          createTime: expect.stringMatching(/Z$/),
        },
      ],
      confirmed: false,
      leaseEnded: false,
    });
    const { claimId } = claimed as { claimId: string };
    await mkdir(owner.path(`${claimId}.part`));
    await cp(owner.path("mine"), owner.path(`${claimId}.part`), { recursive: true });
    await owner.print("claim", claimToken, "-o", "again", "--claim-id", claimId);
    expect(await readFile(owner.path(`again/${id}`), "utf8")).toBe("one");
    expect((await readdir(owner.folder)).sort()).toEqual(["again", "mine", "taken"]);
  });
});
