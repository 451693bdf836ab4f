import {
  Annotation,
  Command,
  DeltaChannel,
  END,
  interrupt,
  MemorySaver,
  START,
  StateGraph,
} from "@langchain/langgraph";
import type { BaseCheckpointSaver } from "@langchain/langgraph-checkpoint";
import { expect, test } from "vitest";
import { CheckpointService } from "#gen/leasehold/v1/checkpoint_pb.js";
import { LeaseholdSaver } from "../../../integrations/langgraph/leasehold-saver.ts";
import { decodeThread } from "../../../integrations/langgraph/thread-body.ts";
import { TestLeasehold } from "../../support/test-leasehold.ts";
import { configOf, listed } from "./plain-thread.ts";

const leasehold = await TestLeasehold.start();
const { apiKey } = await leasehold.account(1_000_000_000n);

/** Each is a worker of its own, which knows nothing but what the server keeps. */
function saver(retainedVersions = 10): LeaseholdSaver {
  return new LeaseholdSaver({ transport: leasehold.transport("native", apiKey), retainedVersions });
}

/** The namespaces that a thread's latest version holds checkpoints of. */
async function namespacesOf(thread: string): Promise<string[]> {
  const checkpoints = leasehold.client(CheckpointService, apiKey);
  const { checkpoint } = await checkpoints.getCheckpoint({ workflowId: `langgraph-${thread}` });
  const { records } = decodeThread(checkpoint?.body ?? new Uint8Array());
  return [...new Set(records.map(({ namespace }) => namespace))];
}

const Answers = Annotation.Root({
  answers: Annotation<string[]>({ reducer: (before, after) => [...before, ...after], default: () => [] }),
});

/** Asks twice in a subgraph, then a last time in the graph around it. */
function askingGraph(checkpointer: BaseCheckpointSaver) {
  const ask = (question: string) => () => ({ answers: [String(interrupt(question))] });
  const inner = new StateGraph(Answers)
    .addNode("one", ask("one?"))
    .addNode("two", ask("two?"))
    .addEdge(START, "one")
    .addEdge("one", "two")
    .compile();
  return new StateGraph(Answers)
    .addNode("inner", async () => ({ answers: (await inner.invoke({ answers: [] })).answers }))
    .addNode("three", ask("three?"))
    .addEdge(START, "inner")
    .addEdge("inner", "three")
    .compile({ checkpointer });
}

test("a subgraph that waits for an answer is gone on with by another worker, and leaves the state when it is done", async () => {
  const config = configOf("asked");
  await askingGraph(saver()).invoke({ answers: [] }, config);
  for (const answer of ["first", "second"]) {
    expect((await namespacesOf("asked")).length).toBe(2);
    await askingGraph(saver()).invoke(new Command({ resume: answer }), config);
  }
  expect(await namespacesOf("asked")).toEqual([""]);
  const { answers } = await askingGraph(saver()).invoke(new Command({ resume: "third" }), config);
  expect(answers).toEqual(["first", "second", "third"]);
});

test("what a run left behind is gone back to as with LangGraph's own saver, while its versions are kept", async () => {
  const inMemory = new MemorySaver();
  const expected = await goBack(() => inMemory);
  expect(await goBack(() => saver(100))).toEqual(expected);
});

/** Answers all, goes back to before the last question, answers that otherwise, and tells all that can be seen then. */
async function goBack(worker: () => BaseCheckpointSaver): Promise<unknown> {
  const config = configOf("gone-back");
  await askingGraph(worker()).invoke({ answers: [] }, config);
  for (const answer of ["first", "second", "third"]) {
    await askingGraph(worker()).invoke(new Command({ resume: answer }), config);
  }
  const history = await listed(worker(), config);
  const last = history.find(({ metadata }) => metadata?.step === 1);
  await askingGraph(worker()).invoke(null, last?.config);
  const again = await askingGraph(worker()).invoke(new Command({ resume: "other" }), config);
  const { values, next } = await askingGraph(worker()).getState(config);
  const inAll = await listed(worker(), { configurable: { thread_id: "gone-back" } });
  const seen = inAll.map(({ checkpoint, metadata, pendingWrites, config: { configurable } }) => ({
    isInner: configurable?.checkpoint_ns !== "",
    ...metadata,
    parents: undefined,
    answers: checkpoint.channel_values.answers,
    writes: pendingWrites?.map(([, channel]) => channel),
  }));
  const inOrder = (isInner: boolean) => seen.filter((checkpoint) => checkpoint.isInner === isInner);
  return { again, values, next, outer: inOrder(false), inner: inOrder(true) };
}

test("a channel made of its ancestors' writes is whole, although more steps made it than versions are kept", async () => {
  const config = configOf("delta");
  const graphOf = (checkpointer: LeaseholdSaver) => {
    const Log = Annotation.Root({
      log: () => new DeltaChannel<number[], number[]>((log, writes) => log.concat(...writes)),
      last: Annotation<number>(),
    });
    return new StateGraph(Log)
      .addNode("step", ({ log }) => ({ log: [log.length] }))
      .addEdge(START, "step")
      .addConditionalEdges("step", ({ log, last }) => (log.length < last ? "step" : END))
      .compile({ checkpointer });
  };
  await graphOf(saver(2)).invoke({ last: 12 }, config);
  const { log } = await graphOf(saver(2)).invoke({ last: 15 }, config);
  expect(log).toEqual(Array.from({ length: 15 }, (_, index) => index));
});
