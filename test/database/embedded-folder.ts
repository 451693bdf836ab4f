/** Owns what tests of the embedded Postgres share: its folder, a process that starts it, and a connection to it. */
import { type ChildProcess, fork } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { onTestFinished } from "vitest";
import { openClusterFolder } from "../../src/database/embedded/cluster-folder.ts";
import { stopLeftBehind } from "../../src/database/embedded/left-behind.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/database/embedded/start-embedded-postgres.ts";
import type { FromParent, ToParent } from "./embedded-parent.ts";

/** A data folder for one test, or for one file's. What still runs over it at the end is stopped, and it is removed. */
export async function makeDataDir(
  whenFinished: (cleanUp: () => Promise<void>) => void = onTestFinished,
): Promise<string> {
  const dataDir = await mkdtemp(join(tmpdir(), "leasehold-embedded-"));
  whenFinished(async () => {
    await stopLeftBehind(await openClusterFolder(dataDir));
    await rm(dataDir, { recursive: true });
  });
  return dataDir;
}

/** Starts in this process, and stops when the test ends. */
export async function start(
  dataDir: string,
  log: (message: string) => void = () => undefined,
): Promise<EmbeddedPostgres> {
  const postgres = await startEmbeddedPostgres({ dataDir, log });
  onTestFinished(() => postgres.stop());
  return postgres;
}

/** A process of its own that starts Postgres, in a process group of its own. */
export class Parent {
  readonly process: ChildProcess;
  readonly #messages: FromParent[] = [];
  readonly #waiting = new Set<() => void>();

  constructor(dataDir: string, user: { readonly uid?: number; readonly gid?: number } = {}) {
    this.process = fork(new URL("embedded-parent.ts", import.meta.url), [dataDir], {
      ...user,
      detached: true,
      cwd: "/",
      execArgv: [],
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    onTestFinished(() => {
      this.process.kill("SIGKILL");
    });
    this.process.on("message", (message: FromParent) => {
      this.#messages.push(message);
      this.#wake();
    });
    this.process.on("exit", () => this.#wake());
  }

  get pid(): number {
    return this.process.pid ?? Number.NaN;
  }

  tell(message: ToParent): void {
    this.process.send(message);
  }

  /** Waits for a message of this kind; fails if the process says that it failed, or ends, without one. */
  async hear<Kind extends FromParent["kind"]>(kind: Kind): Promise<Extract<FromParent, { kind: Kind }>> {
    for (;;) {
      const heard = this.#messages.find(
        (message): message is Extract<FromParent, { kind: Kind }> => message.kind === kind,
      );
      if (heard !== undefined) {
        return heard;
      }
      const failed = this.#messages.find((message) => message.kind === "failed");
      if (failed !== undefined || this.process.exitCode !== null || this.process.signalCode !== null) {
        throw new Error(`The process never said "${kind}": ${JSON.stringify(failed)}`);
      }
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  #wake(): void {
    for (const resolve of this.#waiting) {
      resolve();
    }
    this.#waiting.clear();
  }
}

/** A connection whose end can be awaited: `cut` resolves when the server closes it. */
export async function connect(url: string): Promise<{ readonly client: pg.Client; readonly cut: Promise<void> }> {
  const client = new pg.Client({ connectionString: url });
  const { promise: cut, resolve } = Promise.withResolvers<void>();
  // A connection that the server ends reports an error first.
  client.on("error", () => resolve());
  client.on("end", resolve);
  await client.connect();
  onTestFinished(() => client.end());
  return { client, cut };
}

/** The first column of the first row. */
export async function ask(url: string, question: string): Promise<unknown> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query({ text: question, rowMode: "array" });
    return rows[0]?.[0];
  } finally {
    await client.end();
  }
}
