/** LangGraph's own conformance suite for checkpoint savers, all of it, over both doors of a real server. */
import { deltaChannelHistoryTests, validate } from "@langchain/langgraph-checkpoint-validation";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { LeaseholdSaver } from "../../../integrations/langgraph/leasehold-saver.ts";
import { TestLeasehold } from "../../support/test-leasehold.ts";

// The suite finds its test functions where Jest puts them.
Object.assign(globalThis, { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it });

const leasehold = await TestLeasehold.start();

describe.each(["connect", "native"] as const)("over the %s door", (door) => {
  const initializer = {
    checkpointerName: "LeaseholdSaver",
    /** Each has an account of its own, as the suite wants them to see nothing of each other. */
    async createCheckpointer() {
      const { apiKey } = await leasehold.account();
      return new LeaseholdSaver({ transport: leasehold.transport(door, apiKey) });
    },
  };
  validate(initializer);
  // What the suite leaves to those who implement it themselves, as this saver does.
  deltaChannelHistoryTests(initializer);
});
