/** The demo's scratchpad: three workers share out the parts of a file by a counter, and a watcher sees all they do. */
import { stat } from "node:fs/promises";
import { WatchEntriesResponse_Change as Change } from "#gen/leasehold/v1/scratchpad_pb.js";
import { closingStream } from "../src/client/closing-stream.ts";
import type { Connection } from "../src/client/connection.ts";
import { runAgent } from "./agents.ts";
import type { DemoServer } from "./demo-server.ts";
import { require, say } from "./output.ts";
import { countLines } from "./workflow.ts";

const workers = ["ada", "grace", "edsger"];
const partBytes = 8 * 1024 * 1024;

/** Counts the lines of a file by three processes that share nothing else than a scratchpad. */
export async function tellScratchpad(server: DemoServer, connection: Connection, file: string): Promise<void> {
  const { lease } = await connection.leases.createLease({
    sizeBytes: 65_536n,
    duration: { seconds: 3_600n },
    variant: { case: "scratchpad", value: {} },
  });
  const leaseId = lease?.leaseId ?? "";
  const parts = Math.ceil((await stat(file)).size / partBytes);
  const watched = watchLog(connection, leaseId, parts);
  await Promise.all(
    workers.map((name) => runAgent("part-counter.ts", [server.httpUrl, server.apiKey, leaseId, name, file])),
  );
  const read = async (key: string) => {
    const { entry } = await connection.scratchpads.getEntry({ leaseId, key });
    return Buffer.from(entry?.value ?? []).toString();
  };
  const log = (await read("log")).trimEnd().split("\n");
  say(
    `  ${workers.length} processes took the parts of the file, each by the next number of a counter: ${sharesOf(log)}`,
  );
  require(Number(await read("lines")) ===
    (await countLines(file)), `they counted ${await read("lines")} lines together`);
  require(new Set(log.map((line) => line.split(" ")[0])).size === parts &&
    log.length === parts, `each of the ${parts} parts is in their log once`);
  require((await watched).join("\n") ===
    log.join("\n"), "a watcher saw each line of it, in this order, as it was written");
}

/** The lines of the log as they come, until all are there. */
async function watchLog({ scratchpads }: Connection, leaseId: string, lines: number): Promise<string[]> {
  let text = "";
  const watch = closingStream((call) => scratchpads.watchEntries({ leaseId, prefix: "log" }, call));
  for await (const { change, entry, offset } of watch) {
    const value = Buffer.from(entry?.value ?? []).toString();
    if (change === Change.SET || change === Change.APPENDED) {
      text = text.slice(0, Number(offset)) + value;
    }
    const seen = text.trimEnd().split("\n");
    if (seen.length === lines) {
      return seen;
    }
  }
  throw new Error("the watch ended before its lease");
}

function sharesOf(log: readonly string[]): string {
  return workers.map((name) => `${log.filter((line) => line.endsWith(` ${name}`)).length} by ${name}`).join(", ");
}
