/** A watcher gets the current version and each newer one, from any server, and costs the database nothing while it waits. */
import { describe, expect, test } from "vitest";
import type { Checkpoint, WatchCheckpointResponse } from "#gen/leasehold/v1/checkpoint_pb.js";
import { seenReason } from "../server/seen-error.ts";
import { callsGathered } from "../support/calls-in-flight.ts";
import { commitsInSixSeconds } from "../support/commits-in-six-seconds.ts";
import { doors, type RpcDoor, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { checkpointOf, pushedOutWhileRead, uploadOf, Workflows } from "./workflow.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const hasty = await TestLeasehold.start({
  beside: leasehold,
  settings: { LEASEHOLD_STALL_SECONDS: "1", LEASEHOLD_CALL_DEADLINE_SECONDS: "1" },
});
const tenant = await Tenant.open(leasehold, 1_000_000_000n);
const here = new Workflows(tenant);
const there = here.at(other);
const { database } = leasehold;

/** A watcher that asks for one version at a time. */
class Watcher implements Disposable {
  readonly #controller = new AbortController();
  readonly #messages: AsyncIterator<WatchCheckpointResponse>;

  constructor(at: Workflows, door: RpcDoor, request: { leaseId?: string; workflowId?: string; afterVersion?: bigint }) {
    const options = { signal: this.#controller.signal };
    this.#messages = at.door(door).watchCheckpoint(request, options)[Symbol.asyncIterator]();
  }

  async next(): Promise<Checkpoint> {
    const { value, done } = await this.#messages.next();
    if (done === true) {
      throw new Error("a watch ended by itself");
    }
    return required((value as WatchCheckpointResponse).checkpoint);
  }

  async text(): Promise<string> {
    const { version, body } = await this.next();
    return `${version} ${Buffer.from(body).toString()}`;
  }

  [Symbol.dispose](): void {
    this.#controller.abort();
  }
}

describe.each(doors)("through the %s door", (door) => {
  test("the current version comes at once, and then each newer one, put at this server or another", async () => {
    const { leaseId } = await here.begin();
    await here.put(leaseId, "a");
    await here.put(leaseId, "b");
    using watcher = new Watcher(here, door, { leaseId });
    expect(await watcher.text()).toBe("2 b");
    const next = watcher.text();
    await here.put(leaseId, "c");
    expect(await next).toBe("3 c");
    const after = watcher.text();
    await there.put(leaseId, "d");
    expect(await after).toBe("4 d");
  });

  test("a watcher of a lease without versions gets the first, and one that has seen some gets those after", async () => {
    const lease = await here.begin();
    const { leaseId } = lease;
    using first = new Watcher(here, door, { workflowId: checkpointOf(lease).workflowId });
    const coming = first.text();
    await there.put(leaseId, "a");
    expect(await coming).toBe("1 a");
    for (const body of ["b", "c"]) {
      await here.put(leaseId, body);
    }
    using late = new Watcher(here, door, { leaseId, afterVersion: 1n });
    expect([await late.text(), await late.text()]).toEqual(["2 b", "3 c"]);
  });

  test("a slow watcher misses what was pushed out, and never the latest", async () => {
    const { leaseId } = await here.begin({ retainedVersions: 2 });
    await here.put(leaseId, "1");
    using watcher = new Watcher(here, door, { leaseId, afterVersion: 1n });
    for (let version = 2; version <= 9; version++) {
      await there.put(leaseId, `${version}`);
    }
    const seen: string[] = [];
    do {
      seen.push(await watcher.text());
    } while (seen.at(-1) !== "9 9");
    const versions = seen.map((text) => Number(text.split(" ")[0]));
    expect(versions).toEqual([...new Set(versions)].sort((a, b) => a - b));
  });

  test("outlasts the deadline of calls and the stall time while nothing happens", async () => {
    const { leaseId } = await here.begin();
    await here.put(leaseId, "before");
    using watcher = new Watcher(here.at(hasty), door, { leaseId });
    expect(await watcher.text()).toBe("1 before");
    const next = watcher.text();
    // An upload that moves nothing is cut after the stall time, which is as long as the deadline: twice that is waited.
    for (let time = 0; time < 2; time++) {
      expect(await seenReason(here.at(hasty).upload("native", neverEnding(leaseId)))).toBe("STALLED");
    }
    await here.put(leaseId, "after");
    expect(await next).toBe("2 after");
  });

  test.each([
    ["deleted at another server", (leaseId: string) => there.leases.deleteLease({ leaseId }), "LEASE_ENDED"],
    ["over, with the sweeper stopped", (leaseId: string) => tenant.age(leaseId, 3_600), "LEASE_ENDED"],
  ])("is cut when its lease is %s", async (_, end, reason) => {
    const { leaseId } = await here.begin();
    await here.put(leaseId, "x");
    using watcher = new Watcher(here, door, { leaseId });
    await watcher.next();
    const cut = seenReason(watcher.next());
    await end(leaseId);
    expect(await cut).toBe(reason);
  });

  test("is cut when its key is revoked", async () => {
    const { leaseId } = await here.begin();
    await here.put(leaseId, "x");
    const { key, secret } = await keyOf(tenant);
    using watcher = new Watcher(new Workflows(tenant.by(secret)), door, { leaseId });
    await watcher.next();
    const cut = seenReason(watcher.next());
    await tenant.accounts.revokeApiKey({ keyId: key });
    expect(await cut).toBe("CREDENTIAL_INVALID");
  });
});

test("a server that drains does not wait for its watchers", async () => {
  const drained = await TestLeasehold.start({ beside: leasehold });
  const { leaseId } = await here.begin();
  await here.put(leaseId, "x");
  using watcher = new Watcher(here.at(drained), "connect", { leaseId });
  await watcher.next();
  const cut = seenReason(watcher.next());
  await drained.server.drain(600_000);
  expect(await cut).toBe("DRAINING");
});

test("a body over the message limit comes without it, and says how large it is", async () => {
  const { leaseId } = await here.begin({}, { sizeBytes: 10_000_000n });
  await here.upload("native", uploadOf({ leaseId }, Buffer.alloc(5_000_000), 1_048_576));
  using watcher = new Watcher(here, "native", { leaseId });
  expect(await watcher.next()).toMatchObject({ version: 1n, bodyBytes: 5_000_000n, body: new Uint8Array() });
});

test("a version that is pushed out while its file is read is left out, and the watch goes on", async () => {
  const { leaseId } = await here.begin({ retainedVersions: 1 });
  using watcher = new Watcher(here, "native", { leaseId });
  const next = watcher.text();
  pushedOutWhileRead(leasehold, () => there.put(leaseId, "after"));
  await here.put(leaseId, Buffer.alloc(300_000));
  expect(await next).toBe("2 after");
});

test("1,000 idle watchers cost the database as many queries a second as 10 do", { timeout: 60_000 }, async () => {
  // A database of its own, so that nobody else's queries are counted, and few connections: each tells what it has done
  // when it does the next thing.
  const idle = await TestLeasehold.start({ settings: { LEASEHOLD_DATABASE_POOL_SIZE: "2" } });
  const workflows = new Workflows(await Tenant.open(idle, 1_000_000_000n));
  const leases = await Promise.all(Array.from({ length: 50 }, () => workflows.begin()));
  const controller = new AbortController();
  const { signal } = controller;
  const open = async (from: number, count: number) => {
    for (let index = from; index < count; index++) {
      const { leaseId } = required(leases[index % leases.length]);
      // A connection carries 256 streams.
      const { nativeCheckpoints } = new Workflows(workflows.tenant);
      const watched = nativeCheckpoints.watchCheckpoint({ leaseId }, { signal })[Symbol.asyncIterator]();
      watched.next().catch(() => undefined);
    }
    await callsGathered(idle, count);
  };
  await open(0, 10);
  const few = await commitsInSixSeconds(database, idle);
  await open(10, 1_000);
  const many = await commitsInSixSeconds(database, idle);
  expect(few).toBeGreaterThan(0);
  expect(many).toBeLessThanOrEqual(few + 10);
  controller.abort();
});

test("a hint that is lost is made up for by looking", async () => {
  const { leaseId } = await here.begin();
  await here.put(leaseId, "a");
  using watcher = new Watcher(here, "native", { leaseId });
  await watcher.next();
  const next = watcher.text();
  // As a put at a server whose hint never arrives leaves it.
  await query(
    database,
    `with moved as (update lease set content_version = 2 where lease_id = (select lease_id from checkpoint_workflow where workflow_id = $1) returning lease_id)
    update checkpoint_version v set version = 2, slot = 2 from moved where v.lease_id = moved.lease_id`,
    [(await here.get(leaseId)).workflowId],
  );
  expect(await next).toBe("2 a");
});

async function* neverEnding(leaseId: string) {
  yield { put: { leaseId }, data: Buffer.from("x") };
  await new Promise(() => undefined);
}

async function keyOf({ accounts }: Tenant): Promise<{ key: string; secret: string }> {
  const { key, apiKey } = await accounts.createApiKey({ name: "to be revoked", scopes: [1, 2] });
  return { key: required(key).keyId, secret: apiKey };
}
