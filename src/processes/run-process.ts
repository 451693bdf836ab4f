/** Owns how a process of the server ends: what stopped it, in one line, and with which exit code. */
import { ConfigError } from "../config/config-error.ts";
import { KeyFolderError } from "../content/key-folder-error.ts";
import { EmbeddedPostgresError } from "../database/embedded/embedded-postgres-error.ts";
import { LeaseholdError } from "../errors/leasehold-error.ts";
import { hasParent, leaveParent, tellParent } from "./parent-link.ts";
import { StartError } from "./start-error.ts";

/** Errors whose message is one line that says what to do. */
const explained = [StartError, ConfigError, EmbeddedPostgresError, KeyFolderError, LeaseholdError];

/** Runs a process to its end. Never throws: a failure is shown, or told to the parent, and sets the exit code. */
export async function runProcess(work: () => Promise<void>): Promise<void> {
  outliveReaders();
  try {
    await work();
  } catch (error) {
    process.exitCode = error instanceof ConfigError ? 2 : 1;
    const isExplained = explained.some((kind) => error instanceof kind);
    if (!isExplained) {
      console.error(error);
    }
    const message = error instanceof Error ? (error.message.split("\n")[0] ?? error.name) : String(error);
    if (hasParent) {
      await tellParent({ kind: "failed", message });
    } else if (isExplained) {
      console.error(`leasehold: ${message}`);
    }
  } finally {
    leaveParent();
  }
}

/** A terminal that is closed, or a pipe that nobody reads, takes the log with it, and not the order of the end. */
function outliveReaders(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (!gone.has(error.code ?? "")) {
        throw error;
      }
    });
  }
}

const gone = new Set(["EPIPE", "EIO", "ERR_STREAM_DESTROYED"]);
