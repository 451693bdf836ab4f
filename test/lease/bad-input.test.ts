/** Design 4 and 8: validation comes before the charge, every bad input has its typed error, and nothing is lost by it. */
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { AccountService, ApiKey_Scope } from "#gen/leasehold/v1/account_pb.js";
import {
  type Lease_ExpiryBehavior,
  type Lease_ReadAccess,
  Lease_Variant,
  LeaseService,
} from "#gen/leasehold/v1/lease_pb.js";
import { seenError, seenReason } from "../server/seen-error.ts";
import { askFor, doors, type LeaseInit, refusalOf, roomForAnHour, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";

const leasehold = await TestLeasehold.start({ settings: { LEASEHOLD_MAX_FILE_BYTES: "2000000" } });
const tenant = await Tenant.open(leasehold);
const balanceMicros = await tenant.balanceMicros();

const storage = (value: { fileName?: string; contentType?: string }): LeaseInit => ({
  variant: { case: "storage", value },
});
const labels = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`label-${index}`, ""]));

const badRequests: readonly [title: string, request: LeaseInit, reason: string, field: string][] = [
  ["a size of 0", { sizeBytes: 0n }, "INVALID_FIELD", "size_bytes"],
  ["a negative size", { sizeBytes: -1n }, "INVALID_FIELD", "size_bytes"],
  ["a size above the largest", { sizeBytes: 2_000_001n }, "OUT_OF_BOUNDS", "size_bytes"],
  ["the largest size that can be said", { sizeBytes: 2n ** 63n - 1n }, "OUT_OF_BOUNDS", "size_bytes"],
  ["no variant", { variant: { case: undefined } }, "INVALID_FIELD", "variant"],
  ["a duration of 0", { duration: { seconds: 0n } }, "INVALID_FIELD", "duration"],
  ["a negative duration", { duration: { seconds: -60n } }, "INVALID_FIELD", "duration"],
  ["a duration below the shortest", { duration: { seconds: 59n } }, "OUT_OF_BOUNDS", "duration"],
  ["a duration above the longest", { duration: { seconds: 31_536_001n } }, "OUT_OF_BOUNDS", "duration"],
  ["the longest duration that can be said", { duration: { seconds: 315_576_000_000n } }, "OUT_OF_BOUNDS", "duration"],
  ["a duration with a fraction", { duration: { seconds: 60n, nanos: 1 } }, "INVALID_FIELD", "duration"],
  ["a price above max_price_micros", { maxPriceMicros: 999n }, "PRICE_TOO_HIGH", ""],
  ["a negative max_price_micros", { maxPriceMicros: -1n }, "INVALID_FIELD", "max_price_micros"],
  [
    "an expiry_behavior that there is not",
    { expiryBehavior: 2 as Lease_ExpiryBehavior },
    "INVALID_FIELD",
    "expiry_behavior",
  ],
  ["a read_access that there is not", { readAccess: 3 as Lease_ReadAccess }, "INVALID_FIELD", "read_access"],
  ["a request_id that is no UUID", { requestId: "once" }, "INVALID_FIELD", "request_id"],
  ["17 labels", { labels: labels(17) }, "INVALID_FIELD", "labels"],
  ["an empty label key", { labels: { "": "" } }, "INVALID_FIELD", 'labels[""]'],
  ["an upper case label key", { labels: { Key: "" } }, "INVALID_FIELD", 'labels["Key"]'],
  [
    "a label key of 64 characters",
    { labels: { ["k".repeat(64)]: "" } },
    "INVALID_FIELD",
    `labels["${"k".repeat(64)}"]`,
  ],
  ["a label value of 257 characters", { labels: { key: "v".repeat(257) } }, "INVALID_FIELD", 'labels["key"]'],
  ["a label value with a NUL", { labels: { key: "a\0b" } }, "INVALID_FIELD", 'labels["key"]'],
  ["a content type that is none", storage({ contentType: "text" }), "INVALID_FIELD", "storage.content_type"],
  [
    "a content type with a line end",
    storage({ contentType: "text/plain\r\nx: y" }),
    "INVALID_FIELD",
    "storage.content_type",
  ],
  [
    "a content type of 256 bytes",
    storage({ contentType: `text/${"x".repeat(251)}` }),
    "INVALID_FIELD",
    "storage.content_type",
  ],
  ...[
    "../etc/passwd",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "C:\\a",
    ".",
    "..",
    "a\0b",
    "a\nb",
    "a\x1bb",
    "a\x7fb",
    "n".repeat(256),
    "ü".repeat(128),
  ].map((fileName): [string, LeaseInit, string, string] => [
    `the file name ${JSON.stringify(fileName.slice(0, 20))}`,
    storage({ fileName }),
    "INVALID_FIELD",
    "storage.file_name",
  ]),
];

