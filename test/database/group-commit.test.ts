/** Design 10: one statement serves the callers who meet, each has its own outcome, and a failure is told truthfully. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Again, again, GroupCommit, type GroupCommitOptions } from "../../src/database/group-commit.ts";
import { LeaseholdError } from "../../src/errors/leasehold-error.ts";

/** A `serve` whose batches are answered when the test says so, and what it was asked. */
class Statements {
  readonly batches: (readonly string[])[] = [];
  readonly #answers: PromiseWithResolvers<readonly (string | Again)[]>[] = [];
  readonly #begun: PromiseWithResolvers<void>[] = [];

  readonly serve: GroupCommitOptions<string, string>["serve"] = async (_, items) => {
    const answer = Promise.withResolvers<readonly (string | Again)[]>();
    this.#answers.push(answer);
    this.batches.push(items);
    this.#begunAt(this.batches.length - 1).resolve();
    return await answer.promise;
  };

  /** Resolves once the batch of this number has been sent. */
  async begun(batch: number): Promise<void> {
    await this.#begunAt(batch).promise;
  }

  /** Answers the batch of this number, once it has been sent. */
  async answer(batch: number, outcomes: readonly (string | Again)[]): Promise<void> {
    await this.begun(batch);
    this.#answers[batch]?.resolve(outcomes);
  }

  async fail(batch: number, error: unknown): Promise<void> {
    await this.begun(batch);
    this.#answers[batch]?.reject(error);
  }

  #begunAt(batch: number): PromiseWithResolvers<void> {
    const begun = this.#begun[batch] ?? Promise.withResolvers<void>();
    this.#begun[batch] = begun;
    return begun;
  }
}

const unavailable = new LeaseholdError("DATABASE_UNAVAILABLE", "away");
const unknown = new LeaseholdError("OUTCOME_UNKNOWN", "lost", { cause: new Error("the connection broke") });

test("a lone caller is served at once, with nobody waited for", () => {
  const statements = new Statements();
  void new GroupCommit({ serve: statements.serve }).submit("key", "a");
  expect(statements.batches).toEqual([["a"]]);
});

test("what arrives while a statement is in flight goes together in the next one, in order of arrival, at most a batch", async () => {
  const statements = new Statements();
  const commits = new GroupCommit({ serve: statements.serve, maxBatch: 2 });
  const outcomes = ["a", "b", "c", "d"].map((item) => commits.submit("key", item));
  expect(statements.batches).toEqual([["a"]]);
  await statements.answer(0, ["A"]);
  await statements.answer(1, ["B", "C"]);
  await statements.answer(2, ["D"]);
  expect(await Promise.all(outcomes)).toEqual(["A", "B", "C", "D"]);
  expect(statements.batches).toEqual([["a"], ["b", "c"], ["d"]]);
});

test("of two items that change one thing the second goes in the next statement, and lets others pass", async () => {
  const statements = new Statements();
  const commits = new GroupCommit({ serve: statements.serve, thingOf: (item) => item.charAt(0) });
  const outcomes = ["z", "a1", "a2", "b1", "a3"].map((item) => commits.submit("key", item));
  await statements.answer(0, ["Z"]);
  await statements.answer(1, ["A1", "B1"]);
  await statements.answer(2, ["A2"]);
  await statements.answer(3, ["A3"]);
  expect(await Promise.all(outcomes)).toEqual(["Z", "A1", "A2", "B1", "A3"]);
  expect(statements.batches).toEqual([["z"], ["a1", "b1"], ["a2"], ["a3"]]);
});

test("a statement carries no more than its weight, an item over it goes alone, and none overtakes another", async () => {
  const statements = new Statements();
  const commits = new GroupCommit({ serve: statements.serve, maxWeight: 4, weigh: (item) => item.length });
  const outcomes = ["z", "aa", "bb", "c", "dddddd", "e", "f"].map((item) => commits.submit("key", item));
  await statements.answer(0, ["Z"]);
  await statements.answer(1, ["AA", "BB"]);
  await statements.answer(2, ["C"]);
  await statements.answer(3, ["DDDDDD"]);
  await statements.answer(4, ["E", "F"]);
  expect(await Promise.all(outcomes)).toEqual(["Z", "AA", "BB", "C", "DDDDDD", "E", "F"]);
  expect(statements.batches).toEqual([["z"], ["aa", "bb"], ["c"], ["dddddd"], ["e", "f"]]);
});

test("as many may wait for one key as there are callers", async () => {
  const commits = new GroupCommit<number, number>({
    maxBatch: 100_000,
    serve: async (_, items) => items.map((item) => item * 2),
  });
  const outcomes = await Promise.all(Array.from({ length: 300_000 }, (_, item) => commits.submit("key", item)));
  expect(outcomes.at(-1)).toBe(599_998);
});

