/**
 * Owns which lease of a workflow this user's commands write to: the one that was made or read last. A put that names it
 * beside the workflow cannot land in the next lease of the workflow, which a worker that was thought dead knows nothing of.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Connection } from "../client/connection.ts";
import { note } from "./output.ts";

/** Remembers a workflow's lease. A folder that cannot be written to stops no command: the lease is then to be named. */
export async function rememberLease(connection: Connection, workflowId: string, leaseId: string): Promise<void> {
  const path = placeOf(connection, workflowId);
  const part = `${path}.${process.pid}.part`;
  try {
    await mkdir(folder(), { recursive: true, mode: 0o700 });
    await writeFile(part, `${leaseId}\n`, { mode: 0o600 });
    await rename(part, path);
  } catch (error) {
    note(`The lease is not remembered (${error instanceof Error ? error.message : error}): give it with --lease.`);
  }
}

/** The lease that was remembered. Undefined: none. */
export async function rememberedLease(connection: Connection, workflowId: string): Promise<string | undefined> {
  try {
    return (await readFile(placeOf(connection, workflowId), "utf8")).trim();
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR")) {
      return undefined;
    }
    throw error;
  }
}

/** Workflows of different accounts may have one name. The key is hashed, as it must not be kept here. */
function placeOf({ url, bearer }: Connection, workflowId: string): string {
  const place = createHash("sha256").update(`${url}\0${bearer}\0${workflowId}`).digest("hex");
  return join(folder(), place.slice(0, 32));
}

/** Where the XDG rules put what a program remembers. */
function folder(): string {
  return join(process.env.XDG_STATE_HOME || join(homedir(), ".local", "state"), "leasehold", "workflows");
}
