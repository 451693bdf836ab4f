/** What checkpoints are compared with: LangGraph's PostgresSaver with its defaults, in the process that calls it. */
import { randomBytes } from "node:crypto";
import { emptyCheckpoint, uuid6 } from "@langchain/langgraph-checkpoint";
import { PostgresSaver } from "@langchain/langgraph-checkpoint-postgres";
import { servePeer } from "./harness/serve-peer.ts";

/** The one channel of the graph's state, and its value of about 4 KiB: some messages, as an agent keeps. */
const channel = "messages";
const messages = Array.from({ length: 4 }, (_, place) => ({
  role: place % 2 === 0 ? "user" : "assistant",
  content: randomBytes(490).toString("hex"),
}));

/** A thread's latest checkpoint. */
interface Latest {
  readonly step: number;
  readonly checkpointId: string | undefined;
}

const latestByThread = new Map<string, Latest>();

const saver = PostgresSaver.fromConnString(process.env.DATABASE_URL ?? "");
await saver.setup();

const operations = {
  /** As a graph does after a step in which the channel changed. */
  async put(thread: string) {
    const latest = latestByThread.get(thread) ?? { step: 0, checkpointId: undefined };
    const step = latest.step + 1;
    const checkpoint = {
      ...emptyCheckpoint(),
      id: uuid6(step),
      channel_values: { [channel]: messages },
      channel_versions: { [channel]: step },
    };
    latestByThread.set(thread, { step, checkpointId: checkpoint.id });
    const parent = { configurable: { thread_id: thread, checkpoint_ns: "", checkpoint_id: latest.checkpointId } };
    await saver.put(parent, checkpoint, { source: "loop", step, parents: {} }, { [channel]: step });
    return checkpoint.id;
  },

  async getTuple(thread: string) {
    const tuple = await saver.getTuple({ configurable: { thread_id: thread, checkpoint_ns: "" } });
    const value = tuple?.checkpoint.channel_values[channel];
    if (!Array.isArray(value) || value.length !== messages.length) {
      throw new Error(`${thread} has another state than was put`);
    }
    return `${tuple?.metadata?.step}`;
  },

  async deleteThread(thread: string) {
    await saver.deleteThread(thread);
    latestByThread.delete(thread);
    return thread;
  },
};

export type PostgresSaverOperation = keyof typeof operations;

servePeer(operations, () => saver.end());
