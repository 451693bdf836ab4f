/** Owns the commands that run a server: `serve`, `sweep`, `migrate` and `dev`. Each loads its program when it is asked for. */
import type { Command } from "commander";

/** Adds the commands. */
export function addProcessCommands(program: Command): void {
  program
    .command("dev")
    .description("run everything on this machine: Postgres, the API and the sweeper, with a demo account")
    .action(async () => {
      const { dev } = await import("../processes/dev.ts");
      await dev(process.env);
    });

  program
    .command("serve")
    .description("run the API over the Postgres of DATABASE_URL")
    .action(async () => {
      const { serve } = await import("../processes/serve.ts");
      await serve(process.env);
    });

  program
    .command("sweep")
    .description("run the sweeper, which ends leases and destroys their content, over the Postgres of DATABASE_URL")
    .option("--once", "do what is due now, print how much of each it was, and end")
    .option("--json", "with --once: print one JSON document")
    .action(async (options: { readonly once?: boolean; readonly json?: boolean }) => {
      const { sweep, sweepOnce } = await import("../processes/sweep.ts");
      await (options.once === true ? sweepOnce(process.env, options.json === true) : sweep(process.env));
    });

  program
    .command("migrate")
    .description("bring the schema of the Postgres of DATABASE_URL up to this version's")
    .option("--json", "print one JSON document")
    .action(async (options: { readonly json?: boolean }) => {
      const { migrate } = await import("../processes/migrate.ts");
      await migrate(process.env, options.json === true);
    });
}
