/** A worker: counts the line feeds of a file, a part at a time, and saves where it is after each. It may die at any time. */
import { open } from "node:fs/promises";
import { connect } from "../src/client/connection.ts";
import { say } from "./output.ts";

/** What it saves. */
interface Progress {
  readonly offset: number;
  readonly lines: number;
}

const partBytes = 8 * 1024 * 1024;

const [url = "", apiKey = "", workflowId = "", leaseId = "", file = ""] = process.argv.slice(2);
const { checkpoints } = connect({ url, bearer: apiKey });

const { lease, version, progress } = await start();
let expectedVersion = version;
let { offset, lines } = progress;
const source = await open(file);
const buffer = Buffer.alloc(partBytes);
for (;;) {
  const { bytesRead } = await source.read(buffer, 0, partBytes, offset);
  if (bytesRead === 0) {
    break;
  }
  offset += bytesRead;
  lines += buffer.subarray(0, bytesRead).reduce((count, byte) => (byte === 0x0a ? count + 1 : count), 0);
  const { checkpoint } = await checkpoints.putCheckpoint({
    leaseId: lease,
    workflowId,
    body: Buffer.from(JSON.stringify({ offset, lines })),
    contentType: "application/json",
    expectedVersion,
    requestId: crypto.randomUUID(),
  });
  expectedVersion = checkpoint?.version ?? 0n;
  process.send?.({ offset, lines, version: Number(expectedVersion) });
}
await source.close();
process.disconnect?.();

/** Goes on from the latest checkpoint, or from the start if there is none yet. */
async function start(): Promise<{ lease: string; version: bigint; progress: Progress }> {
  const { checkpoints: saved } = await checkpoints.listCheckpointVersions({ leaseId, workflowId, pageSize: 1 });
  if (saved.length === 0) {
    return { lease: leaseId, version: 0n, progress: { offset: 0, lines: 0 } };
  }
  const { checkpoint } = await checkpoints.getCheckpoint({ leaseId, workflowId });
  const found = JSON.parse(Buffer.from(checkpoint?.body ?? []).toString()) as Progress;
  say(`  a worker goes on from version ${checkpoint?.version}, at byte ${found.offset}`);
  return { lease: leaseId, version: checkpoint?.version ?? 0n, progress: found };
}
