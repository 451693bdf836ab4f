/** Design 10, rules of group commit: callers who are served by one statement get what each would have got alone. */
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { seenReason } from "../server/seen-error.ts";
import { callsGathered } from "../support/calls-in-flight.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { expectSoundMoney } from "../support/sound-money.ts";
import { tellingAtOnce } from "../support/telling-at-once.ts";
import { Tenant } from "../support/tenant.ts";
import { adminToken, TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";

const leasehold = await TestLeasehold.start();

/** So a lease for a day costs as many micro-dollars as it has bytes. */
beforeAll(async () => {
  const admin = leasehold.client(AdminService, adminToken);
  await admin.setPricing({ rateMicrosPerGibDay: 2n ** 30n, minChargeMicros: 0n });
});

interface Outcome {
  readonly priceMicros: bigint;
  readonly reason: unknown;
}

/** Creates that reach the server while the account is locked, so that all but the first of them share a statement. */
async function createTogether(by: readonly Tenant[], pricesMicros: readonly bigint[]): Promise<Outcome[]> {
  const create = async (priceMicros: bigint, index: number): Promise<Outcome> => {
    const tenant = by[index % by.length];
    const duration = { seconds: 86_400n };
    const made = tenant?.nativeLeases.createLease({
      sizeBytes: priceMicros,
      duration,
      variant: { case: "storage", value: {} },
    });
    const reason = await made?.then(
      () => "MADE",
      (error: unknown) => seenReason(Promise.reject(error)),
    );
    return { priceMicros, reason };
  };
  const { outcomes } = await leasehold.database.transaction(async (transaction) => {
    await query(transaction, "select from account where owner_id = $1 for update", [by[0]?.ownerId]);
    const leader = create(1n, 0);
    await lockWaiters(leasehold.database, 1);
    const others = pricesMicros.map((price, index) => create(price, index));
    await callsGathered(leasehold, 1 + others.length);
    return { outcomes: Promise.all([leader, ...others]) };
  });
  return await outcomes;
}

test("of a batch in which some fit and some do not, those fit that are paid for, and none is refused that is", async () => {
  const prices = fc.array(fc.bigInt({ min: 1n, max: 700n }), { minLength: 2, maxLength: 24 });
  await fc.assert(
    fc.asyncProperty(prices, fc.bigInt({ min: 1n, max: 3_000n }), async (pricesMicros, balanceMicros) => {
      const tenant = await Tenant.open(leasehold, balanceMicros);
      const outcomes = await createTogether([tenant], pricesMicros);
      const left = await tenant.balanceMicros();
      const made = outcomes.filter(({ reason }) => reason === "MADE");
      expect(made.reduce((sum, { priceMicros }) => sum + priceMicros, 0n)).toBe(balanceMicros - left);
      for (const { priceMicros, reason } of outcomes.filter((outcome) => outcome.reason !== "MADE")) {
        expect(reason).toBe("PAYMENT_REQUIRED");
        expect(priceMicros).toBeGreaterThan(left);
      }
      await expectSoundMoney(leasehold.database);
    }),
    { numRuns: 25, ...tellingAtOnce },
  );
});

test("of a batch by several keys each is held to its own ceiling, and all to the balance", async () => {
  const prices = fc.array(fc.bigInt({ min: 1n, max: 400n }), { minLength: 6, maxLength: 24 });
  const ceiling = fc.bigInt({ min: 0n, max: 1_500n });
  await fc.assert(
    fc.asyncProperty(prices, ceiling, ceiling, async (pricesMicros, firstCeiling, secondCeiling) => {
      const tenant = await Tenant.open(leasehold, 2_000n);
      const ceilings = [firstCeiling, secondCeiling];
      const keys = await Promise.all(
        ceilings.map((spendCeilingMicros) => tenant.accounts.createApiKey({ name: "bounded", spendCeilingMicros })),
      );
      const outcomes = (
        await createTogether([tenant, ...keys.map(({ apiKey }) => tenant.by(apiKey))], pricesMicros)
      ).slice(1);
      const left = await tenant.balanceMicros();
      const spent = (key: number) => spentBy(outcomes.filter((_, index) => index % 3 === key));
      outcomes.forEach(({ priceMicros, reason }, index) => {
        const keyLeft = (ceilings[(index % 3) - 1] ?? 10_000n) - spent(index % 3);
        if (reason === "PAYMENT_REQUIRED") {
          expect(priceMicros).toBeGreaterThan(left);
        } else if (reason === "SPEND_CEILING") {
          expect(priceMicros).toBeGreaterThan(keyLeft);
        } else {
          expect(reason).toBe("MADE");
        }
        expect(keyLeft).toBeGreaterThanOrEqual(0n);
      });
      await expectSoundMoney(leasehold.database);
    }),
    { numRuns: 15, ...tellingAtOnce },
  );
});

function spentBy(outcomes: readonly Outcome[]): bigint {
  return outcomes.reduce((sum, { priceMicros, reason }) => sum + (reason === "MADE" ? priceMicros : 0n), 0n);
}

describe("what is decided while a create waits for its account", () => {
  async function createDuring(tenant: Tenant, change: string, values: readonly unknown[]): Promise<unknown> {
    const { reason } = await leasehold.database.transaction(async (transaction) => {
      await query(transaction, "select from account where owner_id = $1 for update", [tenant.ownerId]);
      const waiting = tenant.create().then(
        () => "MADE",
        (error: unknown) => seenReason(Promise.reject(error)),
      );
      await lockWaiters(leasehold.database, 1);
      await query(transaction, change, values);
      return { reason: waiting };
    });
    return await reason;
  }

  test("a balance that was spent meanwhile is not spent again", async () => {
    const tenant = await Tenant.open(leasehold, 100_000n);
    const spend = "update account set balance_micros = 0 where owner_id = $1";
    expect(await createDuring(tenant, spend, [tenant.ownerId])).toBe("PAYMENT_REQUIRED");
    expect(await tenant.leaseCount()).toBe(0n);
  });

  test("an account that was suspended meanwhile makes nothing", async () => {
    const tenant = await Tenant.open(leasehold, 100_000n);
    const suspend = "update account set suspend_time = clock_timestamp() where owner_id = $1";
    expect(await createDuring(tenant, suspend, [tenant.ownerId])).toBe("ACCOUNT_SUSPENDED");
    expect(await tenant.leaseCount()).toBe(0n);
  });

  test("a key that was revoked meanwhile makes nothing", async () => {
    const tenant = await Tenant.open(leasehold, 100_000n);
    const revoke = "update api_key set revoke_time = clock_timestamp() where owner_id = $1";
    expect(await createDuring(tenant, revoke, [tenant.ownerId])).toBe("CREDENTIAL_INVALID");
    expect(await tenant.leaseCount()).toBe(0n);
  });
});
