/** Owns the process that sweeps: ends leases that are due, destroys their content and keys, reaps what is left, fires schedules, and sends webhooks. */
import { buildCronFirer, buildSweeper, buildWebhookSender, openCore } from "../app.ts";
import { loadConfig } from "../config/load-config.ts";
import { openMigratedDatabase } from "./open-database.ts";
import { tellParent } from "./parent-link.ts";
import { processLogger } from "./process-logger.ts";
import { runProcess } from "./run-process.ts";
import { listenForStop } from "./stop-request.ts";

/** Sweeps until it is asked to stop, and then ends the batches at hand. */
export async function sweep(environment: NodeJS.ProcessEnv): Promise<void> {
  await runProcess(async () => {
    const config = loadConfig(environment);
    const logger = processLogger("sweep", config.logLevel);
    const stop = listenForStop();
    const database = await openMigratedDatabase(config);
    try {
      const core = await openCore(config, database, logger);
      const sweeper = buildSweeper(core);
      const webhooks = buildWebhookSender(core);
      const firer = buildCronFirer(core);
      void stop.requested.then((reason) => {
        logger.info({ reason }, "ending the batches at hand");
        sweeper.stop();
        webhooks.stop();
        firer.stop();
      });
      // A crash at any step is finished by the next sweep, so going at once loses nothing.
      void stop.insisted.then(() => process.exit(1));
      logger.info("sweeping");
      await tellParent({ kind: "ready" });
      await Promise.all([sweeper.run(), webhooks.run(), firer.run()]);
      logger.info("stopped");
    } finally {
      await database.close();
    }
  });
}

/** Does what is due now, and prints how much of each kind it was. */
export async function sweepOnce(environment: NodeJS.ProcessEnv, asJson: boolean): Promise<void> {
  await runProcess(async () => {
    const config = loadConfig(environment);
    const database = await openMigratedDatabase(config);
    try {
      const logger = processLogger("sweep", config.logLevel);
      const core = await openCore(config, database, logger);
      const swept = await buildSweeper(core).sweepOnce();
      const fired = await buildCronFirer(core).fireDue();
      const counts = { ...swept, "fire-crons": fired, "send-webhooks": await buildWebhookSender(core).sendDue() };
      const lines = Object.entries(counts).map(([task, count]) => `${task.padEnd(16)}  ${count}`);
      process.stdout.write(asJson ? `${JSON.stringify(counts)}\n` : `${lines.join("\n")}\n`);
    } finally {
      await database.close();
    }
  });
}
