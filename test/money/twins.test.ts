/** Design 5: a call with a request_id is done once, whoever repeats it, wherever and whenever. */
import { randomUUID } from "node:crypto";
import { toJson } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { Lease_ReadAccess, LeaseSchema } from "#gen/leasehold/v1/lease_pb.js";
import { seenError, seenReason } from "../server/seen-error.ts";
import { callsGathered } from "../support/calls-in-flight.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { expectSoundMoney } from "../support/sound-money.ts";
import { askFor, doors, type LeaseInit, roomForAnHour, Tenant } from "../support/tenant.ts";
import { adminToken, TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";

const first = await TestLeasehold.start();
const second = await TestLeasehold.start({ beside: first });
const admin = first.client(AdminService, adminToken);
const priceMicros = 1_000n;

test("32 twins of one request_id, over two servers and both doors, give one charge, one lease and the same answer", async () => {
  const tenant = await Tenant.open(first);
  const requestId = randomUUID();
  const balanceMicros = await tenant.balanceMicros();
  const callers = [first, second].flatMap((server) => doors.map((door) => tenant.at(server).leasesAt(door)));
  const answers = await Promise.all(
    Array.from({ length: 8 }, () =>
      callers.map((leases) => leases.createLease({ ...roomForAnHour, requestId })),
    ).flat(),
  );
  expect(answers).toHaveLength(32);
  const [answer] = answers.map(({ lease }) => lease && toJson(LeaseSchema, lease));
  for (const { lease } of answers) {
    expect(lease && toJson(LeaseSchema, lease)).toEqual(answer);
  }
  expect(await tenant.leaseCount()).toBe(1n);
  expect(await tenant.balanceMicros()).toBe(balanceMicros - priceMicros);
  await expectSoundMoney(first.database);
});

test("twins that gather while the account is locked are served by one commit, and only one of them pays", async () => {
  const tenant = await Tenant.open(first, 20n * priceMicros);
  const requestId = randomUUID();
  const calls = await first.database.transaction(async (transaction) => {
    await query(transaction, "select from account where owner_id = $1 for update", [tenant.ownerId]);
    const another = tenant.create();
    await lockWaiters(first.database, 1);
    const twins = Array.from({ length: 15 }, () => tenant.create({ requestId }));
    await callsGathered(first, 16);
    return { another, twins: Promise.all(twins) };
  });
  await calls.another;
  const leaseIds = (await calls.twins).map(({ leaseId }) => leaseId);
  expect(new Set(leaseIds).size).toBe(1);
  expect(await tenant.balanceMicros()).toBe(18n * priceMicros);
  await expectSoundMoney(first.database);
});

test("a twin that would not be paid for again is answered all the same", async () => {
  const tenant = await Tenant.open(first, priceMicros);
  const request = { ...roomForAnHour, requestId: randomUUID() };
  const { leaseId } = await tenant.create(request);
  expect(await seenReason(tenant.create())).toBe("PAYMENT_REQUIRED");
  expect((await tenant.at(second).create(request)).leaseId).toBe(leaseId);
  expect(await tenant.leaseCount()).toBe(1n);
});

test("a repeat is answered after prices and bounds have changed so that the request would be refused now", async () => {
  const tenant = await Tenant.open(first);
  const request = { ...roomForAnHour, requestId: randomUUID(), maxPriceMicros: priceMicros };
  const { leaseId } = await tenant.create(request);
  await admin.setPricing({ minChargeMicros: 2n * priceMicros, maxDuration: { seconds: 600n } });
  try {
    expect((await tenant.create(request)).leaseId).toBe(leaseId);
    expect(await seenReason(tenant.create({ requestId: randomUUID() }))).toBe("OUT_OF_BOUNDS");
  } finally {
    await admin.setPricing({ minChargeMicros: priceMicros, maxDuration: { seconds: 31_536_000n } });
  }
  expect(await tenant.leaseCount()).toBe(1n);
});

test("a suspended account is told so for a repeat, is charged nothing, and gets its answer once it is resumed", async () => {
  const tenant = await Tenant.open(first);
  const { accountId } = tenant.account;
  const request = { ...roomForAnHour, requestId: randomUUID() };
  const { leaseId } = await tenant.create(request);
  const balanceMicros = await tenant.balanceMicros();
  await admin.suspendAccount({ accountId });
  expect(await seenReason(tenant.create(request))).toBe("ACCOUNT_SUSPENDED");
  await admin.resumeAccount({ accountId });
  expect((await tenant.create(request)).leaseId).toBe(leaseId);
  expect(await tenant.balanceMicros()).toBe(balanceMicros);
});

test("a repeat shows the lease as it is now, also once it has ended", async () => {
  const tenant = await Tenant.open(first);
  const request = { ...roomForAnHour, requestId: randomUUID() };
  const { leaseId } = await tenant.create(request);
  await tenant.put(leaseId, Buffer.from("content"));
  expect(await tenant.create(request)).toEqual(await tenant.show(leaseId));
  await tenant.leases.deleteLease({ leaseId });
  expect(await tenant.create(request)).toEqual(await tenant.show(leaseId));
  expect(await tenant.leaseCount()).toBe(1n);
});

test("a request_id is the same in upper and lower case, and another account's is another", async () => {
  const [tenant, other] = await Promise.all([Tenant.open(first), Tenant.open(first)]);
  const requestId = randomUUID();
  const { leaseId } = await tenant.create({ requestId });
  expect((await tenant.create({ requestId: requestId.toUpperCase() })).leaseId).toBe(leaseId);
  expect((await other.create({ requestId })).leaseId).not.toBe(leaseId);
});

test("a refusal is not remembered: the same request_id makes the lease once it can be paid", async () => {
  const tenant = await Tenant.open(first, 0n);
  const request = { ...roomForAnHour, requestId: randomUUID() };
  expect(await seenReason(tenant.create(request))).toBe("PAYMENT_REQUIRED");
  await admin.creditAccount({ accountId: tenant.account.accountId, amountMicros: priceMicros });
  await tenant.create(request);
  expect(await tenant.balanceMicros()).toBe(0n);
});

test("a CreateLeaseRequest inside UploadContent finds the lease that CreateLease made, and the other way round", async () => {
  const tenant = await Tenant.open(first);
  const request = { ...roomForAnHour, requestId: randomUUID() };
  const { leaseId } = await tenant.create(request);
  const upload = (create: LeaseInit, data: string) =>
    tenant.nativeLeases.uploadContent(
      messages([{ target: { case: "create" as const, value: create }, data: Buffer.from(data) }]),
    );
  expect((await upload(request, "abc")).lease?.leaseId).toBe(leaseId);
  const other = { ...roomForAnHour, requestId: randomUUID() };
  const { lease } = await upload(other, "def");
  expect((await tenant.create(other)).leaseId).toBe(lease?.leaseId);
  expect(await seenReason(upload({ ...roomForAnHour }, "ghi"))).toBe("INVALID_FIELD");
  expect(await tenant.leaseCount()).toBe(2n);
});

describe("a request_id with other content is refused, and the field that differs is named", () => {
  const original = {
    ...roomForAnHour,
    maxPriceMicros: 5_000n,
    labels: { a: "1", b: "2" },
    variant: { case: "storage", value: { fileName: "a.txt", contentType: "text/plain" } },
  } as const;
  const changes: Record<string, LeaseInit> = {
    size_bytes: { sizeBytes: 1_048_577n },
    duration: { duration: { seconds: 3_601n } },
    expiry_behavior: { expiryBehavior: 1 },
    read_access: { readAccess: Lease_ReadAccess.OWNER },
    delete_on_access: { deleteOnAccess: true },
    max_price_micros: { maxPriceMicros: 5_001n },
    labels: { labels: { a: "1", b: "3" } },
    "storage.file_name": { variant: { case: "storage", value: { fileName: "b.txt", contentType: "text/plain" } } },
    "storage.content_type": { variant: { case: "storage", value: { fileName: "a.txt", contentType: "text/html" } } },
  };
  test.each(Object.entries(changes))("%s", async (field, change) => {
    const tenant = await Tenant.open(first);
    const requestId = randomUUID();
    const { leaseId } = await tenant.create({ ...original, requestId });
    const refused = await seenError(
      tenant.at(second).leases.createLease(askFor({ ...original, ...change, requestId } as LeaseInit)),
    );
    expect(refused.details.ErrorInfo).toMatchObject({ reason: "REQUEST_ID_REUSED", metadata: { field } });
    const reordered = { ...original, labels: { b: "2", a: "1" }, requestId };
    expect((await tenant.create(reordered)).leaseId).toBe(leaseId);
    expect(await tenant.leaseCount()).toBe(1n);
  });
});

async function* messages<Message>(all: readonly Message[]): AsyncGenerator<Message> {
  yield* all;
}