describe.each(doors)("through the %s door, and before any charge, CreateLease refuses", (door) => {
  test.each(badRequests)("%s", async (_, request, reason, field) => {
    const refused = await seenError(tenant.leasesAt(door).createLease(askFor(request)));
    expect(refused.details.ErrorInfo).toMatchObject({ reason, ...(field === "" ? {} : { metadata: { field } }) });
    expect(await tenant.balanceMicros()).toBe(balanceMicros);
    expect(await tenant.leaseCount()).toBe(0n);
  });
});

test("an UploadContent whose lease is refused charges nothing", async () => {
  const create = { ...roomForAnHour, sizeBytes: 2_000_001n, requestId: randomUUID() };
  async function* messages() {
    yield { target: { case: "create" as const, value: create }, data: Buffer.from("data") };
  }
  expect(await seenReason(tenant.nativeLeases.uploadContent(messages()))).toBe("OUT_OF_BOUNDS");
  expect(await tenant.balanceMicros()).toBe(balanceMicros);
});

test("what is at the bounds is taken", async () => {
  const rich = await Tenant.open(leasehold);
  const lease = await rich.create({
    sizeBytes: 2_000_000n,
    duration: { seconds: 31_536_000n },
    labels: { ...labels(15), ["k".repeat(63)]: "v".repeat(256) },
    variant: { case: "storage", value: { fileName: "ü".repeat(127), contentType: 'a/b; c="d e"' } },
  });
  expect(lease.labels["k".repeat(63)]).toBe("v".repeat(256));
  expect(lease.details.value).toMatchObject({ fileName: "ü".repeat(127), contentType: 'a/b; c="d e"' });
  await rich.create({ duration: { seconds: 60n }, sizeBytes: 1n, maxPriceMicros: 1_000n });
});

test("a key that may not create is told so before what is wrong with its request", async () => {
  const { apiKey, key } = await tenant.accounts.createApiKey({ name: "reader", scopes: [ApiKey_Scope.READ] });
  const tooLarge = { ...roomForAnHour, sizeBytes: 2_000_001n };
  expect(await seenReason(tenant.by(apiKey).leases.createLease(tooLarge))).toBe("SCOPE_MISSING");
  await leasehold.client(AccountService, tenant.account.apiKey).revokeApiKey({ keyId: key?.keyId ?? "" });
  expect(await seenReason(tenant.by(apiKey).leases.createLease(tooLarge))).toBe("CREDENTIAL_INVALID");
});

describe("a quote is refused like the lease it is for", () => {
  const quotes = leasehold.client(LeaseService);
  const variant = Lease_Variant.STORAGE;
  test.each([
    [{ variant, sizeBytes: 2_000_001n, duration: { seconds: 60n } }, "OUT_OF_BOUNDS"],
    [{ variant, sizeBytes: 1n, duration: { seconds: 59n } }, "OUT_OF_BOUNDS"],
    [{ variant, sizeBytes: 1n, duration: { seconds: 60n, nanos: 5 } }, "INVALID_FIELD"],
    [{ variant: 99, sizeBytes: 1n, duration: { seconds: 60n } }, "INVALID_FIELD"],
    [{ sizeBytes: 1n, duration: { seconds: 60n } }, "INVALID_FIELD"],
  ])("by RPC: %o", async (request, reason) => {
    expect(await seenReason(quotes.quoteLease(request))).toBe(reason);
  });

  test.each([
    ["variant=storage&size_bytes=2000001&duration_seconds=60", "OUT_OF_BOUNDS"],
    ["variant=storage&size_bytes=0&duration_seconds=60", "OUT_OF_BOUNDS"],
    ["variant=storage&size_bytes=-1&duration_seconds=60", "INVALID_FIELD"],
    ["variant=storage&size_bytes=1.5&duration_seconds=60", "INVALID_FIELD"],
    ["variant=storage&size_bytes=1&duration_seconds=99999999999999999999", "INVALID_FIELD"],
    ["variant=storage&size_bytes=1", "INVALID_FIELD"],
    ["variant=attic&size_bytes=1&duration_seconds=60", "INVALID_FIELD"],
    ["size_bytes=1&duration_seconds=60", "INVALID_FIELD"],
  ])("by HTTP: %s", async (search, reason) => {
    const response = await fetch(`${leasehold.httpUrl}/api/quote?${search}`);
    expect(await refusalOf(response)).toMatchObject({ reason, status: 400 });
  });
});

test("text that is not well formed is refused, and charges nothing", async () => {
  const response = await fetch(`${leasehold.httpUrl}/leasehold.v1.LeaseService/CreateLease`, {
    method: "POST",
    headers: { ...tenant.headers, "content-type": "application/json" },
    body: '{"sizeBytes": 1, "duration": "60s", "labels": {"key": "\\ud800"}, "storage": {"fileName": "\\udfff"}}',
  });
  expect(response.status).toBe(400);
  expect(await tenant.balanceMicros()).toBe(balanceMicros);
});
