/**
 * Replays every change of test/mutations.ts on a copy of the repository, and requires the test it names to fail.
 *
 * `npm run mutate -- WORD...` replays those that mention a word; `--write` writes test/promises.md.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { startEmbeddedPostgres } from "../src/database/embedded/start-embedded-postgres.ts";
import { type Mutation, mutations, promises } from "./mutations.ts";

const repository = fileURLToPath(new URL("..", import.meta.url));
const left = new Set(["node_modules", ".git", ".leasehold", "dist", "coverage"]);

/** What a test's report says of one test. */
interface TestOutcome {
  readonly fullName: string;
  readonly status: string;
  readonly failureMessages: readonly string[];
}

/** What became of one change. */
interface Replay {
  readonly mutation: Mutation;
  /** The first line that the test printed; undefined if it passed. */
  readonly printed: string | undefined;
}

const words = process.argv.slice(2).filter((word) => !word.startsWith("--"));
const chosen = mutations.filter((mutation) => words.every((word) => JSON.stringify(mutation).includes(word)));
const scratch = await mkdtemp(join(tmpdir(), "leasehold-mutate-"));
const postgres = await postgresForTests();
try {
  await copyRepository();
  await requireSound(chosen);
  const replays: Replay[] = [];
  for (const mutation of chosen) {
    const replay = await replayOne(mutation);
    replays.push(replay);
    console.info(`${replay.printed === undefined ? "SURVIVED" : "failed  "}  ${mutation.testFile}  ${mutation.test}`);
  }
  const survivors = replays.filter(({ printed }) => printed === undefined);
  console.info(`${replays.length - survivors.length} changes were noticed, ${survivors.length} were not`);
  if (process.argv.includes("--write")) {
    await writeFile(join(repository, "test/promises.md"), promisesPage(replays));
  }
  process.exitCode = survivors.length === 0 ? 0 : 1;
} finally {
  await postgres.stop();
  await rm(scratch, { recursive: true, force: true });
}

/** One Postgres for all runs: TEST_POSTGRES_URL, or one that is started here. */
async function postgresForTests(): Promise<{ readonly url: string; stop(): Promise<void> }> {
  const given = process.env.TEST_POSTGRES_URL;
  if (given !== undefined) {
    return { url: given, stop: async () => undefined };
  }
  // A folder of its own: the one beside it is closed to the user that Postgres runs as.
  const dataDir = await mkdtemp(join(tmpdir(), "leasehold-mutate-postgres-"));
  const started = await startEmbeddedPostgres({ dataDir, log: console.info });
  const stop = async () => {
    await started.stop();
    await rm(dataDir, { recursive: true, force: true });
  };
  return { url: started.url, stop };
}

async function copyRepository(): Promise<void> {
  const copy = join(scratch, "copy");
  const filter = (path: string) => !left.has(relative(repository, path));
  await cp(repository, copy, { recursive: true, filter });
  await symlink(join(repository, "node_modules"), join(copy, "node_modules"));
  const config = join(copy, "vitest.config.ts");
  const text = await readFile(config, "utf8");
  await writeFile(config, text.replace(/^\s*globalSetup:.*\n/m, ""));
}

/** Every change must fit, and every named test pass on the unchanged copy, or its failure would say nothing. */
async function requireSound(some: readonly Mutation[]): Promise<void> {
  const misfits: string[] = [];
  const seen = new Set<string>();
  for (const mutation of some) {
    const { file, from } = mutation;
    const text = JSON.stringify(mutation);
    if (seen.has(text)) {
      misfits.push(`${file} is changed in the same way twice for the same test: ${from}`);
    }
    seen.add(text);
    const places = (await readFile(join(scratch, "copy", file), "utf8")).split(from).length - 1;
    if (places !== 1) {
      misfits.push(`${file} holds ${places} times, and not once: ${from}`);
    }
  }
  const outcomes =
    misfits.length > 0 ? [] : await runTests([...new Set(some.map(({ testFile }) => testFile))], undefined);
  for (const { testFile, test } of misfits.length > 0 ? [] : some) {
    const named = outcomes.filter(({ fullName }) => fullName.includes(test));
    if (named.length === 0 || named.some(({ status }) => status === "failed")) {
      const why = named.flatMap(({ failureMessages }) => failureMessages).join("\n");
      misfits.push(`${testFile}: "${test}" must pass before it can be seen to fail\n${why}`);
    }
  }
  if (misfits.length > 0) {
    throw new Error(misfits.join("\n"));
  }
}

