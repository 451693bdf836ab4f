import { randomUUID } from "node:crypto";
import type { RunnableConfig } from "@langchain/core/runnables";
import { type BaseCheckpointSaver, INTERRUPT, MemorySaver, TASKS } from "@langchain/langgraph-checkpoint";
import fc from "fast-check";
import { expect, test } from "vitest";
import { LeaseholdSaver } from "../../../integrations/langgraph/leasehold-saver.ts";
import { TestLeasehold } from "../../support/test-leasehold.ts";
import { configOf, listed } from "./plain-thread.ts";

const leasehold = await TestLeasehold.start();
const { apiKey } = await leasehold.account(1_000_000_000n);

/** A graph, a subgraph that remembers, one that runs as a task, and one that runs as a task of the subgraph. */
const namespaces = ["", "sub", "node:task", "sub|node:task"] as const;
/** Those that a run without a checkpoint_id may go on from at any time. */
const lasting = ["", "sub"] as const;

const place = { namespace: fc.constantFrom(...namespaces), id: fc.integer({ min: 1, max: 6 }) };
const change = fc.oneof(
  fc.record({ ...place, kind: fc.constant("put"), parent: fc.option(fc.integer({ min: 1, max: 6 })) }),
  fc.record({
    ...place,
    kind: fc.constant("writes"),
    task: fc.constantFrom("a", "b"),
    path: fc.constantFrom("", "~1", "~2"),
    channels: fc.array(fc.constantFrom("value", "other", TASKS, INTERRUPT), { minLength: 1, maxLength: 3 }),
  }),
);
type Change = typeof change extends fc.Arbitrary<infer One> ? One : never;

test("whatever is put, in whatever order, the saver tells what LangGraph's own saver tells", { timeout: 120_000 }, () =>
  fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 16 }), async (changes) => {
      const thread = randomUUID();
      const [memory, whole, shortest] = [new MemorySaver(), saver(100), saver(1)];
      for (const [index, one] of changes.entries()) {
        await make(memory, one, index, `${thread}-100`);
        await make(whole, one, index, `${thread}-100`);
        await make(shortest, one, index, `${thread}-1`);
      }
      expect(await told(saver(100), `${thread}-100`)).toEqual(await told(memory, `${thread}-100`));
      for (const namespace of lasting) {
        const resumed = await saver(1).getTuple(configOf(`${thread}-1`, namespace));
        const expected = await memory.getTuple(configOf(`${thread}-100`, namespace));
        expect(seen(resumed)).toEqual(seen(expected));
      }
    }),
    { numRuns: 20 },
  ),
);

function saver(retainedVersions: number): LeaseholdSaver {
  return new LeaseholdSaver({ transport: leasehold.transport("native", apiKey), retainedVersions });
}

async function make(saver: BaseCheckpointSaver, one: Change, index: number, thread: string): Promise<void> {
  const config = configOf(thread, one.namespace);
  const at = (id: number | null): RunnableConfig =>
    id === null ? config : { configurable: { ...config.configurable, checkpoint_id: `id-${id}` } };
  if (one.kind === "put") {
    const values = { value: `value ${index}` };
    const versions = { value: index + 1 };
    const checkpoint = { v: 4, id: `id-${one.id}`, ts: "", channel_values: values, channel_versions: versions };
    const metadata = { source: "loop", step: index, parents: {} } as const;
    await saver.put(at(one.parent), { ...checkpoint, versions_seen: {} }, metadata, versions);
  } else {
    const writes = one.channels.map((channel, position): [string, string] => [channel, `write ${index} ${position}`]);
    await saver.putWrites(at(one.id), writes, one.task, one.path);
  }
}

/** All that a saver tells of a thread. */
async function told(saver: BaseCheckpointSaver, thread: string) {
  const all = await listed(saver, { configurable: { thread_id: thread } });
  const latest = await Promise.all(namespaces.map((namespace) => saver.getTuple(configOf(thread, namespace))));
  const keyed = all.map((tuple) => [JSON.stringify(tuple.config), seen(tuple)] as const);
  return { all: Object.fromEntries(keyed), latest: latest.map(seen) };
}

function seen(tuple: Awaited<ReturnType<BaseCheckpointSaver["getTuple"]>>) {
  const { checkpoint, metadata, parentConfig, pendingWrites } = tuple ?? {};
  return { checkpoint, metadata, parentId: parentConfig?.configurable?.checkpoint_id, pendingWrites };
}
