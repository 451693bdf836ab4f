/** Promise for schedules: whenever a sweeper is killed, no slot is fired twice and none is lost. */
import { expect, test } from "vitest";
import { MailboxService } from "#gen/leasehold/v1/mailbox_pb.js";
import { buildCronFirer } from "../../src/app.ts";
import { openedMessages, openMailbox } from "../mailbox/mail.ts";
import { Spawned } from "../processes/spawned.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { leaseUuid, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { cronsOf, letPass, openCron } from "./schedules.ts";

const leasehold = await TestLeasehold.start();
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);
const env = {
  DATABASE_URL: leasehold.databaseUrl,
  LEASEHOLD_DATA_DIR: leasehold.core.config.dataDir,
};
const perSecond = { kind: { case: "every", value: { seconds: 1n } } } as const;

/** Starts a sweeper. Resolves when it sweeps. */
async function startSweeper(): Promise<Spawned> {
  const sweeper = new Spawned(["sweep"], { env });
  await sweeper.says(/"sweeping"/);
  return sweeper;
}

async function kill(sweeper: Spawned): Promise<void> {
  sweeper.process.kill("SIGKILL");
  await sweeper.ended();
}

test("no slot is doubled and none is lost while sweepers that fire it are killed at random", {
  timeout: 30_000,
}, async () => {
  const { leaseId: mailboxId } = await openMailbox(tenant, {}, { sizeBytes: 268_435_456n });
  const mail = leasehold.client(MailboxService, tenant.account.apiKey);
  const crons: string[] = [];
  for (let count = 0; count < 6; count++) {
    const target = { case: "mailboxLeaseId", value: mailboxId } as const;
    const payload = Buffer.alloc(20_000);
    crons.push((await openCron(tenant, { schedule: perSecond, payload, target }, { sizeBytes: 20_000n })).leaseId);
  }
  // Each transaction fires two hundred of these at most, so that a sweeper has not done before it is killed.
  for (const leaseId of crons) {
    await letPass(database, leaseId, 400);
  }
  let sweepers = await Promise.all([startSweeper(), startSweeper()]);
  for (let kills = 0; kills < 4; kills++) {
    // One that fires: it waits for the lease's lock in its transaction, or has just committed one.
    await mail.pullMessages({
      leaseId: mailboxId,
      maxMessages: 1 + Math.floor(Math.random() * 100),
      waitTimeout: { seconds: 20n },
    });
    const [doomed, ...others] = Math.random() < 0.5 ? sweepers : sweepers.toReversed();
    await kill(required(doomed));
    sweepers = [...others, await startSweeper()] as typeof sweepers;
  }
  await Promise.all(sweepers.map(kill));
  await buildCronFirer(leasehold.core).fireDue();
  await Promise.all(crons.map((leaseId) => cronsOf(tenant).pauseCron({ leaseId })));

  const messages = (await openedMessages(tenant, mailboxId)).map(({ attributes }) => attributes);
  for (const leaseId of crons) {
    const slots = messages
      .filter((attributes) => attributes["cron-lease-id"] === leaseId)
      .map((attributes) => Date.parse(`${attributes["cron-slot-time"]}`))
      .sort((one, other) => one - other);
    expect(slots.length).toBeGreaterThan(400);
    const first = required(slots[0]);
    expect(slots).toEqual(slots.map((_, index) => first + index * 1_000));
    expect(await slotsRecorded(leaseId)).toEqual(slots);
  }
});

test("a sweeper that is killed in the middle of a firing has fired nothing, and another fires all of it", async () => {
  const { leaseId: mailboxId } = await openMailbox(tenant);
  const { leaseId } = await openCron(tenant, { target: { case: "mailboxLeaseId", value: mailboxId } });
  await letPass(database, leaseId, 1_201);
  await database.transaction(async (transaction) => {
    // Behind the locks of the leases and of the schedule, and before what it does is committed.
    await query(transaction, "select from mailbox where lease_id = $1 for update", [leaseUuid(mailboxId)]);
    const sweeper = await startSweeper();
    await lockWaiters(database, 1);
    await kill(sweeper);
    expect(await slotsRecorded(leaseId)).toEqual([]);
  });
  await buildCronFirer(leasehold.core).fireDue();
  expect(await openedMessages(tenant, mailboxId)).toHaveLength(2);
  expect(await slotsRecorded(leaseId)).toHaveLength(2);
});

/** The slots of a lease that are recorded as delivered, in milliseconds, oldest first. */
async function slotsRecorded(leaseId: string): Promise<number[]> {
  const rows = await query<{ slot: bigint }>(
    database,
    `select floor(extract(epoch from slot_time) * 1000)::bigint as slot from cron_run
    where lease_id = $1 and outcome = 2 and deliver_time is not null
    order by slot_time`,
    [leaseUuid(leaseId)],
  );
  return rows.map(({ slot }) => Number(slot));
}
