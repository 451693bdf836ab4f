/** Promise 1, money: every movement's entries sum to zero, and a balance is the sum of its entries, whatever is refused. */
import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { ListLedgerEntriesRequestSchema } from "#gen/leasehold/v1/account_pb.js";
import { expectSoundMoney } from "../support/sound-money.ts";
import { type HouseAccount, leasePriceMicros, TestHouse } from "../support/test-house.ts";
import { query } from "../support/test-query.ts";

const house = await TestHouse.open();

test("after concurrent charges, refunds and credits every balance is the sum of its entries", async () => {
  const accounts = await Promise.all([3n, 10n, 0n].map((leases) => house.openAccount(leases * leasePriceMicros)));
  await Promise.all(accounts.flatMap((account) => Array.from({ length: 40 }, (_, index) => spend(account, index))));
  await expectSoundMoney(house.database);
});

test("refused charges and credits, repeats and keys that are given ceilings leave the ledger sound", async () => {
  const account = await house.openAccount(2n * leasePriceMicros);
  const requestId = randomUUID();
  const bounded = await house.makeKey(account.call, { spendCeilingMicros: 1n });
  await Promise.allSettled([
    ...Array.from({ length: 16 }, () => house.credit(account.accountId, 7n, requestId)),
    ...Array.from({ length: 8 }, () => house.credit(account.accountId, 8n, requestId)),
    ...Array.from({ length: 8 }, () => house.lease(bounded.call)),
    ...Array.from({ length: 8 }, () => house.lease(account.call)),
    house.credit(account.accountId, 10n ** 18n),
  ]);
  await expectSoundMoney(house.database);
  const [row] = await query<{ movements: bigint }>(
    house.database,
    "select count(distinct transaction_id) as movements from ledger_entry where owner_id = $1",
    [account.ownerId],
  );
  expect(row?.movements).toBe(1n + 1n + 2n);
});

test("any sequence of credits, charges and refunds leaves a ledger whose entries follow each other", async () => {
  const steps = fc.array(fc.constantFrom("credit", "charge", "refund"), { minLength: 1, maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(steps, async (sequence) => {
      const account = await house.openAccount(0n);
      const leases: Awaited<ReturnType<TestHouse["lease"]>>[] = [];
      for (const step of sequence) {
        const lease = step === "refund" ? leases.pop() : undefined;
        if (step === "credit") {
          await house.credit(account.accountId, 1500n);
        } else if (step === "charge") {
          leases.push(...(await Promise.allSettled([house.lease(account.call)])).flatMap(fulfilled));
        } else if (lease !== undefined) {
          await house.refund(account.call, lease);
        }
      }
      const request = create(ListLedgerEntriesRequestSchema, { pageSize: 1000 });
      const { entries = [] } = await house.account.listLedgerEntries(request, account.call);
      let balance = 0n;
      for (const entry of entries.toReversed()) {
        balance += entry.amountMicros ?? 0n;
        expect(entry.balanceAfterMicros).toBe(balance);
        expect(balance).toBeGreaterThanOrEqual(0n);
      }
    }),
    { numRuns: 15 },
  );
  await expectSoundMoney(house.database);
});

/** One of the things that happen to an account. What is refused is refused. */
async function spend(account: HouseAccount, index: number): Promise<void> {
  if (index % 4 === 0) {
    await house.credit(account.accountId, 1500n);
    return;
  }
  const [lease] = (await Promise.allSettled([house.lease(account.call)])).flatMap(fulfilled);
  if (lease !== undefined && index % 4 !== 1) {
    await Promise.all([house.refund(account.call, lease), house.refund(account.call, lease)]);
  }
}

function fulfilled<Value>(outcome: PromiseSettledResult<Value>): Value[] {
  if (outcome.status === "fulfilled") {
    return [outcome.value];
  }
  expect(outcome.reason).toMatchObject({ reason: "PAYMENT_REQUIRED" });
  return [];
}
