import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { AccountService, ApiKey_Scope } from "#gen/leasehold/v1/account_pb.js";
import { MailboxService } from "#gen/leasehold/v1/mailbox_pb.js";
import { formatToken } from "../../src/secrets/secret-token.ts";
import { refusedWith } from "../handoff/redeemer.ts";
import { fromClientError } from "../server/seen-error.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { LogLines } from "../support/log-lines.ts";
import { leaseUuid, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { Dropper, dropDoors, type OpenMailbox, openMailbox, storedMessages } from "./mail.ts";

const leasehold = await TestLeasehold.start();
const other = await TestLeasehold.start({ beside: leasehold });
const { database } = leasehold;
const tenant = await Tenant.open(leasehold);
const owner = leasehold.client(MailboxService, tenant.account.apiKey);
const ownerElsewhere = other.client(MailboxService, tenant.account.apiKey);
const dropper = new Dropper(leasehold);
const elsewhere = new Dropper(other);

describe("a drop token", () => {
  test.each(dropDoors)("with a typo is told apart over %s from one that nobody was given", async (door) => {
    const { dropToken } = await openMailbox(tenant);
    const typo = `${dropToken.slice(0, -1)}${dropToken.endsWith("a") ? "b" : "a"}`;
    const unknown = formatToken("drop", Buffer.alloc(32, 7));
    expect(await refusedWith(dropper.drop(typo, {}, door))).toMatchObject({ reason: "TOKEN_MALFORMED" });
    expect(await refusedWith(dropper.drop(unknown, {}, door))).toMatchObject({ reason: "NOT_FOUND" });
    const { claimToken } = await tenant.handoffs.issueHandoff({ leaseId: (await openMailbox(tenant)).leaseId });
    expect(await refusedWith(dropper.drop(claimToken, {}, door))).toMatchObject({ reason: "TOKEN_MALFORMED" });
  });

  test("is stored as a hash alone", async () => {
    const { dropToken } = await openMailbox(tenant);
    const [row] = await query<{ found: bigint }>(
      database,
      `select (select count(*) from token t where t::text like '%' || $1 || '%')
        + (select count(*) from mailbox m where m::text like '%' || $1 || '%')
        + (select count(*) from lease l where l::text like '%' || $1 || '%') as found`,
      [dropToken.slice(8, 30)],
    );
    expect(row?.found).toBe(0n);
  });
});

describe("in the log", () => {
  test.each(dropDoors)("there is no token of a drop over %s that was refused", async (door) => {
    const log = new LogLines();
    const logged = await TestLeasehold.start({ beside: leasehold, logger: log.logger });
    const { leaseId, dropToken } = await openMailbox(tenant);
    await tenant.age(leaseId, 3_601);
    expect(await refusedWith(new Dropper(logged).drop(dropToken, {}, door))).toMatchObject({ reason: "LEASE_ENDED" });
    await log.find((line) => JSON.stringify(line).includes("LEASE_ENDED"));
    expect(JSON.stringify(log.lines)).not.toContain(dropToken.slice(8, 30));
  });
});

describe("a replaced drop token", () => {
  test("stops at once at every server, also where it was just used", async () => {
    const mailbox = await openMailbox(tenant);
    await dropper.drop(mailbox.dropToken);
    await elsewhere.drop(mailbox.dropToken);
    const { dropToken, oldTokenExpireTime } = await owner.rotateDropToken({ leaseId: mailbox.leaseId });
    expect(oldTokenExpireTime).toBeUndefined();
    for (const door of dropDoors) {
      expect(await refusedWith(dropper.drop(mailbox.dropToken, {}, door))).toMatchObject({
        reason: "DROP_TOKEN_ROTATED",
      });
      expect(await refusedWith(elsewhere.drop(mailbox.dropToken, {}, door))).toMatchObject({
        reason: "DROP_TOKEN_ROTATED",
      });
    }
    await dropper.drop(dropToken);
    await elsewhere.drop(dropToken);
    expect(await storedMessages(database, mailbox.leaseId)).toHaveLength(4);
  });

  test("goes on for its grace, beside the new one, and not longer", async () => {
    const mailbox = await openMailbox(tenant);
    const rotated = await owner.rotateDropToken({ leaseId: mailbox.leaseId, grace: { seconds: 60n } });
    expect(rotated.oldTokenExpireTime).toBeDefined();
    await Promise.all([dropper.drop(mailbox.dropToken), dropper.drop(rotated.dropToken)]);
    await query(
      database,
      "update mailbox set old_token_expire_time = old_token_expire_time - interval '61 s' where lease_id = $1",
      [leaseUuid(mailbox.leaseId)],
    );
    expect(await refusedWith(dropper.drop(mailbox.dropToken))).toMatchObject({ reason: "DROP_TOKEN_ROTATED" });
    expect(await storedMessages(database, mailbox.leaseId)).toHaveLength(2);
  });

  test("has no grace left once the next one is replaced without any", async () => {
    const mailbox = await openMailbox(tenant);
    const { leaseId } = mailbox;
    const second = await owner.rotateDropToken({ leaseId, grace: { seconds: 60n } });
    const third = await owner.rotateDropToken({ leaseId });
    for (const dropToken of [mailbox.dropToken, second.dropToken]) {
      expect(await refusedWith(dropper.drop(dropToken))).toMatchObject({ reason: "DROP_TOKEN_ROTATED" });
    }
    await dropper.drop(third.dropToken);
  });

  test("is refused to a drop that waited for the lock while the token was replaced", async () => {
    const mailbox = await openMailbox(tenant);
    await dropper.drop(mailbox.dropToken);
    const waiting = await database.transaction(async (transaction) => {
      await query(transaction, "select from lease where lease_id = $1 for no key update", [leaseUuid(mailbox.leaseId)]);
      const drop = refusedWith(dropper.drop(mailbox.dropToken));
      await lockWaiters(database, 1);
      const text = "update mailbox set drop_token_hash = '\\x00', drop_token_generation = 2 where lease_id = $1";
      await query(transaction, text, [leaseUuid(mailbox.leaseId)]);
      return { drop };
    });
    expect(await waiting.drop).toMatchObject({ reason: "DROP_TOKEN_ROTATED" });
    expect(await storedMessages(database, mailbox.leaseId)).toHaveLength(1);
  });

  test("is answered for a lease that has ended with that end", async () => {
    const mailbox = await openMailbox(tenant);
    await owner.rotateDropToken({ leaseId: mailbox.leaseId });
    await tenant.leases.deleteLease({ leaseId: mailbox.leaseId });
    expect(await refusedWith(dropper.drop(mailbox.dropToken))).toMatchObject({ reason: "LEASE_ENDED" });
  });
});

describe("RotateDropToken", () => {
  test("gives the same token again to the same request_id, and another to another", async () => {
    const { leaseId } = await openMailbox(tenant);
    const request = { leaseId, requestId: randomUUID(), grace: { seconds: 60n } };
    const first = await owner.rotateDropToken(request);
    const again = await ownerElsewhere.rotateDropToken({ ...request, requestId: request.requestId.toUpperCase() });
    expect(again).toEqual(first);
    const next = await owner.rotateDropToken({ ...request, requestId: randomUUID() });
    expect(next.dropToken).not.toBe(first.dropToken);
    expect((await owner.rotateDropToken(request)).dropToken).toBe(first.dropToken);
    await dropper.drop(next.dropToken);
  });

  test("names the field that differs from what the request_id asked before", async () => {
    const { leaseId } = await openMailbox(tenant);
    const requestId = randomUUID();
    await owner.rotateDropToken({ leaseId, requestId });
    expect(await refusalOfRotation({ leaseId, requestId, grace: { seconds: 1n } })).toEqual({
      reason: "REQUEST_ID_REUSED",
      metadata: { field: "grace" },
    });
  });

  test("that comes many times at once replaces the token once for each request", async () => {
    const mailbox = await openMailbox(tenant);
    const { leaseId } = mailbox;
    const requestId = randomUUID();
    const twins = await Promise.all(
      [owner, ownerElsewhere, owner, ownerElsewhere].map((client) => client.rotateDropToken({ leaseId, requestId })),
    );
    expect(new Set(twins.map(({ dropToken }) => dropToken)).size).toBe(1);
    const others = await Promise.all(
      [owner, ownerElsewhere, owner, ownerElsewhere].map((client) => client.rotateDropToken({ leaseId })),
    );
    expect(new Set(others.map(({ dropToken }) => dropToken)).size).toBe(4);
    const [row] = await query<{ drop_token_generation: number }>(
      database,
      "select drop_token_generation from mailbox where lease_id = $1",
      [leaseUuid(leaseId)],
    );
    expect(row?.drop_token_generation).toBe(6);
    expect(await dropsWith(mailbox, [mailbox.dropToken, ...twins.map((t) => t.dropToken)])).toBe(0);
    expect(
      await dropsWith(
        mailbox,
        others.map(({ dropToken }) => dropToken),
      ),
    ).toBe(1);
  });

  test("has a published number of times", async () => {
    const { leaseId } = await openMailbox(tenant);
    const { pricing } = await tenant.leases.getPricing({});
    const most = pricing?.limits.find(({ name }) => name === "drop_tokens_per_lease")?.value ?? 0n;
    await query(database, "update mailbox set drop_token_generation = $2 where lease_id = $1", [
      leaseUuid(leaseId),
      Number(most),
    ]);
    expect(await refusalOfRotation({ leaseId })).toEqual({
      reason: "LIMIT_REACHED",
      metadata: { limit: "drop_tokens_per_lease", limit_value: `${most}`, value: `${most}` },
    });
  });

  test("is refused to other tenants, to keys without the scope, for other variants and after the end", async () => {
    const { leaseId } = await openMailbox(tenant);
    const stranger = await Tenant.open(leasehold);
    expect(await refusalOfRotation({ leaseId }, stranger.account.apiKey)).toMatchObject({ reason: "NOT_FOUND" });
    const accounts = leasehold.client(AccountService, tenant.account.apiKey);
    const reader = await accounts.createApiKey({ name: "reader", scopes: [ApiKey_Scope.READ] });
    expect(await refusalOfRotation({ leaseId }, reader.apiKey)).toMatchObject({ reason: "SCOPE_MISSING" });
    const storage = await tenant.create();
    expect(await refusalOfRotation({ leaseId: storage.leaseId })).toMatchObject({ reason: "WRONG_VARIANT" });
    await tenant.age(leaseId, 3_601);
    expect(await refusalOfRotation({ leaseId })).toMatchObject({ reason: "LEASE_ENDED" });
  });
});

/** With how many of these tokens a message can be dropped. */
async function dropsWith({ leaseId }: OpenMailbox, tokens: readonly string[]): Promise<number> {
  const before = (await storedMessages(database, leaseId)).length;
  await Promise.allSettled(tokens.map((dropToken) => dropper.drop(dropToken)));
  return (await storedMessages(database, leaseId)).length - before;
}

async function refusalOfRotation(
  request: { leaseId: string; requestId?: string; grace?: { seconds: bigint } },
  apiKey = tenant.account.apiKey,
): Promise<{ reason: string; metadata: Record<string, string> }> {
  const error: unknown = await leasehold
    .client(MailboxService, apiKey)
    .rotateDropToken(request)
    .then(
      () => expect.fail("The call succeeded"),
      (reason: unknown) => reason,
    );
  const { reason, metadata = {} } = fromClientError(error).details.ErrorInfo as {
    reason: string;
    metadata?: Record<string, string>;
  };
  return { reason, metadata };
}
