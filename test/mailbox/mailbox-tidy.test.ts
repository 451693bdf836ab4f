import { expect, test } from "vitest";
import { MailboxService } from "#gen/leasehold/v1/mailbox_pb.js";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { Dropper, openMailbox, storedMessages } from "./mail.ts";

const leasehold = await TestLeasehold.start();
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);
const owner = leasehold.client(MailboxService, tenant.account.apiKey);
const dropper = new Dropper(leasehold);
const states = { ready: 1, waiting: 2, blocked: 3, dead: 4 };

test("a message whose last hold is over dies by the sweep, and its group goes on, although nobody receives", async () => {
  const { leaseId, dropToken } = await openMailbox(tenant, { maxDeliveries: 1 });
  await dropper.drop(dropToken, { group: "g", body: "first" });
  await dropper.drop(dropToken, { group: "g", body: "second" });
  await owner.pullMessages({ leaseId });
  await leasehold.sweep();
  expect(await statesOf(leaseId)).toEqual([states.waiting, states.blocked]);
  await endHolds(leaseId);
  await leasehold.sweep();
  expect(await statesOf(leaseId)).toEqual([states.dead, states.ready]);
});

test("a message whose hold is over and that may be delivered again is left as it is", async () => {
  const { leaseId, dropToken } = await openMailbox(tenant, { maxDeliveries: 2 });
  await dropper.drop(dropToken);
  await owner.pullMessages({ leaseId });
  await endHolds(leaseId);
  await leasehold.sweep();
  expect(await statesOf(leaseId)).toEqual([states.waiting]);
});

test("every mailbox has its turn, also where one round cannot look at all", async () => {
  const variant = leasehold.core.variants.named("mailbox");
  const leaseIds: string[] = [];
  for (let mailbox = 0; mailbox < 5; mailbox++) {
    const { leaseId, dropToken } = await openMailbox(tenant, { maxDeliveries: 1 });
    await dropper.drop(dropToken);
    await owner.pullMessages({ leaseId });
    await endHolds(leaseId);
    leaseIds.push(leaseId);
  }
  for (let round = 0; round < 5; round++) {
    await variant.tidy?.(2);
  }
  for (const leaseId of leaseIds) {
    expect(await statesOf(leaseId)).toEqual([states.dead]);
  }
});

async function statesOf(leaseId: string): Promise<number[]> {
  return (await storedMessages(database, leaseId)).map(({ state }) => state);
}

async function endHolds(leaseId: string): Promise<void> {
  await query(
    database,
    "update message set visible_time = clock_timestamp() - interval '1 second' where lease_id = $1 and is_held",
    [leaseUuid(leaseId)],
  );
}
