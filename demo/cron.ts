/** The demo's cron: a schedule wakes a worker through a mailbox, and says what its slots came to. */
import { CronDetails_State, CronRun_Outcome, CronRun_OutcomeSchema } from "#gen/leasehold/v1/cron_pb.js";
import { showDollars, showEnum, showTime } from "../src/cli/show-values.ts";
import type { Connection } from "../src/client/connection.ts";
import { runAgent } from "./agents.ts";
import type { DemoServer } from "./demo-server.ts";
import { require, say } from "./output.ts";

const wakeUps = 4;
const duration = { seconds: 60n };

/** Lets a schedule of one second wake a worker some times, pauses it, and shows its runs. */
export async function tellCron(server: DemoServer, connection: Connection): Promise<void> {
  const { leases, crons } = connection;
  const mailbox = await leases.createLease({
    sizeBytes: 65_536n,
    duration: { seconds: 3_600n },
    variant: { case: "mailbox", value: {} },
  });
  const mailboxLeaseId = mailbox.lease?.leaseId ?? "";
  const { lease } = await leases.createLease({
    sizeBytes: 1_024n,
    duration,
    variant: {
      case: "cron",
      value: {
        schedule: { kind: { case: "every", value: { seconds: 1n } } },
        payload: Buffer.from("look after the queue"),
        target: { case: "mailboxLeaseId", value: mailboxLeaseId },
      },
    },
  });
  const leaseId = lease?.leaseId ?? "";
  const firings = lease?.details.case === "cron" ? lease.details.value.firings : 0n;
  say(`  every second for a minute: ${firings} firings, paid for with ${showDollars(lease?.priceMicros ?? 0n)}`);
  const woken = await runAgent<string[]>("woken.ts", [server.httpUrl, server.apiKey, mailboxLeaseId, `${wakeUps}`]);
  const { state } = await crons.pauseCron({ leaseId });
  require(state === CronDetails_State.PAUSED, "the schedule is paused");
  const { runs } = await crons.listCronRuns({ leaseId });
  const oldestFirst = runs.toReversed();
  for (const run of oldestFirst) {
    say(`  slot ${showTime(run.slotTime)} ${showEnum(CronRun_OutcomeSchema, run.outcome)} to the mailbox`);
  }
  require(oldestFirst.every(({ outcome }) => outcome === CronRun_Outcome.DELIVERED), "each slot was delivered");
  require(oldestFirst
    .slice(0, wakeUps)
    .map(({ slotTime }) => showTime(slotTime))
    .join() === woken?.join(), `the worker was woken once by each of the first ${wakeUps}, in order`);
}
