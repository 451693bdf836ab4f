import { createHash, randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { TestLeasehold } from "../support/test-leasehold.ts";

const leasehold = await TestLeasehold.start();

test("an upload over HTTP is redeemed by a token, confirmed, and gone", async () => {
  const account = await leasehold.account();
  const { leases, handoffs } = leasehold.of(account);
  const body = randomBytes(3_000_000);
  const { lease } = await leases.createLease({
    sizeBytes: 5_000_000n,
    duration: { seconds: 3600n },
    variant: { case: "storage", value: { fileName: "a.bin" } },
  });
  expect(lease?.state).toBe(Lease_State.CREATED);
  const url = `${leasehold.httpUrl}/api/leases/${lease?.leaseId}/content`;
  const headers = { authorization: `Bearer ${account.apiKey}` };
  const put = await fetch(url, { method: "PUT", body, headers });
  expect(await put.json()).toMatchObject({ lease: { state: "STATE_ACTIVE", storage: { storedBytes: "3000000" } } });
  const got = await fetch(url, { headers });
  expect(sha256(Buffer.from(await got.arrayBuffer()))).toBe(sha256(body));
  const { claimToken } = await handoffs.issueHandoff({ leaseId: lease?.leaseId ?? "", deleteOnClaim: true });
  const claim = await fetch(`${leasehold.httpUrl}/api/claim/${claimToken}`, { method: "POST" });
  expect(claim.status).toBe(200);
  expect(sha256(Buffer.from(await claim.arrayBuffer()))).toBe(sha256(body));
  const confirm = await fetch(`${leasehold.httpUrl}/api/claim/${claimToken}/confirm`, {
    method: "POST",
    headers: { "leasehold-claim-id": claim.headers.get("leasehold-claim-id") ?? "" },
  });
  expect(await confirm.json()).toMatchObject({ leaseEnded: true, claim: { state: "STATE_USED" } });
  expect((await fetch(url, { headers })).status).toBe(410);
  expect((await fetch(`${leasehold.httpUrl}/api/claim/${claimToken}`, { method: "POST" })).status).toBe(410);
});

function sha256(data: Buffer): string {
  return createHash("sha256").update(data).digest("hex");
}
