import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { AccountService, ApiKey_Scope } from "#gen/leasehold/v1/account_pb.js";
import { HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { formatToken } from "../../src/secrets/secret-token.ts";
import { seenReason } from "../server/seen-error.ts";
import { LogLines } from "../support/log-lines.ts";
import { refusalOf, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { claimUuid, endHold, endToken, handOff, handoffUuid } from "./handed-off.ts";
import { Redeemer, redeemDoors, refusedWith } from "./redeemer.ts";

const log = new LogLines();
const leasehold = await TestLeasehold.start({ logger: log.logger });
const tenant = await Tenant.open(leasehold);
const redeemer = new Redeemer(leasehold);
const body = randomBytes(1_048_576);

test("of an owner's call the credential is refused first, then what is not theirs, then the end, then the rest", async () => {
  const { leaseId } = await tenant.store(body);
  const issue = (bearer?: string) => leasehold.client(HandoffService, bearer).issueHandoff({ leaseId });
  const { apiKey: reader } = await leasehold
    .client(AccountService, tenant.account.apiKey)
    .createApiKey({ scopes: [ApiKey_Scope.READ] });
  const stranger = await Tenant.open(leasehold);
  await query(leasehold.database, "update lease set handoff_count = 1000, read_access = 1 where owner_id = $1", [
    tenant.ownerId,
  ]);
  await tenant.leases.deleteLease({ leaseId });
  expect(await seenReason(issue())).toBe("CREDENTIAL_MISSING");
  expect(await seenReason(issue("lh_key_typo"))).toBe("CREDENTIAL_INVALID");
  expect(await seenReason(issue(formatToken("key", randomBytes(32))))).toBe("CREDENTIAL_INVALID");
  expect(await seenReason(issue(reader))).toBe("SCOPE_MISSING");
  expect(await seenReason(issue(stranger.account.apiKey))).toBe("NOT_FOUND");
  expect(await seenReason(issue(tenant.account.apiKey))).toBe("LEASE_ENDED");
});

test("of a redemption the earlier reason of the catalogue is given, where several apply", async () => {
  const handedOff = await handOff(tenant, body);
  const { token, handoffId, leaseId } = handedOff;
  const { claimId } = await redeemer.take("http", { token });
  const made = { token };
  const held = { token, claimId, offset: body.length + 1 };
  await expectRefused(made, "HANDOFF_BUSY");
  await expectRefused(held, "OFFSET_MISMATCH");
  await endHold(leasehold.database, claimId);
  await expectRefused(held, "CLAIM_ENDED");
  await query(
    leasehold.database,
    "update claim set state = 1, hold_expire_time = clock_timestamp() + interval '1 hour' where claim_id = $1",
    [claimUuid(claimId)],
  );
  await query(
    leasehold.database,
    "update handoff set open_claims = 1, delivered_claims = 0, used_claims = 0 where handoff_id = $1",
    [handoffUuid(handoffId)],
  );
  await tenant.handoffs.revokeHandoff({ handoffId });
  await expectRefused(made, "HANDOFF_REVOKED");
  await expectRefused(held, "HANDOFF_REVOKED");
  await endToken(leasehold.database, handedOff);
  await expectRefused(made, "HANDOFF_EXPIRED");
  await expectRefused(held, "HANDOFF_EXPIRED");
  await query(leasehold.database, "update handoff set open_claims = 0, used_claims = 1 where handoff_id = $1", [
    handoffUuid(handoffId),
  ]);
  await expectRefused(made, "HANDOFF_EXHAUSTED");
  await tenant.leases.deleteLease({ leaseId });
  await expectRefused(made, "LEASE_ENDED");
  await expectRefused(held, "LEASE_ENDED");
  await expectRefused({ token: formatToken("claim", randomBytes(32)) }, "NOT_FOUND");
  await expectRefused({ token: `${token}x` }, "TOKEN_MALFORMED");
});

test("a busy token says when to come again, and one that is used up does not", async () => {
  const { token } = await handOff(tenant, body);
  const url = redeemer.claimUrl(token);
  const { claimId } = await redeemer.take("http", { token });
  const busy = await fetch(url, { method: "POST" });
  expect(busy.headers.get("retry-after")).toMatch(/^\d+$/);
  expect(await refusalOf(busy)).toMatchObject({ status: 409, reason: "HANDOFF_BUSY" });
  await redeemer.confirm("http", token, claimId);
  const exhausted = await fetch(url, { method: "POST" });
  expect(exhausted.headers.get("retry-after")).toBeNull();
  expect(await refusalOf(exhausted)).toMatchObject({ status: 410, reason: "HANDOFF_EXHAUSTED" });
});

test("a token is in no log line and in no refusal, whatever becomes of the call", async () => {
  const { token } = await handOff(tenant, body, { maxClaims: 2 });
  const unknown = formatToken("claim", randomBytes(32));
  const typo = `${token.slice(0, -1)}${token.endsWith("x") ? "y" : "x"}`;
  const { claimId } = await redeemer.take("http", { token });
  (await redeemer.redeem("native", { token })).hangUp();
  const answers: string[] = [];
  for (const bad of [token, unknown, typo]) {
    for (const door of redeemDoors) {
      answers.push(
        (await refusedWith(redeemer.redeem(door, { token: bad, claimId, offset: body.length + 1 }))).stack ?? "",
      );
      answers.push((await refusedWith(redeemer.confirm(door, bad, `clm_${"0".repeat(26)}`))).stack ?? "");
    }
    for (const response of [
      await fetch(`${redeemer.claimUrl(bad)}/other`),
      await fetch(redeemer.claimUrl(bad), { method: "DELETE" }),
      await fetch(redeemer.claimUrl(`${bad}%ff`)),
      await fetch(redeemer.claimUrl(bad), { method: "POST", headers: { range: bad, "leasehold-claim-id": bad } }),
      await fetch(redeemer.claimUrl(bad), { method: "POST", headers: { "leasehold-request-id": bad } }),
    ]) {
      expect(response.ok).toBe(false);
      answers.push(JSON.stringify([...response.headers]), await response.text());
    }
  }
  await log.find((line) => line.reason === "TOKEN_MALFORMED");
  expect(log.lines.length).toBeGreaterThan(20);
  const text = JSON.stringify([log.lines, answers]);
  for (const secret of [token, unknown, typo]) {
    expect(text).not.toContain(secret.slice("lh_claim_".length, -6));
  }
});

/** Redeeming is refused so, through every door. */
async function expectRefused(request: Parameters<Redeemer["redeem"]>[1], reason: string): Promise<void> {
  for (const door of redeemDoors) {
    expect(await refusedWith(redeemer.redeem(door, request))).toMatchObject({ reason });
  }
}
