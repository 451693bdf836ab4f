/** Promise 1: money stays sound under every mix of calls, on any number of servers. */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { seenReason } from "../server/seen-error.ts";
import { expectSoundMoney } from "../support/sound-money.ts";
import { tellingAtOnce } from "../support/telling-at-once.ts";
import { doors, type RpcDoor, roomForAnHour, Tenant } from "../support/tenant.ts";
import { adminToken, TestLeasehold } from "../support/test-leasehold.ts";

const first = await TestLeasehold.start();
const second = await TestLeasehold.start({ beside: first });
const servers = [first, second];

/** What a lease of roomForAnHour costs: the minimum charge. */
const priceMicros = 1_000n;

type Step =
  | {
      readonly kind: "create";
      readonly server: number;
      readonly door: RpcDoor;
      readonly key: number;
      readonly twin: number;
    }
  | { readonly kind: "store" | "delete" | "sweep"; readonly server: number; readonly lease: number }
  | { readonly kind: "credit"; readonly server: number; readonly twin: number };

const server = fc.nat({ max: 1 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("create" as const),
      server,
      door: fc.constantFrom(...doors),
      key: fc.nat({ max: 2 }),
      twin: fc.nat({ max: 12 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("store" as const), server, lease: fc.nat({ max: 40 }) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("delete" as const), server, lease: fc.nat({ max: 40 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("sweep" as const), server, lease: fc.nat({ max: 40 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("credit" as const), server, twin: fc.nat({ max: 3 }) }) },
);

test("every balance is the sum of its entries after any concurrent mix of creates, twins, uploads, deletes, sweeps and credits", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60 }), async (steps) => {
      const run = await MoneyRun.open();
      const results = await Promise.allSettled(steps.map((one) => run.take(one)));
      for (const reason of await reasonsOf(results)) {
        expect(["PAYMENT_REQUIRED", "SPEND_CEILING"]).toContain(reason);
      }
      await expectSoundMoney(first.database);
    }),
    { numRuns: 6, ...tellingAtOnce },
  );
});

test("an account that can pay for three leases gets three, however many are asked for at once on two servers", async () => {
  const tenant = await Tenant.open(first, 3n * priceMicros + 999n);
  const calls = Array.from({ length: 40 }, (_, index) => tenant.at(serverOf(index)).leases.createLease(roomForAnHour));
  const results = await Promise.allSettled(calls);
  expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(3);
  expect(new Set(await reasonsOf(results))).toEqual(new Set(["PAYMENT_REQUIRED"]));
  expect(await tenant.balanceMicros()).toBe(999n);
  await expectSoundMoney(first.database);
});

test("a key with a ceiling spends no more than it, however many leases are asked for at once on two servers", async () => {
  const tenant = await Tenant.open(first);
  const { apiKey } = await tenant.accounts.createApiKey({ name: "bounded", spendCeilingMicros: 5n * priceMicros });
  const calls = Array.from({ length: 40 }, (_, index) => {
    const by = tenant.by(index % 2 === 0 ? apiKey : tenant.account.apiKey);
    return by.at(serverOf(index >> 1)).leases.createLease(roomForAnHour);
  });
  const results = await Promise.allSettled(calls);
  const ofBounded = results.filter((_, index) => index % 2 === 0);
  expect(ofBounded.filter(({ status }) => status === "fulfilled")).toHaveLength(5);
  expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(25);
  expect(new Set(await reasonsOf(ofBounded))).toEqual(new Set(["SPEND_CEILING"]));
  await expectSoundMoney(first.database);
});

test("a refund gives a key's ceiling its room back", async () => {
  const tenant = await Tenant.open(first);
  const { apiKey } = await tenant.accounts.createApiKey({ name: "bounded", spendCeilingMicros: priceMicros });
  const bounded = tenant.by(apiKey);
  const { leaseId } = await bounded.create();
  expect(await seenReason(bounded.create())).toBe("SPEND_CEILING");
  await tenant.leases.deleteLease({ leaseId });
  await bounded.create();
  await expectSoundMoney(first.database);
});

async function reasonsOf(results: readonly PromiseSettledResult<unknown>[]): Promise<unknown[]> {
  const rejected = results.filter((result) => result.status === "rejected");
  return await Promise.all(rejected.map(({ reason }) => seenReason(Promise.reject(reason))));
}

function serverOf(index: number): TestLeasehold {
  return index % 2 === 0 ? first : second;
}

/** One account with three keys, two of them with ceilings, and what its calls made. */
class MoneyRun {
  readonly #tenants: readonly Tenant[];
  readonly #requestIds = Array.from({ length: 10 }, () => randomUUID());
  readonly #creditIds = Array.from({ length: 3 }, () => randomUUID());
  readonly #leaseIds: string[] = [];

  private constructor(tenants: readonly Tenant[]) {
    this.#tenants = tenants;
  }

  static async open(): Promise<MoneyRun> {
    const tenant = await Tenant.open(first, 15n * priceMicros);
    const ceilings = [4n * priceMicros, 9n * priceMicros + 1n];
    const keys = await Promise.all(
      ceilings.map((spendCeilingMicros) => tenant.accounts.createApiKey({ name: "bounded", spendCeilingMicros })),
    );
    return new MoneyRun([tenant, ...keys.map(({ apiKey }) => tenant.by(apiKey))]);
  }

  async take(step: Step): Promise<void> {
    const at = servers[step.server] ?? first;
    switch (step.kind) {
      case "create": {
        const by = (this.#tenants[step.key] ?? this.#owner).at(at);
        const requestId = this.#requestIds[step.twin] ?? "";
        const { lease } = await by.leasesAt(step.door).createLease({ ...roomForAnHour, requestId });
        this.#leaseIds.push(lease?.leaseId ?? "");
        return;
      }
      case "store":
        await this.#owner.at(at).put(await this.#lease(step.lease), Buffer.from("some content"));
        return;
      case "delete":
        await this.#owner.at(at).leases.deleteLease({ leaseId: await this.#lease(step.lease) });
        return;
      case "sweep":
        await this.#owner.age(await this.#lease(step.lease), 3_600);
        await at.sweep();
        return;
      case "credit": {
        const admin = at.client(AdminService, adminToken);
        const requestId = this.#creditIds[step.twin] ?? "";
        await admin.creditAccount({ accountId: this.#owner.account.accountId, amountMicros: 2_500n, requestId });
      }
    }
  }

  get #owner(): Tenant {
    const [owner] = this.#tenants;
    if (owner === undefined) {
      throw new Error("a run has an owner");
    }
    return owner;
  }

  /** A lease that was made so far, or one made for this step. */
  async #lease(index: number): Promise<string> {
    return this.#leaseIds[index % Math.max(1, this.#leaseIds.length)] ?? (await this.#owner.create()).leaseId;
  }
}
