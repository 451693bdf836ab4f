/** Owns the embedded Postgres as the rest of the program sees it: started over a data folder, and stopped. */
import { type ChildProcess, spawn } from "node:child_process";
import { type FileHandle, open, rename } from "node:fs/promises";
import { extname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { type ClusterFolder, openClusterFolder } from "./cluster-folder.ts";
import { EmbeddedPostgresError } from "./embedded-postgres-error.ts";
import { stopLeftBehind, supervisorWords } from "./left-behind.ts";
import type { FromSupervisor, ToSupervisor } from "./supervisor-message.ts";

type ReadyMessage = Extract<FromSupervisor, { kind: "ready" }>;

const longestLogBytes = 16 * 1024 * 1024;

/** Where to keep it, and whom to tell of what is worth knowing, in one line each. */
export interface EmbeddedPostgresOptions {
  readonly dataDir: string;
  readonly log: (message: string) => void;
}

/** A running Postgres of this process's own. */
export interface EmbeddedPostgres {
  /** The address of its database `leasehold`; the same after a restart. */
  readonly url: string;
  /** The server's process, another one after a restart. */
  readonly pid: number;
  readonly supervisorPid: number;
  /** Resolves with the reason, in one line, when Postgres is gone or unsupervised without stop() having been called. */
  readonly lost: Promise<string>;
  /** Should this process end without stop(), Postgres is stopped only after these have ended too, or after 90 s. */
  release(pidsToWaitFor: readonly number[]): void;
  /** Cuts all connections, writes everything to disk and resolves when nothing of it runs any more. */
  stop(): Promise<void>;
}

/**
 * Starts Postgres over `<dataDir>/postgres`, which is made on the first start and kept.
 * Throws EmbeddedPostgresError, whose message is one line, when that cannot be done.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const supervisor = await spawnSupervisor(options).catch((error: unknown) => {
    const problem = error instanceof Error ? error.message : String(error);
    throw new EmbeddedPostgresError(`Cannot use LEASEHOLD_DATA_DIR ${options.dataDir}: ${problem}`, { cause: error });
  });
  await supervisor.started;
  return supervisor;
}

class SupervisorLink implements EmbeddedPostgres {
  /** Resolves when Postgres is ready for the first time. */
  readonly started: Promise<void>;
  readonly lost: Promise<string>;
  readonly supervisorPid: number;
  readonly #process: ChildProcess;
  readonly #folder: ClusterFolder;
  readonly #ended: Promise<string>;
  #ready: ReadyMessage | undefined;
  #failure: string | undefined;
  #isStopping = false;

  constructor(supervisor: ChildProcess, folder: ClusterFolder, log: (message: string) => void) {
    const started = Promise.withResolvers<void>();
    const lost = Promise.withResolvers<string>();
    this.started = started.promise;
    this.lost = lost.promise;
    this.supervisorPid = supervisor.pid ?? 0;
    this.#process = supervisor;
    this.#folder = folder;
    this.#ended = endOf(supervisor);
    supervisor.on("message", (message: FromSupervisor) => {
      switch (message.kind) {
        case "log":
          log(message.message);
          return;
        case "ready":
          this.#ready = message;
          // A process that has nothing else to do may end; the supervisor then stops Postgres.
          supervisor.unref();
          supervisor.channel?.unref();
          started.resolve();
          return;
        case "failed":
          this.#failure = message.message;
          return;
      }
    });
    void this.#ended.then((how) => {
      const reason = this.#failure ?? `Postgres's supervisor ended (${how}): see ${folder.log}`;
      started.reject(new EmbeddedPostgresError(reason));
      if (!this.#isStopping) {
        lost.resolve(reason);
      }
    });
  }

  get url(): string {
    return this.#whenReady().url;
  }

  get pid(): number {
    return this.#whenReady().pid;
  }

  release(pidsToWaitFor: readonly number[]): void {
    this.#tell({ kind: "outlive", pids: pidsToWaitFor });
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#process.ref();
    this.#tell({ kind: "stop" });
    await this.#ended;
    // A supervisor that was killed has left its Postgres running.
    await stopLeftBehind(this.#folder);
  }

  #tell(message: ToSupervisor): void {
    if (this.#process.connected) {
      this.#process.send(message, (error) => {
        // It has just ended, which `lost` and stop() find out by themselves.
        if (error !== null) {
          this.#failure ??= `Postgres's supervisor cannot be reached: ${error.message}`;
        }
      });
    }
  }

  #whenReady(): ReadyMessage {
    if (this.#ready === undefined) {
      throw new EmbeddedPostgresError("Postgres is not ready");
    }
    return this.#ready;
  }
}

/** How a child ended, or why it could not be started. */
async function endOf(child: ChildProcess): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  child.once("error", (error) => resolve(error.message));
  child.once("exit", (code, signal) => resolve(signal ?? `exit code ${code}`));
  return await promise;
}

async function spawnSupervisor(options: EmbeddedPostgresOptions): Promise<SupervisorLink> {
  const folder = await openClusterFolder(resolve(options.dataDir));
  // The program lies beside this file, as TypeScript in the repository and as JavaScript in the package.
  const program = fileURLToPath(new URL(`supervisor${extname(import.meta.url)}`, import.meta.url));
  const log = await openLog(folder.log);
  try {
    const supervisor = spawn(process.execPath, [program, ...supervisorWords(folder, process.pid)], {
      detached: true,
      cwd: "/",
      // Nothing but the place of the system's programs, for this process's environment holds tokens.
      env: { PATH: `${process.env.PATH ?? ""}:/usr/sbin:/usr/bin:/sbin:/bin` },
      stdio: ["ignore", log.fd, log.fd, "ipc"],
    });
    return new SupervisorLink(supervisor, folder, options.log);
  } finally {
    await log.close();
  }
}

/** Postgres logs little, so one earlier file is enough to keep. */
async function openLog(file: string): Promise<FileHandle> {
  const log = await open(file, "a", 0o600);
  if ((await log.stat()).size < longestLogBytes) {
    return log;
  }
  await log.close();
  await rename(file, `${file}.1`);
  return await open(file, "a", 0o600);
}
