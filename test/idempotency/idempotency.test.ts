/** What the digests of requests promise: equal content is told from other content, by field, without keeping any. */
import { create, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  ApiKey_Scope,
  CreateApiKeyRequestSchema,
  GetAccountResponseSchema,
  ListApiKeysResponseSchema,
} from "#gen/leasehold/v1/account_pb.js";
import { CreateAccountRequestSchema } from "#gen/leasehold/v1/admin_pb.js";
import {
  CreateLeaseRequestSchema,
  Lease_ReadAccess,
  UploadContentPartRequestSchema,
} from "#gen/leasehold/v1/lease_pb.js";
import { digestRequest, requireSameRequest } from "../../src/idempotency/idempotency.ts";

const serverKey = Buffer.alloc(32, 7);

const lease = {
  sizeBytes: 1024n,
  duration: { seconds: 3600n },
  readAccess: Lease_ReadAccess.OWNER,
  deleteOnAccess: true,
  maxPriceMicros: 5n,
  labels: { a: "1", b: "2" },
  variant: { case: "storage", value: { fileName: "a.bin", contentType: "text/plain" } },
} satisfies MessageInitShape<typeof CreateLeaseRequestSchema>;

test("the same content has the same digests, whatever its request_id", () => {
  expect(
    differing(CreateLeaseRequestSchema, { ...lease, requestId: "1" }, { ...lease, requestId: "2" }),
  ).toBeUndefined();
});

describe("other content is refused by the name of the first field that differs", () => {
  const others: readonly (readonly [string, MessageInitShape<typeof CreateLeaseRequestSchema>])[] = [
    ["size_bytes", { ...lease, sizeBytes: 1025n }],
    ["size_bytes", { ...lease, sizeBytes: 0n, duration: { seconds: 1n } }],
    ["duration", { ...lease, duration: { seconds: 3600n, nanos: 1 } }],
    ["read_access", { ...lease, readAccess: Lease_ReadAccess.UNSPECIFIED }],
    ["delete_on_access", { ...lease, deleteOnAccess: false }],
    ["max_price_micros", { ...lease, maxPriceMicros: 0n }],
    ["labels", { ...lease, labels: { a: "1", b: "3" } }],
    ["labels", { ...lease, labels: { a: "1" } }],
    ["labels", { ...lease, labels: {} }],
    ["storage.file_name", { ...lease, variant: { case: "storage", value: { ...lease.variant.value, fileName: "b" } } }],
    ["storage.content_type", { ...lease, variant: { case: "storage", value: { fileName: "a.bin" } } }],
    ["storage", { ...lease, variant: { case: undefined } }],
  ];
  test.each(others)("%s", (field, other) => {
    expect(differing(CreateLeaseRequestSchema, lease, other)).toBe(field);
    expect(differing(CreateLeaseRequestSchema, other, lease)).toBe(field);
  });
});

test("an optional field that is set to zero is not one that is unset", () => {
  const { maxPriceMicros: _, ...unset } = lease;
  expect(differing(CreateLeaseRequestSchema, { ...lease, maxPriceMicros: 0n }, unset)).toBe("max_price_micros");
});

test("a map's order does not matter, and its entries do", () => {
  const entries = fc.uniqueArray(fc.tuple(fc.string(), fc.string()), { selector: ([key]) => key, minLength: 1 });
  fc.assert(
    fc.property(entries, fc.infiniteStream(fc.nat()), (list, order) => {
      const shuffled = list.map((entry) => ({ entry, at: order.next().value ?? 0 })).sort((a, b) => a.at - b.at);
      const again = Object.fromEntries(shuffled.map(({ entry }) => entry));
      const labels = Object.fromEntries(list);
      expect(differing(CreateLeaseRequestSchema, { labels }, { labels: again })).toBeUndefined();
    }),
  );
  const joined = { labels: { a: "b,c,d" } };
  expect(differing(CreateLeaseRequestSchema, joined, { labels: { "a,b": "c,d" } })).toBe("labels");
  const twice = { labels: { a: "b,c", "a,b": "c" } };
  expect(differing(CreateLeaseRequestSchema, twice, { labels: { "a,b": "c", a: "b,c" } })).toBeUndefined();
});

test("bytes count, one by one", () => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.uint8Array(), (a, b) => {
      const same = Buffer.from(a).equals(b);
      const field = differing(UploadContentPartRequestSchema, { data: a }, { data: b });
      expect(field).toBe(same ? undefined : "data");
    }),
  );
});

test("a list's order and length count", () => {
  const scopes = [ApiKey_Scope.READ, ApiKey_Scope.WRITE];
  expect(differing(CreateApiKeyRequestSchema, { scopes }, { scopes: [...scopes] })).toBeUndefined();
  expect(differing(CreateApiKeyRequestSchema, { scopes }, { scopes: scopes.toReversed() })).toBe("scopes");
  expect(differing(CreateApiKeyRequestSchema, { scopes }, { scopes: [ApiKey_Scope.READ] })).toBe("scopes");
});

test("messages inside messages and lists count down to their last field", () => {
  const account = { name: "a", createTime: { seconds: 1n, nanos: 2 } };
  const later = { ...account, createTime: { seconds: 1n, nanos: 3 } };
  expect(differing(GetAccountResponseSchema, { account }, { account })).toBeUndefined();
  expect(differing(GetAccountResponseSchema, { account }, { account: later })).toBe("account.create_time");
  const keys = [{ name: "a", scopes: [ApiKey_Scope.READ], createTime: { seconds: 1n } }];
  const others = [{ name: "a", scopes: [ApiKey_Scope.READ], createTime: { seconds: 2n } }];
  expect(differing(ListApiKeysResponseSchema, { keys }, { keys })).toBeUndefined();
  expect(differing(ListApiKeysResponseSchema, { keys }, { keys: others })).toBe("keys");
});

test("a value does not count for that of another field", () => {
  expect(differing(CreateApiKeyRequestSchema, { name: "5" }, { spendCeilingMicros: 5n })).toBe("name");
  const named = { case: "storage", value: { fileName: "a" } } as const;
  const typed = { case: "storage", value: { contentType: "a" } } as const;
  expect(differing(CreateLeaseRequestSchema, { variant: named }, { variant: typed })).toBe("storage.file_name");
});

test("digests hold nothing of the content, and say nothing without the server key", () => {
  const request = create(CreateAccountRequestSchema, { name: "a name that could be guessed" });
  const digests = digestRequest(serverKey, CreateAccountRequestSchema, request);
  expect(digests).toHaveLength(12);
  expect(digests.toString("latin1")).not.toContain("guessed");
  expect(digestRequest(Buffer.alloc(32, 8), CreateAccountRequestSchema, request)).not.toEqual(digests);
});

/** The field that two requests differ in, as the refusal names it; undefined if they are the same. */
function differing<Desc extends DescMessage>(
  descriptor: Desc,
  first: MessageInitShape<Desc>,
  repeated: MessageInitShape<Desc>,
): string | undefined {
  const digest = (request: MessageInitShape<Desc>) => digestRequest(serverKey, descriptor, create(descriptor, request));
  let refusal: unknown;
  try {
    requireSameRequest(descriptor, digest(first), digest(repeated));
    return undefined;
  } catch (error) {
    refusal = error;
  }
  expect(refusal).toMatchObject({ reason: "REQUEST_ID_REUSED", metadata: { field: expect.any(String) } });
  return (refusal as { metadata: { field: string } }).metadata.field;
}
