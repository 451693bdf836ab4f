/** A graph that counts, a step at a time, for tests of what a thread keeps. */
import { Annotation, END, START, StateGraph } from "@langchain/langgraph";
import type { BaseCheckpointSaver } from "@langchain/langgraph-checkpoint";

const Steps = Annotation.Root({
  steps: Annotation<string[]>({ reducer: (before, after) => [...before, ...after], default: () => [] }),
  last: Annotation<number>({ reducer: (_, after) => after, default: () => 0 }),
});

/** Runs from step 1 to `last`. `onStep` is called as a step begins, and what it returns is kept as having done it. */
export function stepGraph(checkpointer: BaseCheckpointSaver, onStep: (step: number) => Promise<string>) {
  return new StateGraph(Steps)
    .addNode("step", async ({ steps }) => ({ steps: [await onStep(steps.length + 1)] }))
    .addEdge(START, "step")
    .addConditionalEdges("step", ({ steps, last }) => (steps.length < last ? "step" : END))
    .compile({ checkpointer });
}
