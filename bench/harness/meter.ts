/** Measures work that some processes do: its rate, how long its calls took, and how busy everything was. */
import { join } from "node:path";
import type { BenchProcess } from "./bench-process.ts";
import type { CallsResult } from "./make-calls.ts";
import type { Measure } from "./measure.ts";
import { postgresCpuMs } from "./postgres-cpu.ts";

/** A process whose use of the processor is measured. */
export type MeasuredProcess = Pick<BenchProcess<Record<never, never>>, "ask">;

/** Beside so many servers, one Postgres. */
export class Meter {
  readonly #postmasterPid: number;
  readonly #profileFolder: string | undefined;

  /** With a profileFolder, all work leaves a CPU profile of its processes there. */
  constructor(postmasterPid: number, profileFolder: string | undefined) {
    this.#postmasterPid = postmasterPid;
    this.#profileFolder = profileFolder;
  }

  /** `work`: calls that these processes serve. `unitsPerCall`: what a call moves, in the unit of its figure. */
  async measure(
    processes: readonly MeasuredProcess[],
    name: string,
    unitsPerCall: number,
    work: () => Promise<CallsResult>,
  ): Promise<{ readonly measure: Measure; readonly result: CallsResult }> {
    await this.#startProfiles(processes);
    const before = await this.#busyMs(processes);
    const result = await work();
    const after = await this.#busyMs(processes);
    await this.#stopProfiles(processes, name);
    const measure = {
      rate: (result.calls * unitsPerCall * 1000) / result.elapsedMs,
      p50Ms: result.p50Ms,
      p99Ms: result.p99Ms,
      maxMs: result.maxMs,
      cores: {
        load: result.cpuMs / result.elapsedMs,
        server: (after.server - before.server) / result.elapsedMs,
        database:
          after.database === undefined || before.database === undefined
            ? undefined
            : (after.database - before.database) / result.elapsedMs,
      },
    };
    return { measure, result };
  }

  async #busyMs(processes: readonly MeasuredProcess[]): Promise<{ server: number; database: number | undefined }> {
    const database = await postgresCpuMs(this.#postmasterPid);
    const times = await Promise.all(processes.map((process) => process.ask("cpuMs", null)));
    return { server: times.reduce((sum, ms) => sum + ms, 0), database };
  }

  async #startProfiles(processes: readonly MeasuredProcess[]): Promise<void> {
    if (this.#profileFolder !== undefined) {
      await Promise.all(processes.map((process) => process.ask("startProfile", null)));
    }
  }

  /** One file for each process, numbered from the second on. */
  async #stopProfiles(processes: readonly MeasuredProcess[], name: string): Promise<void> {
    if (this.#profileFolder === undefined) {
      return;
    }
    for (const [place, process] of processes.entries()) {
      const file = `${name}${place === 0 ? "" : ` ${place + 1}`}`.replaceAll(/\W+/g, "-");
      await process.ask("stopProfile", join(this.#profileFolder, `${file}.cpuprofile`));
    }
  }
}