async function replayOne(mutation: Mutation): Promise<Replay> {
  const path = join(scratch, "copy", mutation.file);
  const text = await readFile(path, "utf8");
  await writeFile(
    path,
    text.replace(mutation.from, () => mutation.to),
  );
  try {
    const outcomes = await runTests([mutation.testFile], mutation.test);
    if (outcomes.every(({ status }) => status === "skipped" || status === "pending")) {
      throw new Error(`${mutation.testFile}: no test was run for "${mutation.test}"`);
    }
    const failed = outcomes.find(({ fullName, status }) => status === "failed" && fullName.includes(mutation.test));
    return { mutation, printed: failed && firstLine(failed.failureMessages[0] ?? "") };
  } finally {
    await writeFile(path, text);
  }
}

/** Runs test files, or the tests of them whose title contains a text. Tests that wait for what never comes are given up. */
async function runTests(files: readonly string[], title: string | undefined): Promise<TestOutcome[]> {
  const report = join(scratch, "report.json");
  await rm(report, { force: true });
  const only = title === undefined ? [] : ["--testNamePattern", patternOf(title), "--testTimeout", "20000"];
  const vitest = spawn(
    process.execPath,
    ["node_modules/vitest/vitest.mjs", "run", ...files, ...only, "--reporter=json", `--outputFile=${report}`],
    { cwd: join(scratch, "copy"), stdio: "ignore", env: { ...process.env, TEST_POSTGRES_URL: postgres.url } },
  );
  await once(vitest, "exit");
  const { testResults }: { testResults: { assertionResults: TestOutcome[]; message?: string; status: string }[] } =
    JSON.parse(await readFile(report, "utf8"));
  return testResults.flatMap((file) =>
    // A file that does not load fails all that is in it.
    file.assertionResults.length === 0 && file.status === "failed"
      ? [{ fullName: title ?? "", status: "failed", failureMessages: [file.message ?? ""] }]
      : file.assertionResults,
  );
}

/** A pattern for vitest, which joins the titles of groups and tests by an arrow where its report joins them by a space. */
function patternOf(title: string): string {
  return title.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replaceAll(" ", "( | > )");
}

/** The line that says what is wrong, without what differs from run to run. A property says it behind its counterexample. */
function firstLine(message: string): string {
  const behindCounterexample = /^Got (?:error: )?(.+)$/m.exec(message)?.[1];
  const line = behindCounterexample ?? message.split("\n")[0] ?? "";
  return line
    .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "UUID")
    .replaceAll(/\b[a-z]{3}_[0-9a-hjkmnp-tv-z]{26}\b/g, "ID")
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "TIME")
    .replaceAll(/epoch-\d+/g, "epoch-N")
    .replaceAll(/\/\S*\/leasehold-[^\s/]+/g, "FOLDER");
}

function promisesPage(replays: readonly Replay[]): string {
  const sections = Object.entries(promises).flatMap(([name, promise]) => {
    const some = replays.filter(({ mutation }) => mutation.promise === name);
    return some.length === 0 ? [] : [`## ${promise}\n\n${some.map(entryOf).join("\n")}`];
  });
  const head = "What each test proves: the change to the code that breaks the promise, and what the test then printed.";
  const source =
    "`npm run mutate -- --write` replays every change of [mutations.ts](mutations.ts) and writes this page.";
  return `# Promises and the tests that prove them\n\n${head}\n${source}\n\n${sections.join("\n")}`;
}

function entryOf({ mutation, printed }: Replay): string {
  const { file, from, to, testFile, test } = mutation;
  const marked = (sign: string, text: string) =>
    text
      .trimEnd()
      .split("\n")
      .map((line) => `    ${sign} ${line}`)
      .join("\n");
  const change = to.trim() === "" ? marked("-", from) : `${marked("-", from)}\n${marked("+", to)}`;
  return [
    `- **${test}**: [${testFile}](../${testFile})`,
    `\n  In [${file}](../${file}):\n`,
    change,
    `\n  ${printed === undefined ? "The test did not notice." : `The test printed \`${printed.replaceAll("`", "'")}\`.`}\n`,
  ].join("\n");
}
