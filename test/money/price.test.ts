/** Design 4, prices: exact in any size, rounded up, never below the minimum, and never a stale one. */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { Lease_Variant, LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { priceMicros } from "../../src/pricing/price.ts";
import { priceLease } from "../../src/pricing/pricing-book.ts";
import { seenError, seenReason } from "../server/seen-error.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { expectSoundMoney } from "../support/sound-money.ts";
import { required, Tenant } from "../support/tenant.ts";
import { adminToken, TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";

const first = await TestLeasehold.start({ settings: { LEASEHOLD_MAX_FILE_BYTES: `${2n ** 40n}` } });
const second = await TestLeasehold.start({ beside: first, settings: { LEASEHOLD_MAX_FILE_BYTES: `${2n ** 40n}` } });
const admin = first.client(AdminService, adminToken);
const defaults = { rateMicrosPerGibDay: 1_000n, minChargeMicros: 1_000n, firingMicros: 1n };

afterEach(async () => {
  await admin.setPricing({ ...defaults, minDuration: { seconds: 60n }, maxDuration: { seconds: 31_536_000n } });
});

test("a price is the exact one rounded up to a whole micro-dollar, and at least the minimum charge", () => {
  const upTo = (max: bigint) => fc.bigInt({ min: 0n, max });
  fc.assert(
    fc.property(
      upTo(2n ** 46n),
      upTo(3_153_600_000n),
      upTo(10n ** 15n),
      upTo(10n ** 6n),
      (size, seconds, rate, minimum) => {
        const price = priceMicros(
          { rateMicrosPerGibDay: rate, minChargeMicros: minimum, firingMicros: 1n },
          size,
          seconds,
        );
        const scale = 2n ** 30n * 86_400n;
        const exact = size * seconds * rate;
        expect(price >= minimum && price * scale >= exact).toBe(true);
        expect(price === minimum || (price - 1n) * scale < exact).toBe(true);
      },
    ),
    { includeErrorInReport: true },
  );
});

test.each([
  ["1 MiB for an hour", 2n ** 20n, 3_600n, 1_000n],
  ["1 GiB for a day", 2n ** 30n, 86_400n, 1_000n],
  ["1 GiB and a byte for a day", 2n ** 30n + 1n, 86_400n, 1_001n],
  ["1 TiB for a year", 2n ** 40n, 31_536_000n, 373_760_000n],
])("%s costs what is said, quoted by RPC and by HTTP, and charged", async (_, sizeBytes, seconds, expected) => {
  const tenant = await Tenant.open(first, 400_000_000n);
  const quotes = first.client(LeaseService);
  const quoted = await quotes.quoteLease({ variant: Lease_Variant.STORAGE, sizeBytes, duration: { seconds } });
  expect(quoted.priceMicros).toBe(expected);
  const search = `variant=storage&size_bytes=${sizeBytes}&duration_seconds=${seconds}`;
  const response = await fetch(`${first.httpUrl}/api/quote?${search}`);
  expect(await response.json()).toMatchObject({ priceMicros: `${expected}` });
  const lease = await tenant.create({ sizeBytes, duration: { seconds } });
  expect(lease.priceMicros).toBe(expected);
  expect(await tenant.balanceMicros()).toBe(400_000_000n - expected);
});

test("a price that no account can hold is out of bounds, and not a fault", () => {
  const terms = {
    ...defaults,
    rateMicrosPerGibDay: 10n ** 15n,
    pricingVersion: 1n,
    minDurationSeconds: 1n,
    maxDurationSeconds: 10n ** 10n,
  };
  const bounds = { minSizeBytes: 1n, maxSizeBytes: 2n ** 46n };
  const room = { bounds, sizeBytes: 2n ** 46n, durationSeconds: 3_153_600_000n };
  expect(() => priceLease(terms, room)).toThrow(expect.objectContaining({ reason: "OUT_OF_BOUNDS" }));
});

const everyHour = { kind: { case: "every", value: { seconds: 3_600n } } } as const;

test("the worked examples are what a quote says, whatever the rate", async () => {
  const quotes = first.client(LeaseService);
  for (const rateMicrosPerGibDay of [1_000n, 123_457n]) {
    await admin.setPricing({ rateMicrosPerGibDay });
    const pricing = required((await quotes.getPricing({})).pricing);
    const shown = new Set(pricing.examples.map(({ variant }) => variant));
    expect(shown).toEqual(new Set(pricing.variants.map(({ variant }) => variant)));
    for (const { variant, sizeBytes, duration, priceMicros, firings } of pricing.examples) {
      const quoted = await quotes.quoteLease({
        variant: Lease_Variant[variant.toUpperCase() as keyof typeof Lease_Variant],
        sizeBytes,
        duration: required(duration),
        ...(variant === "cron" ? { schedule: everyHour } : {}),
      });
      expect(quoted).toMatchObject({ priceMicros, firings });
    }
  }
});

test("a price that rose elsewhere since the quote is charged as it is now, or refused by max_price_micros", async () => {
  const tenant = (await Tenant.open(first)).at(second);
  await tenant.create();
  await admin.setPricing({ minChargeMicros: 7_000n });
  const refused = await seenError(tenant.create({ maxPriceMicros: 1_000n }));
  expect(refused.details.ErrorInfo).toMatchObject({
    reason: "PRICE_TOO_HIGH",
    metadata: { price_micros: "7000", max_price_micros: "1000" },
  });
  expect((await tenant.create()).priceMicros).toBe(7_000n);
  await expectSoundMoney(first.database);
});

test("a price, or a bound, that fell elsewhere is not refused by what is remembered here", async () => {
  await admin.setPricing({ minChargeMicros: 7_000n, maxDuration: { seconds: 600n } });
  const tenant = (await Tenant.open(first)).at(second);
  await tenant.create({ duration: { seconds: 600n } });
  await admin.setPricing({ ...defaults, maxDuration: { seconds: 31_536_000n } });
  expect((await tenant.create({ maxPriceMicros: 1_000n })).priceMicros).toBe(1_000n);
});

test("a create that waited for its account while the price was changed is charged the new one", async () => {
  const tenant = await Tenant.open(first);
  const create = await first.database.transaction(async (transaction) => {
    await query(transaction, "select from account where owner_id = $1 for update", [tenant.ownerId]);
    const waiting = tenant.create({ requestId: randomUUID() });
    await lockWaiters(first.database, 1);
    await admin.setPricing({ minChargeMicros: 9_000n });
    return { waiting };
  });
  expect((await create.waiting).priceMicros).toBe(9_000n);
  await expectSoundMoney(first.database);
});

test("of many changes of pricing at once on two servers each takes effect, one after the other", async () => {
  const operators = [first, second].map((server) => server.client(AdminService, adminToken));
  const before = required((await admin.setPricing({})).pricing).pricingVersion;
  const changed = await Promise.all(
    Array.from({ length: 12 }, (_, index) =>
      operators[index % 2]?.setPricing({ minChargeMicros: BigInt(2_000 + index) }),
    ),
  );
  const versions = changed.map((answer) => Number(answer?.pricing?.pricingVersion)).sort((a, b) => a - b);
  expect(versions).toEqual(Array.from({ length: 12 }, (_, index) => Number(before) + 1 + index));
});

test("a shortest duration above the longest is refused, and changes nothing", async () => {
  const refused = seenReason(admin.setPricing({ minDuration: { seconds: 600n }, maxDuration: { seconds: 60n } }));
  expect(await refused).toBe("OUT_OF_BOUNDS");
  const pricing = required((await first.client(LeaseService).getPricing({})).pricing);
  expect(pricing.minDuration?.seconds).toBe(60n);
});
