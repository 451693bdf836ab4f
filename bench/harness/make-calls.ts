/** Makes calls as so many callers would, each its next when the last is answered, and tells how that went. */

/** How calls are made. */
export interface Calls {
  readonly callers: number;
  /** What the calls take, in turn. None takes anything if it is empty. */
  readonly inputs: readonly string[];
  /** Each caller keeps to one input, the next caller to the next: nobody works on what another works on. */
  readonly eachItsOwn?: boolean;
  /** Stops after so many calls, or after so many seconds, or when every input was taken. */
  readonly stop: { readonly calls: number } | { readonly seconds: number } | "inputs";
}

/** Calls of one operation of a program. */
export interface CallTask<Operation extends string> extends Calls {
  readonly operation: Operation;
}

/** What came of calls. */
export interface CallsResult {
  readonly calls: number;
  readonly elapsedMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Processor time of this process while it ran, in milliseconds. */
  readonly cpuMs: number;
  /** In order of the inputs, if that many calls were made. */
  readonly outputs: readonly string[];
}

/** Makes the calls and measures them. `call` is given an input, and its answer is kept as the output for that input. */
export async function makeCalls(calls: Calls, call: (input: string) => Promise<string>): Promise<CallsResult> {
  const { inputs, stop, eachItsOwn = false } = calls;
  return await timeCalls(async (durationsMs, outputs) => {
    const endMs = typeof stop === "object" && "seconds" in stop ? performance.now() + stop.seconds * 1000 : Infinity;
    const most = stop === "inputs" ? inputs.length : "calls" in stop ? stop.calls : Infinity;
    let next = 0;
    const caller = async (_: unknown, own: number) => {
      for (let startMs = performance.now(); next < most && startMs < endMs; ) {
        const place = next++;
        outputs[place] = await call(inputs[(eachItsOwn ? own : place) % inputs.length] ?? "");
        const answeredMs = performance.now();
        durationsMs.push(answeredMs - startMs);
        startMs = answeredMs;
      }
    };
    await Promise.all(Array.from({ length: calls.callers }).map(caller));
  });
}

/** Runs work that notes how long each of its calls took, and measures it. */
export async function timeCalls(
  work: (durationsMs: number[], outputs: string[]) => Promise<void>,
): Promise<CallsResult> {
  const durationsMs: number[] = [];
  const outputs: string[] = [];
  const cpuBefore = process.cpuUsage();
  const startMs = performance.now();
  await work(durationsMs, outputs);
  const elapsedMs = performance.now() - startMs;
  const { user, system } = process.cpuUsage(cpuBefore);
  const sorted = Float64Array.from(durationsMs).sort();
  return {
    calls: sorted.length,
    elapsedMs,
    p50Ms: quantile(sorted, 0.5),
    p99Ms: quantile(sorted, 0.99),
    maxMs: quantile(sorted, 1),
    cpuMs: (user + system) / 1000,
    outputs,
  };
}

function quantile(sorted: Float64Array, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
