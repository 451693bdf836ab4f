/** What fires beside something else that goes on with the same schedule. */
import { expect, test, vi } from "vitest";
import { ApiKey_Scope } from "#gen/leasehold/v1/account_pb.js";
import { CronDetails_State, CronSpec_Overlap } from "#gen/leasehold/v1/cron_pb.js";
import { LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { MailboxService } from "#gen/leasehold/v1/mailbox_pb.js";
import { buildCronFirer } from "../../src/app.ts";
import { findCallersCron } from "../../src/cron/cron-statements.ts";
import { WebhookPost } from "../../src/webhooks/webhook-post.ts";
import { openMailbox } from "../mailbox/mail.ts";
import { WebhookReceiver } from "../mailbox/webhook-receiver.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { askFor, leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { cronOf, cronsOf, letPass, openCron, outcomesOf } from "./schedules.ts";

const leasehold = await TestLeasehold.start({ settings: { LEASEHOLD_WEBHOOK_ALLOW_PRIVATE: "1" } });
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);

async function fireDue(): Promise<number> {
  return await buildCronFirer(leasehold.core).fireDue();
}

test("a run is replaced although an attempt to post it is counted meanwhile, and counts once in what a claim delivers", async () => {
  const receiver = await WebhookReceiver.start(() => 500);
  const { leaseId } = await openCron(tenant, {
    overlap: CronSpec_Overlap.REPLACE,
    target: { case: "webhookUrl", value: receiver.url },
  });
  await letPass(database, leaseId, 601);
  await fireDue();
  await letPass(database, leaseId, 601);
  const [fired] = await database.transaction(async (transaction) => {
    const counting = "update cron_run set attempt_count = attempt_count + 1 where lease_id = $1";
    await query(transaction, counting, [leaseUuid(leaseId)]);
    const firing = fireDue();
    await lockWaiters(database, 1);
    return [firing];
  });
  await fired;
  expect(await outcomesOf(tenant, leaseId)).toEqual(["REPLACED", "PENDING"]);
});

test("a schedule is not resumed with a slot that has fired since it was looked for", async () => {
  const { leaseId: mailboxId } = await openMailbox(tenant, {});
  const { leaseId } = await openCron(tenant, { target: { case: "mailboxLeaseId", value: mailboxId } });
  const crons = cronsOf(tenant);
  await letPass(database, leaseId, 601);
  await fireDue();
  await crons.pauseCron({ leaseId });
  const { core } = leasehold;
  const run = core.database.run.bind(core.database);
  const looking = vi.spyOn(core.database, "run").mockImplementation(async (statement, values, options) => {
    const rows = await run(statement, values, options);
    if ((statement as unknown) !== findCallersCron) {
      return rows;
    }
    looking.mockRestore();
    return rows.map((row) =>
      Object.assign(row as object, { now: (row as { readonly now: bigint }).now - 600_000_000n }),
    ) as typeof rows;
  });
  const { state, nextSlotTime } = await crons.resumeCron({ leaseId });
  expect(state).toBe(CronDetails_State.RUNNING);
  expect(Number(nextSlotTime?.seconds)).toBeGreaterThan(Date.now() / 1000 - 1);
  await fireDue();
  expect(await outcomesOf(tenant, leaseId)).toEqual(["DELIVERED"]);
});

test("slots that are found together are delivered in transactions of bounded size", async () => {
  const mebibyte = 1_048_576n;
  const { leaseId: mailboxId } = await openMailbox(
    tenant,
    { maxMessageBytes: Number(mebibyte) },
    { sizeBytes: 64n * mebibyte },
  );
  const { leaseId } = await openCron(
    tenant,
    {
      schedule: { kind: { case: "every", value: { seconds: 60n } } },
      payload: Buffer.alloc(Number(mebibyte)),
      target: { case: "mailboxLeaseId", value: mailboxId },
    },
    { sizeBytes: mebibyte },
  );
  await letPass(database, leaseId, 601);
  const transactions = vi.spyOn(leasehold.core.database, "transaction");
  await fireDue();
  expect(transactions).toHaveBeenCalledTimes(3);
  transactions.mockRestore();
  expect(await outcomesOf(tenant, leaseId)).toEqual(Array(10).fill("DELIVERED"));
  const mail = leasehold.client(MailboxService, tenant.account.apiKey);
  expect((await mail.listMessages({ leaseId: mailboxId, pageSize: 3 })).messages).not.toEqual([]);
});

test("a lease's end leaves no run, although an attempt to post it is counted meanwhile", async () => {
  const receiver = await WebhookReceiver.start(() => 500);
  const { leaseId } = await openCron(tenant, { target: { case: "webhookUrl", value: receiver.url } });
  await letPass(database, leaseId, 601);
  await fireDue();
  const [ended] = await database.transaction(async (transaction) => {
    const counting = "update cron_run set attempt_count = attempt_count + 1 where lease_id = $1";
    await query(transaction, counting, [leaseUuid(leaseId)]);
    const ending = tenant.leases.deleteLease({ leaseId });
    await lockWaiters(database, 1);
    return [ending];
  });
  await ended;
  expect(await query(database, "select from cron_run where lease_id = $1", [leaseUuid(leaseId)])).toEqual([]);
});

test("slots of a schedule that skips overlaps are delivered one after the other, if each is at once", async () => {
  const { leaseId: mailboxId } = await openMailbox(tenant, {});
  const { leaseId } = await openCron(tenant, {
    overlap: CronSpec_Overlap.SKIP,
    target: { case: "mailboxLeaseId", value: mailboxId },
  });
  await letPass(database, leaseId, 1_801);
  await fireDue();
  expect(await outcomesOf(tenant, leaseId)).toEqual(Array(3).fill("DELIVERED"));
  expect(await cronOf(tenant, leaseId)).toMatchObject({ state: CronDetails_State.RUNNING });
});

test("a key that may create and not write fires into no lease of its owner's", async () => {
  const { leaseId: mailboxId } = await openMailbox(tenant, {});
  const { apiKey } = await tenant.accounts.createApiKey({ name: "creator", scopes: [ApiKey_Scope.CREATE] });
  const value = {
    schedule: { kind: { case: "every", value: { seconds: 600n } } },
    target: { case: "mailboxLeaseId", value: mailboxId },
  } as const;
  const creating = leasehold
    .client(LeaseService, apiKey)
    .createLease(askFor({ sizeBytes: 1_024n, variant: { case: "cron", value } }));
  await expect(creating).rejects.toThrow(/write/);
});

test("an owner with more receivers than places leaves places to others, and all of its own come to their turn", async () => {
  const others = await Tenant.open(leasehold);
  const urls: string[] = [];
  const receiver = await WebhookReceiver.start(() => 204);
  const openPosted = (owner: Tenant) =>
    openCron(owner, { target: { case: "webhookUrl", value: receiver.url } }, { sizeBytes: 1_024n });
  const many = await Promise.all(Array.from({ length: 120 }, () => openPosted(tenant)));
  const one = await openPosted(others);
  for (const { leaseId } of [...many, one]) {
    await letPass(database, leaseId, 601);
  }
  const send = vi.spyOn(WebhookPost.prototype, "send").mockImplementation(async (_url, { headers }) => {
    urls.push(headers["leasehold-lease-id"] ?? "");
    await new Promise((resolve) => setImmediate(resolve));
    return { status: 204, error: undefined };
  });
  await fireDue();
  send.mockRestore();
  expect(new Set(urls).size).toBe(121);
  expect(urls).toHaveLength(121);
  expect(urls.indexOf(one.leaseId)).toBeLessThan(100);
});
