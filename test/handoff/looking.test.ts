import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { Handoff_State, HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";
import { type HandedOff, handOff, handoffUuid } from "./handed-off.ts";
import { Redeemer } from "./redeemer.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold);
const redeemer = new Redeemer(leasehold);
const body = randomBytes(100_000);
const browser = { accept: "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8" };

test("GET, HEAD, OPTIONS and InspectHandoff write nothing, however often, and the claim is still there to be taken", async () => {
  const handedOff = await handOff(tenant, body, { deleteOnClaim: true });
  const before = await rowVersions(handedOff);
  const url = redeemer.claimUrl(handedOff.token);
  const looks = [
    () => fetch(url),
    () => fetch(url, { headers: browser }),
    () => fetch(url, { method: "HEAD" }),
    () => fetch(url, { method: "HEAD", headers: browser }),
    () => fetch(url, { method: "OPTIONS" }),
    () => fetch(`${url}/confirm`),
  ];
  for (let round = 0; round < 10; round++) {
    const statuses = await Promise.all(looks.map(async (look) => (await look()).status));
    expect(statuses).toEqual([200, 200, 200, 200, 204, 405]);
    for (const client of [leasehold.client(HandoffService), leasehold.nativeClient(HandoffService)]) {
      const inspected = await client.inspectHandoff({ claimToken: handedOff.token });
      expect(inspected).toMatchObject({
        contentBytes: 100_000n,
        handoff: { state: Handoff_State.OPEN, usedClaims: 0 },
      });
    }
  }
  expect(await rowVersions(handedOff)).toEqual(before);
  expect((await redeemer.take("http", { token: handedOff.token })).body.equals(body)).toBe(true);
});

test("looking tells what a claim delivers, to the byte", async () => {
  const { token } = await handOff(
    tenant,
    body,
    { maxClaims: 2 },
    { variant: { case: "storage", value: { fileName: "a.bin" } } },
  );
  expect(await (await fetch(redeemer.claimUrl(token))).json()).toMatchObject({
    variant: "VARIANT_STORAGE",
    contentBytes: "100000",
    items: [{ name: "a.bin", contentType: "application/octet-stream", sizeBytes: "100000" }],
    handoff: { state: "STATE_OPEN", maxClaims: 2 },
  });
});

test("a browser gets a page that shows a hostile file name as text", async () => {
  const fileName = `"'><img src=x onerror=alert(1)></title><script>alert(2)</script>&amp;`.replaceAll("/", "");
  const { token } = await handOff(tenant, body, {}, { variant: { case: "storage", value: { fileName } } });
  const page = await (await fetch(redeemer.claimUrl(token), { headers: browser })).text();
  expect(page).not.toMatch(/<img|<script|onerror=alert\(1\)>/);
  const heading = /<h1>(.*)<\/h1>/.exec(page)?.[1] ?? "";
  expect(heading.replace(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)))).toBe(fileName);
});

test("the page runs nothing, loads nothing, and has one form, which posts to its own address", async () => {
  const { token } = await handOff(tenant, body);
  const page = await (await fetch(redeemer.claimUrl(token), { headers: browser })).text();
  expect(page).not.toMatch(
    /<(script|link|img|iframe|object|embed|base|meta http-equiv)|\b(src|href|action|on\w+)=|url\(|@import/i,
  );
  expect(page.match(/<form[^>]*>/g)).toEqual(['<form method="post">']);
  expect(page).toContain('<meta name="robots" content="noindex">');
});

test("every answer for a claim is kept by nobody, guessed at by nobody and refers to nothing", async () => {
  const { token } = await handOff(
    tenant,
    body,
    {},
    { variant: { case: "storage", value: { fileName: "report.html", contentType: "text/html" } } },
  );
  const url = redeemer.claimUrl(token);
  const page = await fetch(url, { headers: browser });
  const json = await fetch(url);
  const head = await fetch(url, { method: "HEAD" });
  const claim = await fetch(url, { method: "POST" });
  await claim.arrayBuffer();
  const confirm = await fetch(`${url}/confirm`, {
    method: "POST",
    headers: { "leasehold-claim-id": claim.headers.get("leasehold-claim-id") ?? "" },
  });
  for (const response of [page, json, head, claim, confirm]) {
    expect(response.ok).toBe(true);
    expect(response.headers.get("cache-control")).toBe("no-store");
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
    expect(response.headers.get("referrer-policy")).toBe("no-referrer");
    expect(response.headers.get("content-security-policy")).toContain("default-src 'none'");
  }
  expect(page.headers.get("content-security-policy")).toContain("form-action 'self'; frame-ancestors 'none'");
  expect(claim.headers.get("content-security-policy")).toContain("sandbox");
  expect(claim.headers.get("content-disposition")).toMatch(/^attachment; filename="?report\.html"?$/);
  expect((await fetch(url, { method: "POST" })).headers.get("cache-control")).toBe("no-store");
});

/** The versions of every row that a claim would change. */
async function rowVersions({ handoffId }: HandedOff): Promise<unknown> {
  return await query(
    leasehold.database,
    `select h.xmin::text, h.xmax::text, l.xmin::text as lease_xmin, l.xmax::text as lease_xmax,
      (select count(*) from claim c where c.handoff_id = h.handoff_id) as claims
    from handoff h join lease l on l.lease_id = h.lease_id where h.handoff_id = $1`,
    [handoffUuid(handoffId)],
  );
}
