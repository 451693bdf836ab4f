import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { lockWaiters } from "../support/lock-wait.ts";
import { ServerProcess } from "../support/server-process.ts";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { type Dropped, Dropper, mailboxOf, openedMessages, openMailbox, storedMessages } from "./mail.ts";

/** The server that goes on. Those that are killed are processes of their own beside it. */
const leasehold = await TestLeasehold.start();
const { database, databaseUrl } = leasehold;
const { dataDir } = leasehold.core.config;
const tenant = await Tenant.open(leasehold);
const dropper = new Dropper(leasehold);
const callers = 50;
const answersBeforeKill = 500;

test("a drop that was answered is there after its server was killed amid others, and each is there once", async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const { leaseId, dropToken } = await openMailbox(tenant, { webhookUrl: "https://example.com/hook" });
  const answered = new Map<string, string>();
  const enough = Promise.withResolvers<void>();
  const doomedDropper = new Dropper(doomed);
  const dropUntilKilled = async (caller: number) => {
    for (let drop = 0; ; drop++) {
      const body = `${caller} ${drop}`;
      const dropped = await doomedDropper.drop(dropToken, { body }).catch(() => undefined);
      if (dropped === undefined) {
        return;
      }
      answered.set(body, dropped.messageId);
      if (answered.size === answersBeforeKill) {
        enough.resolve();
      }
    }
  };
  const dropping = Array.from({ length: callers }, (_, caller) => dropUntilKilled(caller));
  await enough.promise;
  await doomed.kill();
  await Promise.all(dropping);
  const opened = await settledMessages(leaseId);
  const kept = new Map(opened.map(({ messageId, body }) => [`${body}`, messageId]));
  expect(kept.size).toBe(opened.length);
  for (const [body, messageId] of answered) {
    expect(kept.get(body)).toBe(messageId);
  }
  const bodyBytes = opened.reduce((sum, { body }) => sum + body.length, 0);
  expect(await mailboxOf(tenant, leaseId)).toMatchObject({
    messageCount: BigInt(opened.length),
    usedBytes: BigInt(bodyBytes + 256 * opened.length),
  });
  const [row] = await query<{ announced: bigint }>(
    database,
    "select count(*) as announced from webhook_delivery where lease_id = $1",
    [leaseUuid(leaseId)],
  );
  expect(row?.announced).toBe(BigInt(opened.length));
});

test("a drop whose answer died with its server is found again by its request_id at another, and is there once", async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const { leaseId, dropToken } = await openMailbox(tenant);
  const drop = { requestId: randomUUID(), body: "once" };
  await killWhileDropWaits(doomed, leaseId, () => new Dropper(doomed).drop(dropToken, drop));
  // The statement that waited is done although nobody is left to hear of it.
  const again = await dropper.drop(dropToken, drop);
  expect(await dropper.drop(dropToken, drop)).toEqual(again);
  expect(await openedMessages(tenant, leaseId)).toMatchObject([{ ...again, body: Buffer.from("once") }]);
});

test("a drop whose statement was killed with its server was not kept, and its repeat is", async () => {
  await using doomed = await ServerProcess.start({ databaseUrl, dataDir });
  const { leaseId, dropToken } = await openMailbox(tenant);
  const drop = { requestId: randomUUID(), body: "once" };
  await killWhileDropWaits(
    doomed,
    leaseId,
    () => new Dropper(doomed).drop(dropToken, drop),
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
  );
  expect(await storedMessages(database, leaseId)).toHaveLength(0);
  const { sequence } = await dropper.drop(dropToken, drop);
  expect(sequence).toBe(1n);
  expect(await storedMessages(database, leaseId)).toHaveLength(1);
});

/** Kills a server while a drop at it waits for the lease, and its statement too if told how. */
async function killWhileDropWaits(
  doomed: ServerProcess,
  leaseId: string,
  drop: () => Promise<Dropped>,
  alsoKill?: string,
): Promise<void> {
  await database.transaction(async (transaction) => {
    await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(leaseId)]);
    const lost = drop().catch((error: unknown) => error);
    await lockWaiters(database, 1);
    await doomed.kill();
    expect(await lost).toBeInstanceOf(Error);
    if (alsoKill !== undefined) {
      await query(database, alsoKill);
    }
  });
}

/** The messages of a mailbox once no statement of a killed server goes on. */
async function settledMessages(leaseId: string) {
  await query(database, "select from lease where lease_id = $1 for update", [leaseUuid(leaseId)]);
  return await openedMessages(tenant, leaseId);
}
