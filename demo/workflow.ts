/** The demo's workflow: a worker is killed between two checkpoints, and another carries on. */
import { once } from "node:events";
import { createReadStream } from "node:fs";
import type { Connection } from "../src/client/connection.ts";
import { runAgent, startAgent } from "./agents.ts";
import type { DemoServer } from "./demo-server.ts";
import { require, say } from "./output.ts";

/** What a worker says after each checkpoint. */
interface Saved {
  readonly offset: number;
  readonly lines: number;
  readonly version: number;
}

/** Counts the lines of a file by two workers, of whom the first is killed. */
export async function tellWorkflow(server: DemoServer, connection: Connection, file: string): Promise<void> {
  const workflowId = "count-the-lines";
  const { lease } = await connection.leases.createLease({
    sizeBytes: 65_536n,
    duration: { seconds: 3_600n },
    variant: { case: "checkpoint", value: { workflowId } },
  });
  const args = [server.httpUrl, server.apiKey, workflowId, lease?.leaseId ?? "", file];
  const killed = await killAfter(args, 3);
  say(`  its worker was killed after it had saved version ${killed.version}, at byte ${killed.offset}`);
  const last = await runAgent<Saved>("worker.ts", args);
  const lines = await countLines(file);
  require(last?.lines === lines, `the second worker ended with ${lines} lines, as many as the file has`);
  const { checkpoint } = await connection.checkpoints.getCheckpoint({ workflowId });
  require(Number(checkpoint?.version) ===
    last?.version, `version ${last?.version} is the latest, and none was skipped`);
}

/** Kills a worker, without a word, once it has saved so many versions. */
async function killAfter(args: readonly string[], versions: number): Promise<Saved> {
  const worker = startAgent("worker.ts", args);
  for (;;) {
    const [saved] = (await once(worker, "message")) as [Saved];
    if (saved.version === versions) {
      worker.kill("SIGKILL");
      await once(worker, "close");
      return saved;
    }
  }
}

/** How many line feeds a file has. */
export async function countLines(file: string): Promise<number> {
  let lines = 0;
  for await (const chunk of createReadStream(file)) {
    lines += (chunk as Buffer).reduce((count, byte) => (byte === 0x0a ? count + 1 : count), 0);
  }
  return lines;
}
