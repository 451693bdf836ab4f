/** Owns how schedules, their targets and what they do are written. */
import { type CronDetails, CronDetails_StateSchema } from "#gen/leasehold/v1/cron_pb.js";
import { showBytes, showDuration, showEnum, showText, showTime } from "./show-values.ts";

/** What only a Cron lease has. Of an ended one nothing is left. */
export function cronFields(cron: CronDetails): Record<string, string> {
  if (cron.schedule === undefined) {
    return {};
  }
  return {
    schedule: showSchedule(cron),
    "schedule is": showEnum(CronDetails_StateSchema, cron.state),
    next: showTime(cron.nextSlotTime),
    fires: cron.firings === 1n ? "once" : `${cron.firings} times in all`,
    target: showTarget(cron),
    payload: `${showBytes(cron.payloadBytes)} ${cron.contentType}`,
  };
}

export function showSchedule({ schedule, timeZone }: CronDetails): string {
  switch (schedule?.kind.case) {
    case "expression":
      return `${schedule.kind.value} (${timeZone})`;
    case "every":
      return `every ${showDuration(schedule.kind.value)}`;
    case "at":
      return `at ${showTime(schedule.kind.value)}`;
    default:
      return "";
  }
}

function showTarget({ target, scratchpadKey }: CronDetails): string {
  return target.case === "scratchpadLeaseId" ? `${target.value} ${showText(scratchpadKey)}` : (target.value ?? "");
}
