/** A worker in a process of its own, for tests that kill it: goes on with a thread and tells of each step it begins. */
import { createConnectTransport } from "@connectrpc/connect-node";
import { LeaseholdSaver } from "../../../integrations/langgraph/leasehold-saver.ts";
import { stepGraph } from "./step-graph.ts";

const [url = "", apiKey = "", threadId = "", stuckAt = "", last = ""] = process.argv.slice(2);

const transport = createConnectTransport({
  baseUrl: url,
  httpVersion: "1.1",
  interceptors: [
    (next) => (request) => {
      request.header.set("authorization", `Bearer ${apiKey}`);
      return next(request);
    },
  ],
});

// Keeps a worker that is stuck alive until it is killed, and ends it if the test is.
process.on("disconnect", () => process.exit(1));

const graph = stepGraph(new LeaseholdSaver({ transport }), async (step) => {
  process.send?.({ step });
  if (String(step) === stuckAt) {
    await new Promise(() => undefined);
  }
  return `${step} by the first`;
});
await graph.invoke({ last: Number(last) }, { configurable: { thread_id: threadId }, durability: "sync" });
