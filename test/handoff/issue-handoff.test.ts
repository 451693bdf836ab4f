import { createHash, randomBytes, randomUUID } from "node:crypto";
import { expect, test, vi } from "vitest";
import { Handoff_IncompleteClaimPolicy, Handoff_State, HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { Lease_ReadAccess } from "#gen/leasehold/v1/lease_pb.js";
import { seenError, seenReason } from "../server/seen-error.ts";
import { leaseUuid, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { handOff, handoffUuid } from "./handed-off.ts";
import { Redeemer, redeemDoors, refusedWith } from "./redeemer.ts";

const leasehold = await TestLeasehold.start();
const beside = await TestLeasehold.start({ beside: leasehold });
const tenant = await Tenant.open(leasehold);
const body = randomBytes(1_000);
const nobodysLease = `lse_${"0".repeat(26)}`;

test("terms that are not set are one claim, as long as the lease, returned three times, deleted as the lease says", async () => {
  for (const deleteOnAccess of [false, true]) {
    const lease = await tenant.store(body, { deleteOnAccess });
    const { handoff } = await tenant.handoffs.issueHandoff({ leaseId: lease.leaseId });
    expect(handoff).toMatchObject({
      leaseId: lease.leaseId,
      state: Handoff_State.OPEN,
      maxClaims: 1,
      maxIncompleteClaims: 3,
      incompleteClaimPolicy: Handoff_IncompleteClaimPolicy.RETURN,
      deleteOnClaim: deleteOnAccess,
      expireTime: lease.expireTime,
    });
  }
});

test("terms that are set are kept, the lease's default for delete_on_claim overruled either way", async () => {
  for (const deleteOnClaim of [false, true]) {
    const { leaseId } = await tenant.store(body, { deleteOnAccess: !deleteOnClaim });
    const incompleteClaimPolicy = Handoff_IncompleteClaimPolicy.BURN;
    const terms = { maxClaims: 7, maxIncompleteClaims: 2, incompleteClaimPolicy, deleteOnClaim };
    const { handoff } = await tenant.handoffs.issueHandoff({ leaseId, ...terms, ttl: { seconds: 60n } });
    expect(handoff).toMatchObject(terms);
    const { createTime, expireTime } = required(handoff);
    expect(required(expireTime).seconds - required(createTime).seconds).toBe(60n);
  }
});

test("a ttl is cut to the lease's end, however long it is", async () => {
  const { leaseId, expireTime } = await tenant.store(body);
  for (const seconds of [3_601n, 315_576_000_000n]) {
    expect((await tenant.handoffs.issueHandoff({ leaseId, ttl: { seconds } })).handoff?.expireTime).toEqual(expireTime);
  }
});

test("terms out of bounds are refused, and name their field", async () => {
  const { leaseId } = await tenant.store(body);
  const bad = [
    { maxClaims: -1 },
    { maxClaims: 1_001 },
    { maxIncompleteClaims: -1 },
    { maxIncompleteClaims: 3_001 },
    { ttl: { seconds: 0n } },
    { ttl: { seconds: -1n } },
    { ttl: { nanos: 500_000_000 } },
    { incompleteClaimPolicy: 3 },
    { requestId: "mine" },
  ];
  for (const terms of bad) {
    const { details } = await seenError(tenant.handoffs.issueHandoff({ leaseId, ...terms }));
    const field = required(Object.keys(terms)[0]).replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    expect(details.ErrorInfo).toMatchObject({ reason: "INVALID_FIELD", metadata: { field } });
  }
  expect((await tenant.handoffs.listHandoffs({ leaseId })).handoffs).toEqual([]);
});

test("a lease that only its owner reads, one without its content and one that has ended hand out no token", async () => {
  const ownersOnly = await tenant.store(body, { readAccess: Lease_ReadAccess.OWNER });
  const created = await tenant.create();
  const ended = await tenant.store(body);
  await tenant.leases.deleteLease({ leaseId: ended.leaseId });
  const expired = await tenant.store(body);
  await tenant.age(expired.leaseId, 3_601);
  const refusals = [
    [ownersOnly, "READ_ACCESS_OWNER"],
    [created, "WRONG_STATE"],
    [ended, "LEASE_ENDED"],
    [expired, "LEASE_ENDED"],
  ] as const;
  for (const [{ leaseId }, reason] of refusals) {
    expect(await seenReason(tenant.handoffs.issueHandoff({ leaseId }))).toBe(reason);
  }
});

test("a lease of somebody else's gets the very answer of one that never was, in every call by its owner", async () => {
  const stranger = await Tenant.open(leasehold);
  const { leaseId, handoffId } = await handOff(stranger, body);
  for (const foreign of [
    await seenError(tenant.handoffs.issueHandoff({ leaseId })),
    await seenError(tenant.handoffs.listHandoffs({ leaseId })),
  ]) {
    expect(foreign).toEqual(await seenError(tenant.handoffs.issueHandoff({ leaseId: nobodysLease })));
    expect(foreign.details.ErrorInfo).toMatchObject({ reason: "NOT_FOUND" });
  }
  const foreign = await seenError(tenant.handoffs.revokeHandoff({ handoffId }));
  const unknown = await seenError(tenant.handoffs.revokeHandoff({ handoffId: `hnd_${"0".repeat(26)}` }));
  expect(foreign).toEqual(unknown);
});

test("a request_id that comes again shows the same token, also after the lease's end", async () => {
  const { leaseId } = await tenant.store(body);
  const requestId = randomUUID();
  const first = await tenant.handoffs.issueHandoff({ leaseId, requestId, maxClaims: 2 });
  const again = await tenant
    .at(beside)
    .handoffs.issueHandoff({ leaseId, requestId: requestId.toUpperCase(), maxClaims: 2 });
  expect(again).toEqual(first);
  await tenant.leases.deleteLease({ leaseId });
  const late = await tenant.handoffs.issueHandoff({ leaseId, requestId, maxClaims: 2 });
  expect(late).toMatchObject({ claimToken: first.claimToken, handoff: { state: Handoff_State.LEASE_ENDED } });
});

test("a request_id that comes again with other terms is refused, and names the term", async () => {
  const [one, two] = [await tenant.store(body), await tenant.store(body)];
  const requestId = randomUUID();
  await tenant.handoffs.issueHandoff({ leaseId: one.leaseId, requestId });
  for (const [terms, field] of [
    [{ leaseId: one.leaseId, maxClaims: 2 }, "max_claims"],
    [{ leaseId: two.leaseId }, "lease_id"],
  ] as const) {
    const { details } = await seenError(tenant.handoffs.issueHandoff({ ...terms, requestId }));
    expect(details.ErrorInfo).toMatchObject({ reason: "REQUEST_ID_REUSED", metadata: { field } });
  }
});

test("32 concurrent twins of one request_id get one token", async () => {
  const { leaseId } = await tenant.store(body);
  const requestId = randomUUID();
  const issued = await Promise.all(
    Array.from({ length: 32 }, (_, index) =>
      (index % 2 === 0 ? tenant : tenant.at(beside)).handoffs.issueHandoff({ leaseId, requestId }),
    ),
  );
  expect(new Set(issued.map(({ claimToken }) => claimToken)).size).toBe(1);
  expect((await tenant.handoffs.listHandoffs({ leaseId })).handoffs).toHaveLength(1);
});

test("a lease has as many handoffs as the published limit, and no more", async () => {
  const { leaseId } = await tenant.store(body);
  await query(leasehold.database, "update lease set handoff_count = 999 where lease_id = $1", [leaseUuid(leaseId)]);
  const outcomes = await Promise.allSettled(Array.from({ length: 4 }, () => tenant.handoffs.issueHandoff({ leaseId })));
  expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  const { details } = await seenError(tenant.handoffs.issueHandoff({ leaseId }));
  expect(details.ErrorInfo).toMatchObject({
    reason: "LIMIT_REACHED",
    metadata: { limit: "handoffs_per_lease", limit_value: "1000", value: "1000" },
  });
});

test("a token is stored as its SHA-256 and nowhere else", async () => {
  const { token, handoffId } = await handOff(tenant, body);
  const [row] = await query<{ token_hash: Buffer }>(
    leasehold.database,
    "select token_hash from token where thing_id = $1",
    [handoffUuid(handoffId)],
  );
  expect(row?.token_hash.equals(createHash("sha256").update(token).digest())).toBe(true);
  const secret = token.slice("lh_claim_".length, -6);
  const tables = await query<{ name: string }>(
    leasehold.database,
    "select tablename::text as name from pg_tables where schemaname = 'public'",
  );
  expect(tables.length).toBeGreaterThan(5);
  for (const { name } of tables) {
    const text = `select * from ${name} t where t::text like '%' || $1 || '%' or t::text like '%' || encode(convert_to($1, 'utf8'), 'hex') || '%'`;
    expect(await query(leasehold.database, text, [secret])).toEqual([]);
  }
});

test("a token with a typo is told apart without a look-up, by every call that takes one", async () => {
  const { token } = await handOff(tenant, body);
  const redeemer = new Redeemer(leasehold);
  const typos = [
    `${token.slice(0, 20)}${token[20] === "x" ? "y" : "x"}${token.slice(21)}`,
    token.slice(0, -1),
    `${token}0`,
    "lh_claim_",
    "x",
  ];
  const statements = vi.spyOn(leasehold.database, "run");
  for (const typo of typos) {
    for (const door of redeemDoors) {
      expect(await refusedWith(redeemer.redeem(door, { token: typo }))).toMatchObject({ reason: "TOKEN_MALFORMED" });
      expect(await refusedWith(redeemer.confirm(door, typo, `clm_${"0".repeat(26)}`))).toMatchObject({
        reason: "TOKEN_MALFORMED",
      });
    }
    expect((await fetch(redeemer.claimUrl(typo))).status).toBe(400);
    expect(await seenReason(leasehold.client(HandoffService).inspectHandoff({ claimToken: typo }))).toBe(
      "TOKEN_MALFORMED",
    );
  }
  expect(statements).not.toHaveBeenCalled();
  statements.mockRestore();
});
