/** Owns the command line as a whole: its commands, its help, and how it ends. */
import { Command, CommanderError } from "commander";
import { renderSettingsText } from "../config/render-settings.ts";
import { addAccountCommands } from "./account-commands.ts";
import { addCheckpointCommands } from "./checkpoint-commands.ts";
import { addClaimCommands } from "./claim-command.ts";
import { addCronCommands } from "./cron-commands.ts";
import { addDropCommand } from "./drop-command.ts";
import { CommandError, exitCodes, exitCodesText } from "./exit-codes.ts";
import { addGetCommand } from "./get-command.ts";
import { addHandoffCommand } from "./handoff-command.ts";
import { addKeyCommands } from "./key-commands.ts";
import { addLeaseCommands } from "./lease-commands.ts";
import { addLedgerCommand } from "./ledger-command.ts";
import { addMailboxCommands } from "./mailbox-commands.ts";
import { addMessageCommands } from "./message-commands.ts";
import { reportFailure } from "./output.ts";
import { addPricingCommands } from "./pricing-commands.ts";
import { addProcessCommands } from "./process-commands.ts";
import { addPutCommand } from "./put-command.ts";
import { addReceiptCommands } from "./receipt-commands.ts";
import { addReceiveCommand } from "./recv-command.ts";
import { addScratchpadCommands } from "./scratchpad-commands.ts";

/** Runs a command line, given without the program's own name. Never throws: the exit code tells how it went. */
export async function run(words: readonly string[], version: string): Promise<void> {
  const asJson = words.includes("--json");
  try {
    await makeProgram(version, asJson).parseAsync(words, { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) {
      // It has said what is wrong, or shown what was asked for.
      process.exitCode = error.exitCode === 0 ? exitCodes.ok.code : exitCodes.usage.code;
      return;
    }
    reportFailure(error, asJson);
  }
}

function makeProgram(version: string, asJson: boolean): Command {
  const program = new Command("leasehold")
    .description("Durable room for AI agents: prepaid leases with handoff tokens.")
    .version(version)
    // A command may have a --version of its own.
    .enablePositionalOptions()
    .addHelpText("after", helpText());
  addProcessCommands(program);
  addAccountCommands(program);
  addKeyCommands(program);
  addPricingCommands(program);
  addPutCommand(program);
  addGetCommand(program);
  addMailboxCommands(program);
  addDropCommand(program);
  addReceiveCommand(program);
  addReceiptCommands(program);
  addMessageCommands(program);
  addCheckpointCommands(program);
  addScratchpadCommands(program);
  addCronCommands(program);
  addLeaseCommands(program);
  addHandoffCommand(program);
  addClaimCommands(program);
  addLedgerCommand(program);
  for (const command of allCommands(program)) {
    // A command inherits these from its parent only as they were when it was added.
    command.exitOverride().configureOutput({ outputError: (text) => reportUsage(text, asJson) });
  }
  return program;
}

/** Commander's own complaint, in the form of every other failure. */
function reportUsage(text: string, asJson: boolean): void {
  reportFailure(new CommandError("usage", text.replace(/^error: /, "")), asJson);
}

function helpText(): string {
  return `
Durations are written as 90s, 15m, 24h or 7d, sizes as 1048576, 10MiB or 10MB, money in US dollars.

Exit codes:
${exitCodesText()}

Settings of clients, from the environment:
${renderSettingsText("client")}

Settings of servers and sweepers, from the environment:
${renderSettingsText("server")}`;
}

function allCommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(allCommands)];
}
