import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { expect, test } from "vitest";
import {
  LeaseholdSaver,
  type LeaseholdSaverOptions,
  ThreadEndedError,
} from "../../../integrations/langgraph/leasehold-saver.ts";
import { Tenant } from "../../support/tenant.ts";
import { TestLeasehold } from "../../support/test-leasehold.ts";
import { checkpointOf, configOf, latestValue, listed, put, valuesIn } from "./plain-thread.ts";
import { stepGraph } from "./step-graph.ts";

const leasehold = await TestLeasehold.start();
const beside = await TestLeasehold.start({ beside: leasehold });
const tenant = await Tenant.open(leasehold, 1_000_000_000n);

test("a worker killed between two steps is carried on by another, and no finished step is done again", async () => {
  const thread = "killed-worker";
  const begun = await killedAtStep(thread, 4);
  expect(begun).toEqual([1, 2, 3, 4]);
  const resumed: number[] = [];
  const graph = stepGraph(saver(), async (step) => {
    resumed.push(step);
    return `${step} by the second`;
  });
  const { steps } = await graph.invoke(null, configOf(thread));
  expect(resumed).toEqual([4, 5, 6]);
  expect(steps).toEqual([
    ...[1, 2, 3].map((step) => `${step} by the first`),
    ...[4, 5, 6].map((step) => `${step} by the second`),
  ]);
});

test("two workers racing on one thread, at two servers, lose no checkpoint and no write of each other", async () => {
  const thread = "raced";
  const workers = [saver({ retainedVersions: 100 }), saver({ retainedVersions: 100 }, beside)];
  const rounds = Array.from({ length: 10 }, (_, index) => index);
  const races = workers.map(async (worker, who) => {
    let config = configOf(thread);
    for (const round of rounds) {
      config = await put(worker, config, `${who}.${round}`);
      await Promise.all(
        ["a", "b"].map((task) => worker.putWrites(config, [["value", `${who}.${round}${task}`]], task)),
      );
    }
  });
  await Promise.all(races);
  const kept = await listed(saver(), configOf(thread));
  const all = [0, 1].flatMap((who) => rounds.map((round) => `${who}.${round}`));
  expect(kept.map(({ checkpoint }) => checkpoint.channel_values.value).toSorted()).toEqual(all.toSorted());
  for (const { checkpoint, pendingWrites } of kept) {
    const value = checkpoint.channel_values.value;
    expect(pendingWrites).toEqual(["a", "b"].map((task) => [task, "value", `${value}${task}`]));
  }
  expect((await leasesOf(thread)).length).toBe(1);
});

test("a worker that was thought dead cannot write into the thread's next lease", async () => {
  const thread = "zombie";
  const zombie = saver();
  const first = await put(zombie, configOf(thread), "first");
  const [ended] = await leasesOf(thread);
  await tenant.age(ended?.leaseId ?? "", 8 * 24 * 3600);
  const heir = saver();
  expect(await heir.getTuple(configOf(thread))).toBeUndefined();
  await put(heir, configOf(thread), "anew");
  await expect(put(zombie, first, "second")).rejects.toThrow(ThreadEndedError);
  await expect(zombie.putWrites(first, [["value", "late"]], "task")).rejects.toThrow(ThreadEndedError);
  // Also not after it has seen the next lease, as a process that serves many runs will.
  expect(await latestValue(zombie, configOf(thread))).toBe("anew");
  await expect(put(zombie, first, "second")).rejects.toThrow(ThreadEndedError);
  expect(await valuesIn(heir, configOf(thread))).toEqual(["anew"]);
});

test("a run that outlives its lease fails, and the thread starts anew", async () => {
  const thread = "outlived";
  const worker = saver();
  const first = await put(worker, configOf(thread), "first");
  const [ended] = await leasesOf(thread);
  await tenant.age(ended?.leaseId ?? "", 8 * 24 * 3600);
  await expect(put(worker, first, "second")).rejects.toThrow(ThreadEndedError);
  expect(await valuesIn(worker, configOf(thread))).toEqual([]);
  await put(worker, configOf(thread), "anew");
  expect(await valuesIn(worker, configOf(thread))).toEqual(["anew"]);
});

