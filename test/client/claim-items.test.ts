/** Tests that a claim of several items arrives as files, item by item, wherever its stream breaks. */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { MailboxService } from "#gen/leasehold/v1/mailbox_pb.js";
import { CallError } from "../../src/client/call-error.ts";
import { downloadItems, type ItemsDownload } from "../../src/client/claim-items.ts";
import { connect } from "../../src/client/connection.ts";
import { TargetExistsError } from "../../src/client/part-file.ts";
import { StagedItems } from "../../src/client/staged-items.ts";
import { temporaryFolder } from "../processes/temporary-data-dir.ts";
import { generatedBytes } from "../support/generated-bytes.ts";
import { Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { connectThrough, impatient, openProxy } from "./network.ts";

const leasehold = await TestLeasehold.start();
/** Messages without bytes lie at the start, at the end, and between others. */
const bodies = [
  Buffer.alloc(0),
  Buffer.from("aaa"),
  Buffer.alloc(0),
  Buffer.alloc(0),
  generatedBytes(1, 0, 200_000),
  Buffer.from("b"),
  Buffer.alloc(0),
];

let path: string;
let folder: StagedItems;
let token: string;
let messageIds: string[];

beforeEach(async () => {
  path = join(await temporaryFolder(), "claim.part");
  folder = await StagedItems.open(path);
  const tenant = await Tenant.open(leasehold);
  const { lease, dropToken } = await tenant.leases.createLease({
    sizeBytes: 1_048_576n,
    duration: { seconds: 3600n },
    variant: { case: "mailbox", value: {} },
  });
  const mailboxes = leasehold.client(MailboxService);
  messageIds = [];
  for (const body of bodies) {
    const contentType = "text/plain";
    const attributes = { nth: `${messageIds.length}` };
    messageIds.push((await mailboxes.dropMessage({ dropToken, body, contentType, attributes })).messageId);
  }
  ({ claimToken: token } = await tenant.handoffs.issueHandoff({ leaseId: lease?.leaseId ?? "", maxClaims: 1 }));
});

function download(more: Partial<ItemsDownload> = {}): Promise<string> {
  const connection = connect({ url: leasehold.httpUrl });
  return downloadItems({ connection, token, folder, fileNameOf: (item) => item.name, retry: impatient, ...more });
}

/** Every message has its file, and its line. */
async function requireWhole(): Promise<void> {
  const target = join(path, "..", "whole");
  await folder.complete(target);
  expect(await Promise.all(messageIds.map((id) => readFile(join(target, id))))).toEqual(bodies);
  expect((await readdir(target)).sort()).toEqual([...messageIds, "items.jsonl"].sort());
  const lines = (await readFile(join(target, "items.jsonl"), "utf8")).trimEnd().split("\n");
  expect(lines.map((line) => JSON.parse(line))).toEqual(
    messageIds.map((name, nth) => ({
      file: name,
      name,
      contentType: "text/plain",
      bytes: `${bodies[nth]?.length}`,
      sha256: "",
      attributes: { nth: `${nth}` },
      createTime: expect.stringMatching(/Z$/),
    })),
  );
}

test("each item is a file of its own, and a line tells what it is", async () => {
  await download();
  await requireWhole();
});

test.for([3n, 200_003n, 200_004n])(
  "after a break just behind an item's last byte, at %d, no item without bytes is left out",
  async (boundary) => {
    let breaks = 0;
    const onProgress = (receivedBytes: bigint) => {
      if (receivedBytes === boundary && breaks === 0) {
        breaks += 1;
        throw new CallError("CONNECTION_FAILED", "cut on purpose");
      }
    };
    await download({ onProgress });
    expect(breaks).toBe(1);
    await requireWhole();
  },
);

test("a connection that breaks within an item is taken up there, and a lost answer makes no second claim", async () => {
  const proxy = await openProxy(leasehold);
  proxy.cutOnce({ direction: "down", afterBytes: 1 });
  const claims: string[] = [];
  let isCut = false;
  await download({
    connection: connectThrough(proxy),
    onClaim: async (claimId) => void claims.push(claimId),
    onRetry: () => {
      if (!isCut) {
        isCut = true;
        proxy.cutOnce({ direction: "down", afterBytes: 100_000 });
      }
    },
  });
  expect(claims).toHaveLength(1);
  await requireWhole();
});

test("another process goes on with what is there, also behind a line that a crash has cut", async () => {
  let claimId: string | undefined;
  const broken = download({
    retry: { maxFailures: 1, firstDelayMs: 1, longestDelayMs: 1 },
    onClaim: async (id) => {
      claimId = id;
    },
    onProgress: (receivedBytes) => {
      if (receivedBytes > 100_000n) {
        throw new CallError("CONNECTION_FAILED", "cut on purpose");
      }
    },
  });
  await expect(broken).rejects.toMatchObject({ reason: "CONNECTION_FAILED" });
  await folder.leave();
  await writeFile(join(path, "items.jsonl"), `{"file":"cut`, { flag: "a" });

  folder = await StagedItems.open(path);
  expect(folder.receivedBytes).toBeGreaterThan(100_000n);
  const seen: bigint[] = [];
  expect(await download({ claimId, onProgress: (bytes) => void seen.push(bytes) })).toBe(claimId);
  expect(seen[0]).toBeGreaterThan(100_000n);
  await requireWhole();
});

test("a folder is never put over another, and of a claim that was refused none is left", async () => {
  await download();
  const target = join(path, "..", "taken");
  await mkdir(target);
  await writeFile(join(target, "mine"), "");
  await expect(folder.complete(target)).rejects.toThrow(TargetExistsError);
  expect(await readdir(target)).toEqual(["mine"]);

  const refused = join(path, "..", "refused.part");
  const other = await StagedItems.open(refused);
  await expect(download({ folder: other })).rejects.toMatchObject({ reason: "HANDOFF_BUSY" });
  await other.leave();
  expect((await readdir(join(path, ".."))).sort()).toEqual(["claim.part", "taken"]);
});

test("an item that would have no file of its own is refused", async () => {
  await expect(download({ fileNameOf: () => "same" })).rejects.toMatchObject({ reason: "UNEXPLAINED" });
});
