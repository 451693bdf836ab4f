/** The command line as a process of its own, for tests that look at it from outside. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { findProcess } from "../../src/database/embedded/process-table.ts";

const program = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
/** Halves the time that a command takes to start. */
const compileCache = fileURLToPath(new URL("../../node_modules/.cache/compiled", import.meta.url));

/** How a process is started. */
export interface SpawnedOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly user?: { readonly uid: number; readonly gid: number };
  /** What it reads from stdin. */
  readonly input?: string | Uint8Array;
}

/** What a process that has ended leaves. */
export interface Outcome {
  /** A signal's name if one ended it. */
  readonly exit: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

/** A process in a group of its own, as a shell's job. What is left of the group is killed when the test ends. */
export class Spawned {
  readonly process: ChildProcess;
  stdout = "";
  stderr = "";
  readonly #changes = new EventTarget();
  readonly #ended: Promise<Outcome>;

  constructor(words: readonly string[], options: SpawnedOptions = {}) {
    const { input } = options;
    this.process = spawn(process.execPath, [program, ...words], {
      cwd: options.cwd ?? "/",
      detached: true,
      env: { ...surroundings(), ...options.env },
      stdio: [input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      ...options.user,
    });
    // A command that refuses what it is told leaves before it has read all.
    this.process.stdin?.on("error", () => undefined).end(input);
    this.process.stdout?.setEncoding("utf8").on("data", (text: string) => this.#hear("stdout", text));
    this.process.stderr?.setEncoding("utf8").on("data", (text: string) => this.#hear("stderr", text));
    this.#ended = this.#end();
    onTestFinished(() => this.killGroup());
  }

  get pid(): number {
    return this.process.pid ?? Number.NaN;
  }

  /** Resolves once the process has written what the pattern matches. Fails if it ends without. */
  async says(pattern: RegExp): Promise<RegExpExecArray> {
    let isOver = false;
    void this.#ended.then(() => {
      isOver = true;
      this.#changes.dispatchEvent(new Event("change"));
    });
    for (;;) {
      const match = pattern.exec(`${this.stdout}\n${this.stderr}`);
      if (match !== null) {
        return match;
      }
      if (isOver) {
        throw new Error(`it ended and never said ${pattern}:\n${this.stdout}\n${this.stderr}`);
      }
      await once(this.#changes, "change");
    }
  }

  /** As Ctrl-C does. */
  interruptGroup(): void {
    process.kill(-this.pid, "SIGINT");
  }

  async ended(): Promise<Outcome> {
    return await this.#ended;
  }

  killGroup(): void {
    try {
      process.kill(-this.pid, "SIGKILL");
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) {
        throw error;
      }
    }
  }

  #hear(stream: "stdout" | "stderr", text: string): void {
    this[stream] += text;
    this.#changes.dispatchEvent(new Event("change"));
  }

  async #end(): Promise<Outcome> {
    const [code, signal] = await once(this.process, "close");
    return { exit: signal ?? code, stdout: this.stdout, stderr: this.stderr };
  }
}

/** Runs a command line to its end. */
export async function leasehold(words: readonly string[], options: SpawnedOptions = {}): Promise<Outcome> {
  return await new Spawned(words, options).ended();
}

/** Every process that descends from this one, itself first. Postgres's supervisor leaves the group, not the family. */
export async function familyOf(pid: number): Promise<number[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const processes = (await Promise.all(pids.map(findProcess))).filter((running) => running !== undefined);
  const family = [pid];
  for (const parent of family) {
    family.push(...processes.filter((running) => running.parentPid === parent).map((running) => running.pid));
  }
  return family;
}

/** Those of them that still run. */
export async function stillRunning(pids: readonly number[]): Promise<readonly string[]> {
  const found = await Promise.all(pids.map(findProcess));
  return found.flatMap((running) => running?.command ?? []);
}

/** This process's environment without the settings of whoever runs the tests. */
function surroundings(): NodeJS.ProcessEnv {
  const names = Object.keys(process.env).filter((name) => !/^(LEASEHOLD_|DATABASE_URL$)/.test(name));
  return { ...Object.fromEntries(names.map((name) => [name, process.env[name]])), NODE_COMPILE_CACHE: compileCache };
}
