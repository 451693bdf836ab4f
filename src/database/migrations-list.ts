/** Every migration, in the order they run. Each is never edited once released. */
import { InitialSchema } from "./migrations/0001-initial-schema.ts";
import { Mailbox } from "./migrations/0002-mailbox.ts";
import { Checkpoint } from "./migrations/0003-checkpoint.ts";
import { Scratchpad } from "./migrations/0004-scratchpad.ts";
import { Cron } from "./migrations/0005-cron.ts";

export const migrationsList = [
  { name: "0001-initial-schema", class: InitialSchema },
  { name: "0002-mailbox", class: Mailbox },
  { name: "0003-checkpoint", class: Checkpoint },
  { name: "0004-scratchpad", class: Scratchpad },
  { name: "0005-cron", class: Cron },
] as const;
