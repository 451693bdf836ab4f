/** What a Cron lease is made from and costs, what it shows, and what is refused without a charge. */
import { randomUUID } from "node:crypto";
import { describe, expect, test, vi } from "vitest";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { CronDetails_State, CronSpec_Misfire, CronSpec_Overlap } from "#gen/leasehold/v1/cron_pb.js";
import { Lease_Variant, LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { maxCronSeconds, maxFirings } from "../../src/cron/cron-details.ts";
import { findCrons } from "../../src/cron/cron-statements.ts";
import { formatId } from "../../src/ids/ids.ts";
import { openMailbox } from "../mailbox/mail.ts";
import { openPad } from "../scratchpad/pad.ts";
import { seenError } from "../server/seen-error.ts";
import { askFor, type LeaseInit, required, Tenant } from "../support/tenant.ts";
import { adminToken, TestLeasehold } from "../support/test-leasehold.ts";
import { type CronInit, cronOf, openCron } from "./schedules.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold, 1_000_000_000n);
const other = await Tenant.open(leasehold);
const admin = leasehold.client(AdminService, adminToken);
const quotes = leasehold.client(LeaseService);
const { leaseId: mailboxId } = await openMailbox(tenant, { maxMessageBytes: 100 });
const padId = await openPad(tenant, { maxEntryBytes: 100 });

const webhook = { target: { case: "webhookUrl", value: "https://example.com/hook" } } as const;
const every = (seconds: bigint) => ({ kind: { case: "every", value: { seconds } } }) as const;
const expression = (value: string) => ({ kind: { case: "expression", value } }) as const;
const at = (seconds: number) => ({ kind: { case: "at", value: { seconds: BigInt(seconds) } } }) as const;
const nowSeconds = () => Math.floor(Date.now() / 1000);

describe("a Cron lease", () => {
  test("shows what it was asked for, and when it fires next in its time zone", async () => {
    const { leaseId, lease } = await openCron(
      tenant,
      {
        schedule: expression("0 9 * * *"),
        timeZone: "Asia/Kolkata",
        contentType: "text/plain",
        target: { case: "scratchpadLeaseId", value: padId },
        scratchpadKey: "alarm",
        overlap: CronSpec_Overlap.REPLACE,
        misfire: CronSpec_Misfire.SKIP,
        maxLateness: { seconds: 90n },
        jitter: { seconds: 30n },
      },
      { duration: { seconds: 172_800n } },
    );
    expect(lease.variant).toBe(Lease_Variant.CRON);
    expect(await tenant.show(leaseId)).toEqual(lease);
    const details = await cronOf(tenant, leaseId);
    expect(details).toMatchObject({
      schedule: expression("0 9 * * *"),
      timeZone: "Asia/Kolkata",
      contentType: "text/plain",
      payloadBytes: 7n,
      target: { case: "scratchpadLeaseId", value: padId },
      scratchpadKey: "alarm",
      overlap: CronSpec_Overlap.REPLACE,
      misfire: CronSpec_Misfire.SKIP,
      maxLateness: { seconds: 90n, nanos: 0 },
      jitter: { seconds: 30n, nanos: 0 },
      state: CronDetails_State.RUNNING,
      firings: 2n,
    });
    const next = Number(details.nextSlotTime?.seconds);
    expect(next % 86_400).toBe(3.5 * 3_600);
    expect(next).toBeGreaterThan(nowSeconds());
    expect(next).toBeLessThanOrEqual(nowSeconds() + 86_400);
  });

  test("has the documented defaults, and nothing of it is shown once it has ended", async () => {
    const { leaseId, lease } = await openCron(tenant, webhook);
    const details = await cronOf(tenant, leaseId);
    expect(details).toMatchObject({
      ...webhook,
      timeZone: "UTC",
      contentType: "application/octet-stream",
      scratchpadKey: "",
      overlap: CronSpec_Overlap.ALLOW,
      misfire: CronSpec_Misfire.FIRE_ALL,
      maxLateness: { seconds: 3_600n, nanos: 0 },
      firings: 5n,
    });
    expect(details.jitter).toBeUndefined();
    const sinceStart = Number(details.nextSlotTime?.seconds) - Number(lease.createTime?.seconds);
    expect(Math.abs(sinceStart - 600)).toBeLessThanOrEqual(1);
    await tenant.leases.deleteLease({ leaseId });
    expect(await cronOf(tenant, leaseId)).toMatchObject({ state: 0, firings: 0n, timeZone: "", payloadBytes: 0n });
  });

  test("is shown in a list with all others by one look-up of their schedules", async () => {
    const lister = await Tenant.open(leasehold);
    for (let count = 0; count < 4; count++) {
      await openCron(lister, webhook);
    }
    const run = vi.spyOn(leasehold.core.database, "run");
    const { leases } = await lister.leases.listLeases({});
    const lookUps = run.mock.calls.filter(([statement]) => (statement as unknown) === findCrons);
    run.mockRestore();
    expect(lookUps).toHaveLength(1);
    expect(leases.map(({ details }) => details)).toMatchObject(
      Array(4).fill({ case: "cron", value: { state: CronDetails_State.RUNNING, firings: 5n } }),
    );
  });

  test("is made once by a request_id, with the same secret, even if its target has ended since", async () => {
    const payer = await Tenant.open(leasehold);
    const { leaseId: targetId } = await openMailbox(payer);
    const asked = (spec: CronInit, requestId: string): LeaseInit =>
      askFor({
        sizeBytes: 64n,
        requestId,
        variant: { case: "cron", value: { schedule: every(60n), ...spec } },
      } as LeaseInit);
    const posting = asked(webhook, randomUUID());
    const dropping = asked({ target: { case: "mailboxLeaseId", value: targetId } }, randomUUID());
    const before = await payer.balanceMicros();
    const [first, twin] = await Promise.all([payer.leases.createLease(posting), payer.leases.createLease(posting)]);
    const dropped = await payer.leases.createLease(dropping);
    await payer.leases.deleteLease({ leaseId: targetId });
    const again = await payer.leases.createLease(posting);
    expect(first.webhookSecret).toMatch(/^whsec_/);
    for (const repeat of [twin, again]) {
      expect(repeat.lease?.leaseId).toBe(first.lease?.leaseId);
      expect(repeat.webhookSecret).toBe(first.webhookSecret);
    }
    expect((await payer.leases.createLease(dropping)).lease?.leaseId).toBe(dropped.lease?.leaseId);
    const prices = required(first.lease).priceMicros + required(dropped.lease).priceMicros;
    expect(before - (await payer.balanceMicros())).toBe(prices);
  });
});

describe("the price", () => {
  test("is that of the room and of each firing, the same in both quotes and the charge, and refused above max_price_micros", async () => {
    // 1 MiB for an hour is a little more than 1000 micro-dollars at this rate, and rounded up.
    await admin.setPricing({ rateMicrosPerGibDay: 24_576_001n, firingMicros: 1_234n });
    try {
      const duration = { seconds: 3_600n };
      const soon = nowSeconds() + 600;
      const cases = [
        [every(600n), "", 5n, "every_seconds=600"],
        [expression("*/7 * * * *"), "Asia/Kolkata", 9n, "expression=*/7+*+*+*+*&time_zone=Asia/Kolkata"],
        [at(soon), "", 1n, `at=${new Date(soon * 1000).toISOString()}`],
      ] as const;
      for (const [schedule, timeZone, firings, search] of cases) {
        const priceMicros = 1_001n + firings * 1_234n;
        const room = { sizeBytes: 1_048_576n, duration };
        const quoted = await quotes.quoteLease({ variant: Lease_Variant.CRON, ...room, schedule, timeZone });
        expect(quoted).toMatchObject({ firings, priceMicros });
        const terms = `variant=cron&size_bytes=1048576&duration_seconds=3600&${search}`;
        const response = await fetch(`${leasehold.httpUrl}/api/quote?${terms}`);
        expect(await response.json()).toMatchObject({ firings: `${firings}`, priceMicros: `${priceMicros}` });
        const before = await tenant.balanceMicros();
        const spec = { ...webhook, schedule, timeZone };
        const tooMuch = openCron(tenant, spec, { ...room, maxPriceMicros: priceMicros - 1n });
        expect((await seenError(tooMuch)).details.ErrorInfo).toMatchObject({ reason: "PRICE_TOO_HIGH" });
        expect(await tenant.balanceMicros()).toBe(before);
        const { lease, leaseId } = await openCron(tenant, spec, { ...room, maxPriceMicros: priceMicros });
        expect(lease.priceMicros).toBe(priceMicros);
        expect((await cronOf(tenant, leaseId)).firings).toBe(firings);
        expect(before - (await tenant.balanceMicros())).toBe(priceMicros);
      }
    } finally {
      await admin.setPricing({ rateMicrosPerGibDay: 1_000n, firingMicros: 1n });
    }
  });

  test("is at least the minimum, and of as many firings as are published", async () => {
    expect((await openCron(tenant, webhook)).lease.priceMicros).toBe(1_000n);
    const most = { ...webhook, schedule: every(1n) };
    const { lease } = await openCron(tenant, most, { duration: { seconds: BigInt(maxFirings) + 1n } });
    expect(lease.details).toMatchObject({ value: { firings: BigInt(maxFirings) } });
    expect(lease.priceMicros).toBe(BigInt(maxFirings) + 1n);
  });
});

describe("nothing is charged or made", () => {
  const day = { duration: { seconds: 86_400n } };
  const intoMailbox = { target: { case: "mailboxLeaseId", value: mailboxId } } as const;
  const intoPad = { target: { case: "scratchpadLeaseId", value: padId } } as const;
  const without = { schedule: undefined } as unknown as CronInit;

  test.each<[string, CronInit, LeaseInit, string, string]>([
    ["without a schedule", { ...webhook, ...without }, {}, "INVALID_FIELD", "cron.schedule"],
    ["without a target", {}, {}, "INVALID_FIELD", "cron.target"],
    [
      "for a bad expression",
      { ...webhook, schedule: expression("61 * * * *") },
      {},
      "INVALID_FIELD",
      "cron.schedule.expression",
    ],
    ["for an unknown zone", { ...webhook, timeZone: "Mars/Olympus" }, {}, "INVALID_FIELD", "cron.time_zone"],
    ["for what never fires", { ...webhook, schedule: expression("0 0 30 2 *") }, {}, "INVALID_FIELD", "cron.schedule"],
    ["for what fires after the end", { ...webhook, schedule: every(3_600n) }, {}, "INVALID_FIELD", "cron.schedule"],
    [
      "for what fires too often",
      { ...webhook, schedule: every(1n) },
      { duration: { seconds: BigInt(maxFirings) + 2n } },
      "OUT_OF_BOUNDS",
      "firings",
    ],
    [
      "for an expression that fires too often",
      { ...webhook, schedule: expression("* * * * * *") },
      day,
      "OUT_OF_BOUNDS",
      "firings",
    ],
    [
      "for a time that has passed",
      { ...webhook, schedule: at(nowSeconds() - 60) },
      {},
      "INVALID_FIELD",
      "cron.schedule",
    ],
    ["without the key of an entry", intoPad, {}, "INVALID_FIELD", "cron.scratchpad_key"],
    ["with a key for a mailbox", { ...intoMailbox, scratchpadKey: "a" }, {}, "INVALID_FIELD", "cron.scratchpad_key"],
    ["with a key for a webhook", { ...webhook, scratchpadKey: "a" }, {}, "INVALID_FIELD", "cron.scratchpad_key"],
    [
      "for longer than the variant allows",
      webhook,
      { duration: { seconds: maxCronSeconds + 1n } },
      "OUT_OF_BOUNDS",
      "duration",
    ],
  ])("%s", async (_, spec, request, reason, field) => {
    const refused = await refusedFree(tenant, spec, request);
    expect(refused.details.ErrorInfo).toMatchObject({ reason, metadata: { field } });
    expect(refused.details.BadRequest).toBeDefined();
  });

  test.each<[string, CronInit, string, string, number]>([
    ["than the lease", { ...webhook, payload: Buffer.alloc(1_025) }, "BODY_TOO_LARGE", "size_bytes", 1_024],
    [
      "than its mailbox takes",
      { ...intoMailbox, payload: Buffer.alloc(101) },
      "BODY_TOO_LARGE",
      "max_message_bytes",
      100,
    ],
    [
      "than its scratchpad takes",
      { ...intoPad, scratchpadKey: "a", payload: Buffer.alloc(101) },
      "BODY_TOO_LARGE",
      "max_entry_bytes",
      100,
    ],
  ])("for a payload that is larger %s", async (_, spec, reason, limit, limitBytes) => {
    const refused = await refusedFree(tenant, spec);
    expect(refused.details.ErrorInfo).toMatchObject({ reason, metadata: { limit, limit_bytes: `${limitBytes}` } });
  });

  test("for a target that has ended, or is of another variant", async () => {
    const { leaseId: endedId } = await openMailbox(tenant);
    await tenant.leases.deleteLease({ leaseId: endedId });
    const { leaseId: storageId } = await tenant.create();
    const ended = await refusedFree(tenant, { target: { case: "mailboxLeaseId", value: endedId } });
    expect(ended.details.ErrorInfo).toMatchObject({ reason: "LEASE_ENDED" });
    for (const value of [padId, storageId]) {
      const refused = await refusedFree(tenant, { target: { case: "mailboxLeaseId", value } });
      expect(refused.details.ErrorInfo).toMatchObject({ reason: "WRONG_VARIANT" });
    }
    const target = { case: "scratchpadLeaseId", value: mailboxId } as const;
    const refused = await refusedFree(tenant, { target, scratchpadKey: "a" });
    expect(refused.details.ErrorInfo).toMatchObject({ reason: "WRONG_VARIANT" });
  });

  test("for another tenant's target, in the words that an unknown one is refused with", async () => {
    const unknownId = formatId("lse", randomUUID() as Parameters<typeof formatId>[1]);
    for (const [foreignId, spec] of [
      [mailboxId, (value: string): CronInit => ({ target: { case: "mailboxLeaseId", value } })],
      [padId, (value: string): CronInit => ({ target: { case: "scratchpadLeaseId", value }, scratchpadKey: "a" })],
    ] as const) {
      const foreign = await refusedFree(other, spec(foreignId));
      expect(foreign.details.ErrorInfo).toMatchObject({ reason: "NOT_FOUND" });
      expect(foreign).toEqual(await refusedFree(other, spec(unknownId)));
    }
  });
});

/** The refusal of a lease that is not made, and that has cost nothing. */
async function refusedFree(asker: Tenant, spec: CronInit, request: LeaseInit = {}) {
  const [balance, leases] = [await asker.balanceMicros(), await asker.leaseCount()];
  const refused = await seenError(openCron(asker, spec, request));
  expect([await asker.balanceMicros(), await asker.leaseCount()]).toEqual([balance, leases]);
  return refused;
}
