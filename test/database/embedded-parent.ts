/**
 * A process that starts the embedded Postgres over the folder it is given, as `leasehold dev` does, so that tests can
 * end it in every way. On SIGINT it uses the database once more, as a server that drains does, and then stops it.
 */
import pg from "pg";
import { startEmbeddedPostgres } from "../../src/database/embedded/start-embedded-postgres.ts";

/** To this process. */
export type ToParent = { readonly kind: "stop" } | { readonly kind: "release"; readonly pids: readonly number[] };

/** From this process. */
export type FromParent =
  | { readonly kind: "ready"; readonly url: string; readonly pid: number; readonly supervisorPid: number }
  | { readonly kind: "failed"; readonly message: string }
  | { readonly kind: "log"; readonly message: string }
  | { readonly kind: "released" }
  | { readonly kind: "drained"; readonly answer: unknown }
  | { readonly kind: "stopped" };

function tell(message: FromParent): void {
  process.send?.(message);
}

try {
  const postgres = await startEmbeddedPostgres({
    dataDir: process.argv[2] ?? "",
    log: (message) => tell({ kind: "log", message }),
  });
  process.on("message", async (message: ToParent) => {
    if (message.kind === "release") {
      postgres.release(message.pids);
      tell({ kind: "released" });
      return;
    }
    await postgres.stop();
    tell({ kind: "stopped" });
    process.disconnect?.();
  });
  process.on("SIGINT", async () => {
    const client = new pg.Client({ connectionString: postgres.url });
    await client.connect();
    const { rows } = await client.query("select 'drained' as answer");
    await client.end();
    tell({ kind: "drained", answer: rows[0]?.answer });
    await postgres.stop();
    tell({ kind: "stopped" });
    process.disconnect?.();
  });
  tell({ kind: "ready", url: postgres.url, pid: postgres.pid, supervisorPid: postgres.supervisorPid });
} catch (error) {
  tell({ kind: "failed", message: error instanceof Error ? error.message : String(error) });
  process.disconnect?.();
}