test("older checkpoints are there as long as their versions, and the latest whatever comes after it", async () => {
  const thread = "bounded";
  const worker = saver({ retainedVersions: 3 });
  let config = configOf(thread);
  for (const value of [1, 2, 3, 4, 5]) {
    config = await put(worker, config, value);
  }
  // Version 5 holds checkpoint 5, and versions 3 and 4 are kept with the checkpoints that were the latest then.
  expect(await valuesIn(worker, configOf(thread))).toEqual([5, 4, 3]);
  // One at a time, each is a version of its own: what is older than the latest is pushed out by them.
  for (const task of ["a", "b", "c", "d"]) {
    await worker.putWrites(config, [["value", task]], task);
  }
  expect(await valuesIn(worker, configOf(thread))).toEqual([5]);
  const tuple = await saver().getTuple(configOf(thread));
  expect(tuple?.pendingWrites?.map(([task]) => task)).toEqual(["a", "b", "c", "d"]);
  expect(tuple?.parentConfig?.configurable?.checkpoint_id).toBeDefined();
  expect(await saver().getTuple(tuple?.parentConfig ?? {})).toBeUndefined();
});

test("writes that come together share a version, and push no more out than one would", async () => {
  const thread = "wide";
  const worker = saver();
  const config = await put(worker, await put(worker, configOf(thread), "before"), "wide");
  const tasks = Array.from({ length: 200 }, (_, index) => `task-${String(index).padStart(3, "0")}`);
  await Promise.all(tasks.map((task) => worker.putWrites(config, [["value", task]], task)));
  expect(await valuesIn(worker, configOf(thread))).toEqual(["wide", "before"]);
  expect((await worker.getTuple(config))?.pendingWrites).toEqual(tasks.map((task) => [task, "value", task]));
});

test("writes that come before their checkpoint are kept for it", async () => {
  const thread = "writes-first";
  const worker = saver();
  const first = await put(worker, configOf(thread), "first");
  const next = checkpointOf("second", 2);
  const config = { configurable: { ...first.configurable, checkpoint_id: next.id } };
  await worker.putWrites(config, [["value", "early"]], "task");
  expect(await latestValue(worker, configOf(thread))).toBe("first");
  await worker.put(first, next, { source: "loop", step: 1, parents: {} }, next.channel_versions);
  expect((await worker.getTuple(configOf(thread)))?.pendingWrites).toEqual([["task", "value", "early"]]);
});

test("a lost answer costs neither a second lease nor a second version", async () => {
  const thread = "lost-answers";
  const account = await Tenant.open(leasehold);
  const balance = await account.balanceMicros();
  const lost = new Set<string>();
  const transport = losingFirstAnswers(leasehold.transport("connect", account.account.apiKey), lost);
  const worker = new LeaseholdSaver({ transport });
  await put(worker, await put(worker, configOf(thread), "first"), "second");
  expect([...lost].toSorted()).toEqual(["CreateLease", "PutCheckpoint"]);
  const { leases } = await account.leases.listLeases({});
  expect(leases.map(({ details }) => details.case === "checkpoint" && details.value.latestVersion)).toEqual([2n]);
  expect(balance - (await account.balanceMicros())).toBe(leases[0]?.priceMicros);
});

test("a thread larger than one message is written and read back", async () => {
  const narrow = await TestLeasehold.start({ beside: leasehold, settings: { LEASEHOLD_MAX_MESSAGE_BYTES: "131072" } });
  for (const [size, server] of [
    [5_000_000, leasehold],
    [200_000, narrow],
  ] as const) {
    const thread = configOf(`large-${size}`);
    const values = ["a", "b", "c"].map((letter) => letter.repeat(size));
    const worker = saver({ sizeBytes: 24 * 1024 * 1024 }, server);
    await put(worker, await put(worker, await put(worker, thread, values[0]), values[1]), values[2]);
    const kept = await valuesIn(saver({}, server), thread);
    expect(kept.map((value) => values.indexOf(String(value)))).toEqual([2, 1, 0]);
  }
});

test("a thread that its lease has no room for is refused before the lease is paid for", async () => {
  const account = await Tenant.open(leasehold);
  const worker = saver({ sizeBytes: 64 * 1024 }, account);
  await expect(put(worker, configOf("too-large"), "x".repeat(4_000_000))).rejects.toThrow("sizeBytes 65536");
  expect(await account.leaseCount()).toBe(0n);
});

test("a thread that outgrows its lease fails with its size, and stays as it was", async () => {
  const thread = "outgrown";
  const worker = saver({ sizeBytes: 64 * 1024 });
  const first = await put(worker, configOf(thread), "small");
  await expect(put(worker, first, "x".repeat(100_000))).rejects.toThrow(/65,?536|larger/i);
  expect(await valuesIn(saver(), configOf(thread))).toEqual(["small"]);
});

