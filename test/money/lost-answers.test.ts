/** Promise 1: no retry and no crash between a call and its answer charges twice, or hides that it may have been done. */
import { randomUUID } from "node:crypto";
import { Code } from "@connectrpc/connect";
import { afterAll, expect, test } from "vitest";
import { seenError } from "../server/seen-error.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { expectSoundMoney } from "../support/sound-money.ts";
import { Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { WayToPostgres } from "../support/way-to-postgres.ts";

const steady = await TestLeasehold.start();
const way = await WayToPostgres.open(steady.databaseUrl);
const shaken = await TestLeasehold.start({ beside: steady, way: async () => way.url });
afterAll(() => way.close());

/** Ends the connections that wait for a lock, as a crash of their backends would: nothing of their statements is done. */
const endWaiting =
  "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";

/** Runs a call of which the server is not told what became, although it was done. */
async function withLostAnswer<Result>(tenant: Tenant, call: () => Promise<Result>): Promise<Result> {
  await tenant.at(shaken).create();
  const leases = await tenant.leaseCount();
  way.loseAnswers();
  const running = call();
  running.catch(() => "told by whoever awaits it");
  while ((await tenant.leaseCount()) === leases) {
    // The count is the signal that the statement has committed.
  }
  way.break();
  return await running;
}

test("a create with a request_id whose answer was lost finds what it made, and charges once", async () => {
  const tenant = await Tenant.open(steady);
  const requestId = randomUUID();
  const made = await withLostAnswer(tenant, () => tenant.at(shaken).create({ requestId }));
  expect((await tenant.create({ requestId })).leaseId).toBe(made.leaseId);
  expect(await tenant.leaseCount()).toBe(2n);
  await expectSoundMoney(steady.database);
});

test("a create without a request_id whose answer was lost is OUTCOME_UNKNOWN, and is not sent again", async () => {
  const tenant = await Tenant.open(steady);
  const lost = await seenError(withLostAnswer(tenant, () => tenant.at(shaken).create()));
  expect(lost.code).toBe(Code.Unknown);
  expect(lost.details).toEqual({ ErrorInfo: expect.objectContaining({ reason: "OUTCOME_UNKNOWN" }) });
  expect(await tenant.leaseCount()).toBe(2n);
  await expectSoundMoney(steady.database);
});

test.each([
  ["with a request_id is UNAVAILABLE, to be repeated", { requestId: randomUUID() }, "DATABASE_UNAVAILABLE"],
  ["without one is OUTCOME_UNKNOWN, to be looked for", {}, "OUTCOME_UNKNOWN"],
])("a create whose statement broke before it was done, %s, and nothing is charged", async (_, request, reason) => {
  const tenant = await Tenant.open(steady);
  await tenant.at(shaken).create();
  const refused = await steady.database.transaction(async (transaction) => {
    await query(transaction, "select from account where owner_id = $1 for update", [tenant.ownerId]);
    const waiting = seenError(tenant.at(shaken).create(request));
    await lockWaiters(steady.database, 1);
    await query(steady.database, endWaiting);
    return await waiting;
  });
  expect(refused.details.ErrorInfo).toMatchObject({ reason });
  expect(refused.details.RetryInfo !== undefined).toBe(reason === "DATABASE_UNAVAILABLE");
  expect(await tenant.leaseCount()).toBe(1n);
  await expectSoundMoney(steady.database);
});
