/** Owns the processes of a bench: how one is started, asked by name, profiled, and stopped. */
import { type ChildProcess, fork } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { Session } from "node:inspector/promises";
import { fileURLToPath } from "node:url";

/** What a process can be asked. Arguments and answers are cloned on their way. */
export type Commands = Readonly<Record<string, (argument: never) => unknown>>;

/** What every process of the bench can be asked. */
type CommonCommands = ReturnType<typeof commonCommands>;

interface Question {
  readonly id: number;
  readonly name: string;
  readonly argument: unknown;
}

type Answer = { readonly id: number } & ({ readonly value: unknown } | { readonly error: string });

/** A process that another program of this folder runs in. */
export class BenchProcess<Own extends Commands> {
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #lastId = 0;

  /** Starts `bench/<program>.ts`, with this environment beside what a program needs to run. */
  constructor(program: string, environment: Readonly<Record<string, string>> = {}) {
    this.#name = program;
    this.#child = fork(fileURLToPath(new URL(`../${program}.ts`, import.meta.url)), {
      env: { PATH: process.env.PATH, TMPDIR: process.env.TMPDIR, ...environment },
      serialization: "advanced",
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#child.on("message", (answer) => this.#answered(answer as Answer));
    this.#child.once("exit", (code, signal) => this.#failAll(new Error(`${program} ended: ${signal ?? code}`)));
  }

  /** @throws Error with the stack of what failed in the process, or if the process is gone. */
  async ask<Name extends keyof (Own & CommonCommands) & string>(
    name: Name,
    argument: Parameters<(Own & CommonCommands)[Name]>[0],
  ): Promise<Awaited<ReturnType<(Own & CommonCommands)[Name]>>> {
    if (!this.#child.connected) {
      throw new Error(`${this.#name} is gone`);
    }
    const id = ++this.#lastId;
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting.set(id, waiting);
    this.#child.send({ id, name, argument } satisfies Question);
    // The process answers with what its function of this name gave.
    return (await waiting.promise) as Awaited<ReturnType<(Own & CommonCommands)[Name]>>;
  }

  /** Lets the process end by itself, and makes it end if it takes too long. */
  async stop(): Promise<void> {
    const ended = new Promise<void>((resolve) => {
      this.#child.once("exit", () => resolve());
    });
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
      return;
    }
    if (this.#child.connected) {
      this.#child.disconnect();
    }
    const timeout = setTimeout(() => this.#child.kill("SIGKILL"), stopGraceMs);
    await ended;
    clearTimeout(timeout);
  }

  #answered(answer: Answer): void {
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if ("error" in answer) {
      waiting?.reject(new Error(`${this.#name}: ${answer.error}`));
    } else {
      waiting?.resolve(answer.value);
    }
  }

  #failAll(error: Error): void {
    for (const waiting of this.#waiting.values()) {
      waiting.reject(error);
    }
    this.#waiting.clear();
  }
}

/** Answers what the bench asks of this process, until the bench is gone: then `close` runs and the process ends. */
export function serveCommands(commands: Commands, close: () => Promise<void>): void {
  const all = { ...commonCommands(), ...commands };
  process.on("message", (question) => void answer(all, question as Question));
  process.once("disconnect", () => {
    close().then(
      () => process.exit(),
      (error: unknown) => {
        console.error(error);
        process.exit(1);
      },
    );
  });
  // Ctrl-C reaches every process of the terminal; the bench itself ends the others.
  process.on("SIGINT", () => undefined);
}

/** How long a process may take to end, in milliseconds. */
const stopGraceMs = 10_000;

async function answer(commands: Commands, { id, name, argument }: Question): Promise<void> {
  try {
    const command = commands[name] as ((argument: unknown) => unknown) | undefined;
    if (command === undefined) {
      throw new Error(`it cannot be asked ${name}`);
    }
    process.send?.({ id, value: await command(argument) } satisfies Answer);
  } catch (error) {
    process.send?.({
      id,
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
    } satisfies Answer);
  }
}

function commonCommands() {
  let profiler: Session | undefined;
  return {
    /** Processor time used so far, of all threads, in milliseconds. */
    cpuMs(_: null): number {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1000;
    },

    async startProfile(_: null): Promise<void> {
      profiler = new Session();
      profiler.connect();
      await profiler.post("Profiler.enable");
      await profiler.post("Profiler.start");
    },

    async stopProfile(file: string): Promise<void> {
      const stopped = await profiler?.post("Profiler.stop");
      profiler?.disconnect();
      await writeFile(file, JSON.stringify(stopped?.profile));
    },
  };
}
