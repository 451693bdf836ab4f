/** Whatever is read of a scratchpad while it is changed is what the changes up to one version have made of it. */
import { expect, test } from "vitest";
import { EntryGathering } from "../../src/scratchpad/entry-gathering.ts";
import { claimUuid } from "../handoff/handed-off.ts";
import { Redeemer } from "../handoff/redeemer.ts";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { openPad, rowsOf, Worker } from "./pad.ts";
import { Replica } from "./replica.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);
const { apiKey } = tenant.account;
const redeemer = new Redeemer(leasehold);

type Entries = ReadonlyMap<string, string>;
type Change = (entries: Map<string, string>) => void;

/** Every change that was made, by the version it got. */
class History {
  readonly #changes = new Map<bigint, Change>();

  note(version: bigint, change: Change): void {
    expect(this.#changes.has(version)).toBe(false);
    this.#changes.set(version, change);
  }

  /** What there was at a version, in the order of the keys' bytes. */
  at(version: bigint): Record<string, string> {
    const entries = new Map<string, string>();
    const upTo = [...this.#changes].filter(([changed]) => changed <= version);
    for (const [, change] of upTo.sort(([one], [two]) => Number(one - two))) {
      change(entries);
    }
    return inOrder(entries);
  }
}

function inOrder(entries: Entries): Record<string, string> {
  const sorted = [...entries].sort(([one], [two]) => Buffer.compare(Buffer.from(one), Buffer.from(two)));
  return Object.fromEntries(sorted);
}

const keys = ["log", "log/\u{10FFFF}", "é", "a%", "zz"];
const largeKeys = ["large", "large-2", "larger"];

/** Changes entries, one after the other, in an order that the seed decides. */
async function change(at: Worker, seed: number, history: History): Promise<void> {
  for (let step = 0; step < 60; step++) {
    const isLarge = (step * 3 + seed) % 7 === 0;
    const choices = isLarge ? largeKeys : keys;
    const key = choices[(step * 7 + seed * 3) % choices.length] ?? "";
    const text = `${seed}.${step},`;
    const kind = (step * 5 + seed) % 6;
    if (kind === 0) {
      const version = await at.delete(key);
      if (version > 0n) {
        history.note(version, (entries) => entries.delete(key));
      }
    } else if (kind === 1) {
      const value = isLarge ? text.repeat(100_000) : text;
      history.note(await at.set(key, value), (entries) => entries.set(key, value));
    } else if (kind === 2) {
      const { version, value } = await at.increment("count");
      history.note(version, (entries) => entries.set("count", `${value}`));
    } else {
      const { version } = await at.append(key, text);
      history.note(version, (entries) => entries.set(key, (entries.get(key) ?? "") + text));
    }
  }
}

test("claims, lists and streams show one moment each, whoever changes what meanwhile, at any server", async () => {
  const leaseId = await openPad(tenant, {}, { sizeBytes: 33_554_432n });
  const worker = new Worker(leasehold, apiKey, leaseId);
  const elsewhere = new Worker(other, apiKey, leaseId);
  const history = new History();
  let isDone = false;
  const changing = Promise.all([change(worker, 1, history), change(elsewhere, 2, history), change(worker, 3, history)]);
  const done = changing.finally(() => {
    isDone = true;
  });

  const token = (await tenant.handoffs.issueHandoff({ leaseId, maxClaims: 100 })).claimToken;
  const claims: { claimId: string; body: Promise<Buffer>; resumed: Promise<Buffer>; offset: number }[] = [];
  const claimAll = async () => {
    while (!isDone) {
      const claim = await redeemer.redeem("native", { token });
      const begun = await claim.read(Math.min(10, claim.contentBytes));
      await worker.get("count").catch(() => undefined);
      const body = claim.readRest().then((rest) => Buffer.concat([begun, rest]));
      const offset = Math.floor(claim.contentBytes / 2);
      const resumed = body.then(
        async () => (await redeemer.take("native", { token, claimId: claim.claimId, offset })).body,
      );
      claims.push({ claimId: claim.claimId, body, resumed, offset });
      await resumed;
    }
  };

  const pages: { version: bigint; entries: Record<string, string> }[] = [];
  const listAll = async () => {
    while (!isDone) {
      const page = await elsewhere.pads.listEntries({ leaseId, prefix: "log", includeValues: true });
      const entries = page.entries.map(({ key, value }): [string, string] => [key, Buffer.from(value).toString()]);
      pages.push({ version: page.version, entries: Object.fromEntries(entries) });
    }
  };

  const moments: { version: bigint; entries: Record<string, string> }[] = [];
  let replica = new Replica(apiKey, leasehold, "native", { leaseId });
  const watchAll = async () => {
    while (!isDone) {
      for (let message = 0; message < 10 && !isDone; message++) {
        const { caughtUpVersion } = await replica.next();
        if (caughtUpVersion > 0n) {
          moments.push({ version: caughtUpVersion, entries: inOrder(replica.entries) });
        }
      }
      replica = replica.resume(moments.length % 2 === 0 ? other : leasehold, "native", { leaseId });
    }
  };

  const gathering = new EntryGathering(database, leasehold.core.seals);
  let gathered = 0;
  const gatherAll = async () => {
    while (!isDone) {
      for (const key of [...keys, ...largeKeys]) {
        gathered += (await gathering.gather(tenant.ownerId, leaseUuid(leaseId), key)) ? 1 : 0;
      }
    }
  };

  await Promise.all([done, claimAll(), listAll(), watchAll(), gatherAll()]);
  const last = await worker.set("end", "x");
  history.note(last, (entries) => entries.set("end", "x"));
  using finished = await replica.until(last);
  expect(inOrder(finished.entries)).toEqual(history.at(last));
  expect(inOrder(new Map(Object.entries(await elsewhere.list())))).toEqual(history.at(last));
  for (const { version, entries } of moments) {
    expect(entries).toEqual(history.at(version));
  }
  for (const { version, entries } of pages) {
    const there = Object.entries(history.at(version)).filter(([key]) => key.startsWith("log"));
    expect(entries).toEqual(Object.fromEntries(there));
  }
  for (const { claimId, body, resumed, offset } of claims) {
    const [claim] = await query<{ content_version: bigint }>(
      database,
      "select content_version from claim where claim_id = $1",
      [claimUuid(claimId)],
    );
    const whole = Object.values(history.at(claim?.content_version ?? 0n)).join("");
    expect((await body).toString() === whole, claimId).toBe(true);
    expect((await resumed).toString() === whole.slice(offset), claimId).toBe(true);
    await redeemer.confirm("native", token, claimId);
  }
  expect(Math.min(claims.length, pages.length, moments.length, gathered)).toBeGreaterThan(3);
  await leasehold.sweep();
  expect(await rowsOf(database, leaseId)).toMatchObject({ scratchpad_kept: 0 });
});
