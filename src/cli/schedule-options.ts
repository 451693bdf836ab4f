/** Owns a schedule as options: what `cron create` makes, and what `quote` asks the price of. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import type { CronScheduleSchema } from "#gen/leasehold/v1/cron_pb.js";
import { CommandError } from "./exit-codes.ts";
import { parseDuration, parseTime } from "./parse-values.ts";

/** What the options come to. */
export interface ScheduleOptions {
  readonly expression?: string;
  readonly every?: bigint;
  readonly at?: Date;
  readonly timeZone?: string;
}

/** Adds the options. */
export function addScheduleOptions(command: Command): Command {
  return command
    .option(
      "--expression <fields>",
      'fire by five cron fields, or six with seconds in front, such as "*/15 9-17 * * 1-5"',
    )
    .option("--every <duration>", "fire at a fixed distance, such as 10m, the first time after one", parseDuration)
    .option("--at <time>", "fire once, such as at 2026-12-24T18:00:00Z", parseTime)
    .option("--time-zone <name>", "the time zone of the expression, such as Europe/Berlin (default: UTC)");
}

/**
 * The schedule that the options name. Undefined if they name none.
 *
 * @throws CommandError if they name more than one.
 */
export function scheduleOf(options: ScheduleOptions): MessageInitShape<typeof CronScheduleSchema> | undefined {
  const { expression, every, at, timeZone } = options;
  if ([expression, every, at].filter((kind) => kind !== undefined).length > 1) {
    throw new CommandError("usage", "A schedule is one of --expression, --every and --at");
  }
  if (timeZone !== undefined && expression === undefined) {
    throw new CommandError("usage", "--time-zone is for --expression");
  }
  if (expression !== undefined) {
    return { kind: { case: "expression", value: expression } };
  }
  if (every !== undefined) {
    return { kind: { case: "every", value: { seconds: every } } };
  }
  return at === undefined ? undefined : { kind: { case: "at", value: timestampFromDate(at) } };
}