test("a run that begins at an old checkpoint branches off there", async () => {
  const thread = "branched";
  const worker = saver();
  const first = await put(worker, configOf(thread), 1);
  const second = await put(worker, first, 2);
  const third = await put(worker, second, 3);
  await worker.putWrites(first, [["value", "again"]], "task");
  expect(await latestValue(worker, configOf(thread))).toBe(3);
  const branch = await put(worker, first, "1b");
  const tuple = await saver().getTuple(configOf(thread));
  expect(tuple?.config).toEqual(branch);
  expect(tuple?.parentConfig).toEqual(first);
  expect((await saver().getTuple(first))?.pendingWrites).toEqual([["task", "value", "again"]]);
  expect(await latestValue(saver(), third)).toBe(3);
});

test("threads of any id are kept apart, and found again by it", async () => {
  const account = await Tenant.open(leasehold);
  const of = (workflowPrefix?: string) => saver(workflowPrefix === undefined ? {} : { workflowPrefix }, account);
  const ids = ["1", "a/b", "a b", "ü", "x".repeat(300), "sha256.x", "b-1"];
  for (const id of ids) {
    await put(of(), configOf(id), id);
  }
  await put(of("langgraph-b-"), configOf("2"), "of another prefix");
  await put(of("other-"), configOf("1"), "of another prefix");
  const threads = await listed(of(), {});
  expect(threads.map(({ checkpoint }) => checkpoint.channel_values.value).toSorted()).toEqual(ids.toSorted());
  expect(threads.map(({ config }) => config.configurable?.thread_id).toSorted()).toEqual(ids.toSorted());
  // Both would be workflow_id langgraph-b-1.
  await expect(of("langgraph-b-").getTuple(configOf("1"))).rejects.toThrow(/use another prefix/);
  await expect(of("langgraph-b-").deleteThread("1")).rejects.toThrow(/use another prefix/);
  expect(await latestValue(of(), configOf("b-1"))).toBe("b-1");
});

test("a deleted thread's versions are gone, and its id free", async () => {
  const thread = "deleted";
  const worker = saver();
  const first = await put(worker, configOf(thread), "first");
  await worker.deleteThread(thread);
  expect(await leasesOf(thread)).toEqual([]);
  await expect(put(worker, first, "second")).rejects.toThrow(ThreadEndedError);
  await put(worker, configOf(thread), "anew");
  expect(await valuesIn(worker, configOf(thread))).toEqual(["anew"]);
  await worker.deleteThread("never there");
});

function saver(options: Partial<LeaseholdSaverOptions> = {}, at: TestLeasehold | Tenant = leasehold): LeaseholdSaver {
  const server = at instanceof Tenant ? at.leasehold : at;
  const { apiKey } = (at instanceof Tenant ? at : tenant).account;
  return new LeaseholdSaver({ transport: server.transport("connect", apiKey), ...options });
}

/** The steps that a worker begins, which is killed -9 in the one named. */
async function killedAtStep(thread: string, stuckAt: number): Promise<number[]> {
  const program = fileURLToPath(new URL("saver-worker.ts", import.meta.url));
  const args = [leasehold.httpUrl, tenant.account.apiKey, thread, String(stuckAt), "6"];
  const worker = fork(program, args, { execArgv: [] });
  const begun: number[] = [];
  while (begun.at(-1) !== stuckAt) {
    const [message] = (await once(worker, "message")) as [{ readonly step: number }];
    begun.push(message.step);
  }
  worker.kill("SIGKILL");
  expect(await once(worker, "exit")).toEqual([null, "SIGKILL"]);
  return begun;
}

/** The active leases of a thread. */
async function leasesOf(thread: string) {
  const { leases } = await tenant.leases.listLeases({ pageSize: 1000 });
  return leases.filter(
    ({ details }) => details.case === "checkpoint" && details.value.workflowId === `langgraph-${thread}`,
  );
}

/** A way on which the first answer to each RPC, given and sent, does not arrive. */
function losingFirstAnswers(transport: Transport, lost: Set<string>): Transport {
  return {
    async unary(...call) {
      const answer = await transport.unary(...call);
      const [{ name }] = call;
      if (!lost.has(name)) {
        lost.add(name);
        throw new ConnectError("the connection broke", Code.Unavailable);
      }
      return answer;
    },
    stream: (...call) => transport.stream(...call),
  };
}