test("callers who have just been answered can be in the next batch", async () => {
  const statements = new Statements();
  const commits = new GroupCommit({ serve: statements.serve });
  const again = commits.submit("key", "a").then(() => commits.submit("key", "a again"));
  const other = commits.submit("key", "b");
  await statements.answer(0, ["A"]);
  await statements.answer(1, ["B", "A again"]);
  expect(await Promise.all([again, other])).toEqual(["A again", "B"]);
  expect(statements.batches).toEqual([["a"], ["b", "a again"]]);
});

test("keys do not wait for each other", async () => {
  const statements = new Statements();
  const commits = new GroupCommit({ serve: statements.serve });
  void commits.submit("stuck", "a");
  const other = commits.submit("free", "b");
  await statements.answer(1, ["B"]);
  expect(await other).toBe("B");
});

test("an item that could not be judged is asked again before what came later", async () => {
  const statements = new Statements();
  const commits = new GroupCommit({ serve: statements.serve });
  const outcomes = ["a", "b", "c"].map((item) => commits.submit("key", item));
  await statements.answer(0, ["A"]);
  await statements.begun(1);
  const late = commits.submit("key", "d");
  await statements.answer(1, ["B", again]);
  await statements.answer(2, ["C", "D"]);
  expect(await Promise.all([...outcomes, late])).toEqual(["A", "B", "C", "D"]);
  expect(statements.batches).toEqual([["a"], ["b", "c"], ["c", "d"]]);
});

test("a batch of which nothing is judged ends in a failure, and not in a loop", async () => {
  const commits = new GroupCommit<string, string>({ serve: async (_, items) => items.map(() => again) });
  const outcomes = ["a", "b", "c"].map((item) => commits.submit("key", item));
  const results = await Promise.allSettled(outcomes);
  expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
});

test("a poisoned item fails alone, and every other item of its batch has its outcome", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.boolean(), { minLength: 1, maxLength: 40 }), async (poisoned) => {
      const commits = new GroupCommit<number, number>({
        serve: async (_, items) => {
          if (items.some((item) => poisoned[item])) {
            throw Object.assign(new Error("invalid input"), { code: "22P02" });
          }
          return items.map((item) => item * 2);
        },
      });
      const results = await Promise.allSettled(poisoned.map((_, item) => commits.submit("key", item)));
      results.forEach((result, item) => {
        expect(result.status).toBe(poisoned[item] ? "rejected" : "fulfilled");
        expect(result.status === "fulfilled" ? result.value : item * 2).toBe(item * 2);
      });
    }),
    { includeErrorInReport: true },
  );
});

test.each([
  ["the database was away", unavailable],
  ["the outcome is unknown", unknown],
])("when %s, a batch is not sent again, in whole or in parts", async (_, error) => {
  const statements = new Statements();
  const commits = new GroupCommit({ serve: statements.serve });
  const results = Promise.allSettled(["a", "b", "c"].map((item) => commits.submit("key", item)));
  await statements.answer(0, ["A"]);
  await statements.fail(1, error);
  expect(await results).toEqual([
    { status: "fulfilled", value: "A" },
    { status: "rejected", reason: error },
    { status: "rejected", reason: error },
  ]);
  expect(statements.batches).toEqual([["a"], ["b", "c"]]);
});

test("an unknown outcome is UNAVAILABLE to whoever has a request_id, and unknown to the others of the batch", async () => {
  const statements = new Statements();
  const commits = new GroupCommit({ serve: statements.serve, isRepeatable: (item) => item.startsWith("repeatable") });
  const outcomes = Promise.allSettled(["first", "repeatable", "once"].map((item) => commits.submit("key", item)));
  await statements.answer(0, ["done"]);
  await statements.fail(1, unknown);
  expect(await outcomes).toMatchObject([
    { status: "fulfilled" },
    { reason: { reason: "DATABASE_UNAVAILABLE", retryAfterMs: 500, cause: unknown.cause } },
    { reason: { reason: "OUTCOME_UNKNOWN" } },
  ]);
});

test("a key is served again after its batch failed", async () => {
  const statements = new Statements();
  const commits = new GroupCommit({ serve: statements.serve });
  const failing = commits.submit("key", "a");
  await statements.fail(0, unavailable);
  await expect(failing).rejects.toBe(unavailable);
  const next = commits.submit("key", "b");
  await statements.answer(1, ["B"]);
  expect(await next).toBe("B");
});
