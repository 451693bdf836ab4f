/** Owns one of the processes that `leasehold dev` runs: started, started again when it dies, and stopped. */
import { type ChildProcess, fork } from "node:child_process";
import { extname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { FromChild } from "./parent-link.ts";
import { StartError } from "./start-error.ts";

/** A process that lives less long than this, this often in a row, will not recover by itself. */
const steadyMs = 10_000;
const mostUnsteadyRuns = 5;
const firstDelayMs = 200;

/** The command line, beside this folder: TypeScript in the repository, JavaScript in the package. */
const program = fileURLToPath(new URL(`../main${extname(import.meta.url)}`, import.meta.url));

/** What to run. */
export interface ManagedProcessOptions {
  /** The command, which also names it in messages. */
  readonly command: "serve" | "sweep";
  /** Asked for at every start. */
  environment(): NodeJS.ProcessEnv;
  /** Told of every start. */
  onStart(): void;
  log(message: string): void;
}

type Ready = Extract<FromChild, { kind: "ready" }>;

interface Run {
  readonly child: ChildProcess;
  readonly ready: Promise<Ready>;
  /** Resolves with how it ended, in words. */
  readonly ended: Promise<string>;
}

/**
 * A process that dies unasked is started again, as Postgres is by its supervisor: leases go on ending on time, and
 * agents that retry find the same address. Bringing everything down instead would turn one crash into a lost service,
 * with nobody there to start it. One that keeps dying is given up.
 */
export class ManagedProcess {
  readonly #options: ManagedProcessOptions;
  readonly #lost = Promise.withResolvers<string>();
  readonly #stopping = new AbortController();
  #run: Run | undefined;

  constructor(options: ManagedProcessOptions) {
    this.#options = options;
  }

  /** Resolves with the reason, in one line, when the process is given up. */
  get lost(): Promise<string> {
    return this.#lost.promise;
  }

  get pid(): number | undefined {
    return this.#run?.child.pid;
  }

  /** Starts it. @throws StartError with its own words, if it ends before it is ready: nothing is repeated then. */
  async start(): Promise<Ready> {
    const run = this.#launch();
    const ready = await run.ready;
    void this.#keepRunning(run);
    return ready;
  }

  /** Asks it to end in order, and resolves when it has. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#run?.child.kill("SIGTERM");
    await this.#run?.ended;
  }

  /** Asks it to end now; `stop` then resolves soon. */
  insist(): void {
    this.#run?.child.kill("SIGTERM");
  }

  async #keepRunning(first: Run): Promise<void> {
    const { command, log } = this.#options;
    let run = first;
    let unsteadyRuns = 0;
    for (;;) {
      const startMs = performance.now();
      const how = await run.ended;
      if (this.#stopping.signal.aborted) {
        return;
      }
      unsteadyRuns = performance.now() - startMs < steadyMs ? unsteadyRuns + 1 : 1;
      if (unsteadyRuns > mostUnsteadyRuns) {
        this.#lost.resolve(`leasehold ${command} keeps ending: ${how}`);
        return;
      }
      log(`leasehold ${command} ended unasked (${how}); starting it again`);
      if (!(await this.#pause(firstDelayMs * 2 ** (unsteadyRuns - 1)))) {
        return;
      }
      run = this.#launch();
      // Whether it gets ready is seen by how long it lives.
      run.ready.catch(() => undefined);
    }
  }

  /** Whether it is still to run after a while. */
  async #pause(delayMs: number): Promise<boolean> {
    await delay(delayMs, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
    return !this.#stopping.signal.aborted;
  }

  #launch(): Run {
    const { command, environment, onStart } = this.#options;
    // In this process's own group: whoever kills the group gets all of it.
    const child = fork(program, [command], {
      execArgv: [],
      env: environment(),
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    const ready = Promise.withResolvers<Ready>();
    const ended = Promise.withResolvers<string>();
    let failure: string | undefined;
    child.on("message", (message: FromChild) => {
      switch (message.kind) {
        case "ready":
          ready.resolve(message);
          return;
        case "failed":
          failure = message.message;
          return;
      }
    });
    const end = (how: string): void => {
      ended.resolve(failure ?? how);
      ready.reject(new StartError(failure ?? `leasehold ${command} ended at its start: ${how}`));
    };
    child.once("error", (error) => end(error.message));
    child.once("exit", (code, signal) => end(signal ?? `exit code ${code}`));
    this.#run = { child, ready: ready.promise, ended: ended.promise };
    onStart();
    return this.#run;
  }
}
