/** A handoff over a scratchpad delivers the entries there were at the claim's start, and pages of a list tell where the next begins. */
import { describe, expect, test } from "vitest";
import { HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { Redeemer, refusedWith } from "../handoff/redeemer.ts";
import { seenReason } from "../server/seen-error.ts";
import { Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { letExpire, openPad, padOf, rowsOf, Worker } from "./pad.ts";

const leasehold = await TestLeasehold.start();
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);
const { apiKey } = tenant.account;
const redeemer = new Redeemer(leasehold);
const anyone = leasehold.nativeClient(HandoffService);

async function openWorker(request: Parameters<typeof openPad>[2] = {}) {
  const leaseId = await openPad(tenant, {}, request);
  return { leaseId, worker: new Worker(leasehold, apiKey, leaseId) };
}

async function issue(leaseId: string, maxClaims = 10) {
  return { token: (await tenant.handoffs.issueHandoff({ leaseId, maxClaims })).claimToken };
}

/** What a claim delivers, item by item. */
async function takeItems(claimToken: string): Promise<Record<string, string>> {
  const items: Record<string, string> = {};
  let name = "";
  for await (const { part } of anyone.claimHandoff({ claimToken })) {
    if (part.case === "itemStart") {
      name = part.value.name;
      items[name] = "";
    } else if (part.case === "data") {
      items[name] += Buffer.from(part.value.data).toString();
    }
  }
  return items;
}

describe("a claim of a scratchpad", () => {
  test("delivers every entry as an item, in the order of keys, with what was appended", async () => {
    const { leaseId, worker } = await openWorker();
    await worker.set("b", "two");
    await worker.set("a", "one");
    await worker.append("log", "x");
    await worker.append("log", "y");
    await worker.set("empty", "");
    await worker.increment("n", 7n);
    await worker.set("gone", "x");
    await worker.delete("gone");
    const { token } = await issue(leaseId);
    const items = await takeItems(token);
    expect(Object.entries(items)).toEqual([
      ["a", "one"],
      ["b", "two"],
      ["empty", ""],
      ["log", "xy"],
      ["n", "7"],
    ]);
  });

  test("is a snapshot at its start, whatever is set, appended, deleted and over after it", async () => {
    const { leaseId, worker } = await openWorker();
    await worker.set("a", "one");
    await worker.append("log", "1,");
    await worker.append("log", "2,");
    await worker.set("timed", "t", { ttl: { seconds: 60n } });
    const handedOff = await issue(leaseId);
    const first = await redeemer.redeem("native", handedOff);
    await worker.append("log", "3,");
    await worker.set("a", "other");
    await worker.set("b", "new");
    await letExpire(database, leaseId, "timed");
    const second = await redeemer.redeem("native", handedOff);
    await worker.delete("log");
    await worker.set("log", "anew");
    await worker.append("log", "!");
    await worker.delete("a");
    expect(`${await first.readRest()}`).toBe("one1,2,t");
    expect(`${await second.readRest()}`).toBe("othernew1,2,3,");
    const resumed = await redeemer.take("connect", { ...handedOff, claimId: first.claimId, offset: 4 });
    expect(`${resumed.body}`).toBe(",2,t");
    expect(await takeItems(handedOff.token)).toEqual({ b: "new", log: "anew!" });
    expect(await padOf(tenant, leaseId)).toMatchObject({ entryCount: 2n });
  });

  test("keeps nothing once no claim is open any more", async () => {
    const { leaseId, worker } = await openWorker();
    await worker.set("a", "one");
    await worker.append("a", "two");
    const handedOff = await issue(leaseId);
    const { claimId } = await redeemer.take("native", handedOff);
    await worker.set("a", "other");
    expect(await rowsOf(database, leaseId)).toMatchObject({ scratchpad_kept: 1, scratchpad_append: 1 });
    await leasehold.sweep();
    expect(await rowsOf(database, leaseId)).toMatchObject({ scratchpad_kept: 1, scratchpad_append: 1 });
    await redeemer.confirm("native", handedOff.token, claimId);
    await leasehold.sweep();
    expect(await rowsOf(database, leaseId)).toMatchObject({ scratchpad_kept: 0, scratchpad_append: 0 });
  });

  test("has one value of an entry kept for it, however often that is replaced, and only as long as it is open", async () => {
    const { leaseId, worker } = await openWorker();
    await worker.set("a", "one");
    const handedOff = await issue(leaseId);
    const first = await redeemer.take("native", handedOff);
    const replace = async (values: readonly string[]) => {
      for (const value of values) {
        await worker.set("a", value);
      }
      return (await rowsOf(database, leaseId)).scratchpad_kept;
    };
    expect(await replace(["x", "x", "x", "two"])).toBe(1);
    const second = await redeemer.take("native", handedOff);
    expect(await replace(["x", "x", "three"])).toBe(2);
    await redeemer.confirm("native", handedOff.token, first.claimId);
    await leasehold.sweep();
    expect(await rowsOf(database, leaseId)).toMatchObject({ scratchpad_kept: 1 });
    const resumed = await redeemer.take("native", { ...handedOff, claimId: second.claimId, offset: 1 });
    expect(`${second.body} ${resumed.body}`).toBe("two wo");
  });

  test("delivers many entries and large ones, page by page, and goes on from any offset", async () => {
    const { leaseId, worker } = await openWorker({ sizeBytes: 33_554_432n });
    const small = Array.from({ length: 600 }, (_, index) => [
      `s${String(index).padStart(3, "0")}`,
      `${index}`.repeat(9),
    ]);
    const large = Array.from({ length: 3 }, (_, index) => [`t${index}`, `${index}`.repeat(900_000)]);
    const entries = [...small, ...large] as [string, string][];
    await Promise.all(entries.map(([key, value]) => worker.set(key, value)));
    const whole = entries.map(([, value]) => value).join("");
    const handedOff = await issue(leaseId);
    for (const offset of [1, 8, 9, 5_000, whole.length - 900_001, whole.length]) {
      const { claimId, body } = await redeemer.take("native", handedOff);
      expect(`${body}` === whole).toBe(true);
      const rest = await redeemer.take("native", { ...handedOff, claimId, offset });
      expect(`${rest.body}` === whole.slice(offset), `${offset}`).toBe(true);
    }
  });

  test("over plain HTTP is refused, since it has no place for items", async () => {
    const { leaseId, worker } = await openWorker();
    await worker.set("a", "one");
    expect(await refusedWith(redeemer.redeem("http", await issue(leaseId)))).toMatchObject({ reason: "WRONG_VARIANT" });
  });
});

describe("a list", () => {
  test("is in the order of the keys' bytes, by prefix, page by page, whatever the keys are made of", async () => {
    const { worker } = await openWorker();
    const keys = [
      "a",
      "a%",
      "a_",
      "a/1",
      "a/2",
      "a/\u{10FFFF}",
      "aé",
      "b",
      "ä",
      "A",
      "a/\u{10FFFF}\u{10FFFF}x",
      "日本",
      "'; --",
    ];
    await Promise.all(keys.map((key) => worker.set(key, `of ${key}`)));
    const inOrder = keys.toSorted((one, two) => Buffer.compare(Buffer.from(one), Buffer.from(two)));
    for (const pageSize of [1, 3, 100]) {
      expect(Object.keys(await worker.list("", pageSize)), `${pageSize}`).toEqual(inOrder);
      for (const prefix of ["a", "a/", "a%", "a/\u{10FFFF}", "日", "zz"]) {
        const found = await worker.list(prefix, pageSize);
        expect(Object.keys(found), prefix).toEqual(inOrder.filter((key) => key.startsWith(prefix)));
      }
    }
    expect((await worker.list("日"))["日本"]).toBe("of 日本");
  });

  test("shows values only if asked, ends a page early for their size, and tells the version to watch from", async () => {
    const { leaseId, worker } = await openWorker({ sizeBytes: 33_554_432n });
    const value = "x".repeat(600_000);
    for (const key of ["a", "b", "c"]) {
      await worker.set(key, value);
    }
    const bare = await worker.pads.listEntries({ leaseId });
    expect(bare).toMatchObject({ version: 3n, nextPageToken: "" });
    expect(bare.entries.map(({ key, value: shown, valueBytes }) => [key, shown.length, valueBytes])).toEqual(
      ["a", "b", "c"].map((key) => [key, 0, 600_000n]),
    );
    const page = await worker.pads.listEntries({ leaseId, includeValues: true });
    expect(page.entries).toHaveLength(1);
    expect(page.nextPageToken).not.toBe("");
    expect(Object.keys(await worker.list())).toEqual(["a", "b", "c"]);
    expect(await seenReason(worker.pads.listEntries({ leaseId, pageToken: "?" }))).toBe("INVALID_FIELD");
  });
});
