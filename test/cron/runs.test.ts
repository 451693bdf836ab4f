/** What the owner, a claim and the operator are told of a schedule's runs, and that nothing is left of them. */
import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { ApiKey_Scope } from "#gen/leasehold/v1/account_pb.js";
import { CronDetails_State, CronService } from "#gen/leasehold/v1/cron_pb.js";
import { HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { MailboxService } from "#gen/leasehold/v1/mailbox_pb.js";
import { buildCronFirer } from "../../src/app.ts";
import { Redeemer } from "../handoff/redeemer.ts";
import { openMailbox } from "../mailbox/mail.ts";
import { openPad } from "../scratchpad/pad.ts";
import { seenReason } from "../server/seen-error.ts";
import { textsInTables } from "../support/plaintext.ts";
import { ServerProcess } from "../support/server-process.ts";
import { leaseUuid, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { type CronInit, cronOf, cronsOf, letPass, letRetryCome, openCron, outcomesOf } from "./schedules.ts";

const leasehold = await TestLeasehold.start();
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);
const crons = cronsOf(tenant);
const { RUNNING, PAUSED, FINISHED } = CronDetails_State;

async function fireDue(): Promise<number> {
  return await buildCronFirer(leasehold.core).fireDue();
}

/** A Cron lease into a mailbox of its own. */
async function cronIntoMailbox(spec: CronInit = {}, mailbox: Parameters<typeof openMailbox>[1] = {}) {
  const { leaseId: mailboxId } = await openMailbox(tenant, mailbox);
  const { leaseId } = await openCron(tenant, { ...spec, target: { case: "mailboxLeaseId", value: mailboxId } });
  return { leaseId, mailboxId };
}

describe("runs", () => {
  test("are listed page by page, newest first, each once", async () => {
    const { leaseId } = await cronIntoMailbox();
    await letPass(database, leaseId, 3_001);
    await fireDue();
    const first = await crons.listCronRuns({ leaseId, pageSize: 2 });
    const second = await crons.listCronRuns({ leaseId, pageSize: 2, pageToken: first.nextPageToken });
    const last = await crons.listCronRuns({ leaseId, pageSize: 2, pageToken: second.nextPageToken });
    expect([first, second, last].map(({ runs }) => runs.length)).toEqual([2, 2, 1]);
    expect(last.nextPageToken).toBe("");
    const slots = [first, second, last].flatMap(({ runs }) => runs).map(({ slotTime }) => Number(slotTime?.seconds));
    expect(slots.map((slot) => required(slots[0]) - slot)).toEqual([0, 600, 1_200, 1_800, 2_400]);
    const whole = await crons.listCronRuns({ leaseId, pageSize: 5 });
    expect(whole.runs).toEqual([first, second, last].flatMap(({ runs }) => runs));
    expect(whole.nextPageToken).toBe("");
    expect(await seenReason(crons.listCronRuns({ leaseId, pageToken: "?" }))).toBe("INVALID_FIELD");
    expect(await cronOf(tenant, leaseId)).toMatchObject({ state: FINISHED });
  });

  test("are counted in the metrics by how late they fired, and a slot that nobody fires makes the sweeper late", async () => {
    const { leaseId } = await cronIntoMailbox();
    await letPass(database, leaseId, 630);
    await fireDue();
    const { dataDir } = leasehold.core.config;
    await using server = await ServerProcess.start({ databaseUrl: leasehold.databaseUrl, dataDir });
    const lagSeconds = async () => {
      const ready: unknown = await (await fetch(`${server.httpUrl}/readyz`)).json();
      return (ready as { readonly sweeperLagSeconds: number }).sweeperLagSeconds;
    };
    const metrics = await (await fetch(`${server.httpUrl}/metrics`)).text();
    const [, longest] = /^leasehold_cron_firing_lag_seconds\{quantile="1"\} (\S+)$/m.exec(metrics) ?? [];
    expect(Number(longest)).toBeGreaterThanOrEqual(29);
    expect(metrics).toMatch(/^leasehold_cron_firing_lag_seconds\{quantile="0.99"\} \d/m);
    expect(await lagSeconds()).toBeLessThan(300);
    await letPass(database, leaseId, 1_200);
    expect(await lagSeconds()).toBeGreaterThan(600);
    await crons.pauseCron({ leaseId });
    expect(await lagSeconds()).toBeLessThan(300);
  });
});

describe("pausing and resuming", () => {
  test("are safe to repeat, and resuming goes on with the next slot of the same schedule", async () => {
    const { leaseId } = await cronIntoMailbox();
    const { nextSlotTime } = await cronOf(tenant, leaseId);
    expect(await crons.resumeCron({ leaseId })).toMatchObject({ state: RUNNING, nextSlotTime });
    for (let times = 0; times < 2; times++) {
      expect(await crons.pauseCron({ leaseId })).toMatchObject({ state: PAUSED });
    }
    const paused = await cronOf(tenant, leaseId);
    expect(paused.state).toBe(PAUSED);
    expect(paused.nextSlotTime).toBeUndefined();
    for (let times = 0; times < 2; times++) {
      expect(await crons.resumeCron({ leaseId })).toMatchObject({ state: RUNNING, nextSlotTime });
    }
    expect(await cronOf(tenant, leaseId)).toMatchObject({ state: RUNNING, nextSlotTime });
  });

  test("a schedule without a slot left finishes it", async () => {
    const { leaseId } = await cronIntoMailbox();
    await crons.pauseCron({ leaseId });
    await letPass(database, leaseId, 3_100);
    const resumed = await crons.resumeCron({ leaseId });
    expect(resumed.state).toBe(FINISHED);
    expect(resumed.nextSlotTime).toBeUndefined();
    expect(await crons.pauseCron({ leaseId })).toMatchObject({ state: FINISHED });
  });
});

describe("the calls about a schedule", () => {
  const calls = (by: Tenant, leaseId: string) => {
    const client = cronsOf(by);
    return [
      () => client.pauseCron({ leaseId }),
      () => client.resumeCron({ leaseId }),
      () => client.listCronRuns({ leaseId }),
    ];
  };
  const reasons = async (by: Tenant, leaseId: string) => {
    const found: unknown[] = [];
    for (const call of calls(by, leaseId)) {
      found.push(await seenReason(call()));
    }
    return new Set(found);
  };

  test("refuse leases of other variants, ended ones, and those of other tenants", async () => {
    const { leaseId, mailboxId } = await cronIntoMailbox();
    expect(await reasons(tenant, mailboxId)).toEqual(new Set(["WRONG_VARIANT"]));
    expect(await reasons(tenant, await openPad(tenant))).toEqual(new Set(["WRONG_VARIANT"]));
    expect(await reasons(await Tenant.open(leasehold), leaseId)).toEqual(new Set(["NOT_FOUND"]));
    await tenant.age(leaseId, 3_600);
    expect(await reasons(tenant, leaseId)).toEqual(new Set(["LEASE_ENDED"]));
    await tenant.leases.deleteLease({ leaseId });
    expect(await reasons(tenant, leaseId)).toEqual(new Set(["LEASE_ENDED"]));
  });

  test("let a key that may only read look, and change nothing", async () => {
    const { leaseId } = await cronIntoMailbox();
    const { apiKey } = await tenant.accounts.createApiKey({ name: "reader", scopes: [ApiKey_Scope.READ] });
    const reader = leasehold.nativeClient(CronService, apiKey);
    expect(await seenReason(reader.pauseCron({ leaseId }))).toBe("SCOPE_MISSING");
    expect(await seenReason(reader.resumeCron({ leaseId }))).toBe("SCOPE_MISSING");
    expect((await reader.listCronRuns({ leaseId })).runs).toEqual([]);
    expect(await cronOf(tenant, leaseId)).toMatchObject({ state: RUNNING });
  });
});

describe("a claim", () => {
  test("delivers the payload and the runs that were settled at its start, whatever is settled since, from any offset", async () => {
    const { leaseId, mailboxId } = await cronIntoMailbox({ contentType: "text/plain" }, { maxMessages: 2 });
    await letPass(database, leaseId, 1_801);
    await fireDue();
    expect(await outcomesOf(tenant, leaseId)).toEqual(["DELIVERED", "DELIVERED", "PENDING"]);
    const token = (await tenant.handoffs.issueHandoff({ leaseId, maxClaims: 10 })).claimToken;
    const redeemer = new Redeemer(leasehold);
    const begun = await redeemer.redeem("native", { token });
    await takeMail(mailboxId);
    await letRetryCome(database, leaseId);
    await fireDue();
    expect(await outcomesOf(tenant, leaseId)).toEqual(["DELIVERED", "DELIVERED", "DELIVERED"]);
    const whole = `${await begun.readRest()}`;
    expect(whole).toHaveLength(begun.contentBytes);
    expect(whole.slice(0, 7)).toBe("wake up");
    const lines = whole.slice(7).split("\n");
    expect(lines.pop()).toBe("");
    const { runs } = await crons.listCronRuns({ leaseId });
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual(
      runs
        .toReversed()
        .slice(0, 2)
        .map(({ slotTime, fireTime }) => ({
          slot_time: shown(slotTime),
          fire_time: shown(fireTime),
          deliver_time: shown(fireTime),
          attempt_count: 1,
          outcome: "OUTCOME_DELIVERED",
          last_error: null,
        })),
    );
    for (const offset of [1, 6, 7, 8, 7 + `${lines[0]}`.length, 8 + `${lines[0]}`.length, whole.length - 1]) {
      const { body } = await redeemer.take("connect", { token, claimId: begun.claimId, offset });
      expect(`${body}`, `${offset}`).toBe(whole.slice(offset));
    }
    const later = await items(token);
    expect(Object.keys(later)).toEqual(["payload text/plain", "runs.ndjson application/x-ndjson"]);
    const latest = `${later["runs.ndjson application/x-ndjson"]}`;
    expect(`wake up${latest}`.startsWith(whole)).toBe(true);
    expect(JSON.parse(`${latest.trim().split("\n")[2]}`)).toMatchObject({
      attempt_count: 2,
      last_error: "MAILBOX_FULL",
    });
  });

  test("delivers an empty payload, and a thousand runs, page by page", async () => {
    const { leaseId: mailboxId } = await openMailbox(tenant);
    const { leaseId } = await openCron(tenant, {
      schedule: { kind: { case: "every", value: { seconds: 1n } } },
      payload: new Uint8Array(),
      target: { case: "mailboxLeaseId", value: mailboxId },
    });
    const token = (await tenant.handoffs.issueHandoff({ leaseId, maxClaims: 10 })).claimToken;
    expect(await items(token)).toEqual({
      "payload application/octet-stream": "",
      "runs.ndjson application/x-ndjson": "",
    });
    await letPass(database, leaseId, 1_200);
    await fireDue();
    await crons.pauseCron({ leaseId });
    const text = `${(await items(token))["runs.ndjson application/x-ndjson"]}`;
    const slots = text
      .trim()
      .split("\n")
      .map((line) => Date.parse((JSON.parse(line) as { readonly slot_time: string }).slot_time));
    expect(slots.length).toBeGreaterThanOrEqual(1_200);
    expect(slots.every((slot, index) => index === 0 || slot - required(slots[index - 1]) === 1_000)).toBe(true);
  });
});

describe("of an ended schedule", () => {
  test.each([
    ["a delete", async (leaseId: string) => void (await tenant.leases.deleteLease({ leaseId }))],
    [
      "its time and a sweep",
      async (leaseId: string) => {
        await tenant.age(leaseId, 3_600);
        await leasehold.sweep();
      },
    ],
  ])("no row is left after %s, and its payload never stood in clear", async (_, end) => {
    const payload = `payloadx${randomBytes(12).toString("hex")}`;
    const contentType = `text/x${randomBytes(12).toString("hex")}`;
    const { leaseId } = await cronIntoMailbox({ payload: Buffer.from(payload), contentType }, { maxMessages: 1 });
    await letPass(database, leaseId, 1_201);
    await fireDue();
    expect(await outcomesOf(tenant, leaseId)).toEqual(["DELIVERED", "PENDING"]);
    expect(await textsInTables(database, tenant, [payload, contentType])).toEqual([]);
    await end(leaseId);
    for (const table of ["cron", "cron_run"]) {
      expect(await query(database, `select from ${table} where lease_id = $1`, [leaseUuid(leaseId)])).toEqual([]);
    }
    expect(await textsInTables(database, tenant, [payload, contentType])).toEqual([]);
  });
});

/** What a claim delivers, by name and media type. */
async function items(claimToken: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  let name = "";
  for await (const { part } of leasehold.nativeClient(HandoffService).claimHandoff({ claimToken })) {
    if (part.case === "itemStart") {
      name = `${part.value.name} ${part.value.contentType}`;
      found[name] = "";
    } else if (part.case === "data") {
      found[name] += Buffer.from(part.value.data).toString();
    }
  }
  return found;
}

/** Takes all messages out of a mailbox. */
async function takeMail(leaseId: string): Promise<void> {
  const mail = leasehold.client(MailboxService, tenant.account.apiKey);
  const { deliveries } = await mail.pullMessages({ leaseId, maxMessages: 10 });
  await mail.ackMessages({ leaseId, receipts: deliveries.map(({ receipt }) => receipt) });
}

/** A time as lines of runs have it. */
function shown(time: { readonly seconds: bigint; readonly nanos: number } | undefined): string {
  const [seconds = ""] = new Date(Number(time?.seconds) * 1000).toISOString().split(".");
  return `${seconds}.${String((time?.nanos ?? 0) / 1000).padStart(6, "0")}Z`;
}
