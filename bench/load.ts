/** The load: a process that makes calls as so many callers would, each its next when the last is answered. */

import { type Commands, serveCommands } from "./harness/bench-process.ts";
import { GrpcConnection } from "./harness/grpc-connection.ts";
import { type LoadOperation, type LoadTarget, loadOperations } from "./harness/load-operations.ts";

/** A run of one operation. */
export interface LoadTask {
  readonly operation: LoadOperation;
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly bearer: string;
  readonly callers: number;
  /** What the calls take, in turn. None takes anything if it is empty. */
  readonly inputs: readonly string[];
  /** Stops after so many calls, or after so many seconds, or when every input was taken. */
  readonly stop: { readonly calls: number } | { readonly seconds: number } | "inputs";
}

/** What came of it. */
export interface LoadResult {
  readonly calls: number;
  readonly elapsedMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Processor time of this process while it ran, in milliseconds. */
  readonly cpuMs: number;
  /** In order of the inputs, if that many calls were made. */
  readonly outputs: readonly string[];
}

const connections = new Map<string, GrpcConnection>();

const commands = {
  async run(task: LoadTask): Promise<LoadResult> {
    const target = targetOf(task);
    const cpuBefore = process.cpuUsage();
    const startMs = performance.now();
    const { durationsMs, outputs } = await makeCalls(task, target);
    const elapsedMs = performance.now() - startMs;
    const { user, system } = process.cpuUsage(cpuBefore);
    const sorted = Float64Array.from(durationsMs).sort();
    return {
      calls: sorted.length,
      elapsedMs,
      p50Ms: quantile(sorted, 0.5),
      p99Ms: quantile(sorted, 0.99),
      cpuMs: (user + system) / 1000,
      outputs,
    };
  },
} satisfies Commands;

export type LoadCommands = typeof commands;

async function makeCalls(task: LoadTask, target: LoadTarget): Promise<{ durationsMs: number[]; outputs: string[] }> {
  const { inputs, stop } = task;
  const operation = loadOperations[task.operation];
  const endMs = typeof stop === "object" && "seconds" in stop ? performance.now() + stop.seconds * 1000 : Infinity;
  const most = stop === "inputs" ? inputs.length : "calls" in stop ? stop.calls : Infinity;
  const durationsMs: number[] = [];
  const outputs: string[] = [];
  let next = 0;
  const caller = async () => {
    for (let startMs = performance.now(); next < most && startMs < endMs; ) {
      const place = next++;
      outputs[place] = await operation(target, inputs[place % inputs.length] ?? "");
      const answeredMs = performance.now();
      durationsMs.push(answeredMs - startMs);
      startMs = answeredMs;
    }
  };
  await Promise.all(Array.from({ length: task.callers }, caller));
  return { durationsMs, outputs };
}

function targetOf({ grpcPort, httpPort, bearer }: LoadTask): LoadTarget {
  const key = `${grpcPort} ${bearer}`;
  const grpc = connections.get(key) ?? new GrpcConnection(grpcPort, bearer);
  connections.set(key, grpc);
  return { grpc, httpPort, bearer };
}

function quantile(sorted: Float64Array, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

serveCommands(commands, async () => {
  for (const connection of connections.values()) {
    connection.close();
  }
});
