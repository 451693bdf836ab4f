/** Design 7: a lease shows the axes it was made with, its state as of now, and its end; lists show each once, in order. */
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import {
  Lease_EndReason,
  Lease_ExpiryBehavior,
  Lease_ReadAccess,
  Lease_State,
  Lease_Variant,
  Lease_WriteAccess,
} from "#gen/leasehold/v1/lease_pb.js";
import { seenReason } from "../server/seen-error.ts";
import { doors, required, storageOf, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";

const leasehold = await TestLeasehold.start();

const asked = {
  sizeBytes: 12_345n,
  duration: { seconds: 7_200n },
  readAccess: Lease_ReadAccess.OWNER,
  deleteOnAccess: true,
  labels: { project: "Übersicht", "a.b-c_d": "" },
  variant: { case: "storage", value: { fileName: "a b.txt", contentType: "text/plain; charset=utf-8" } },
} as const;

const axes = {
  variant: Lease_Variant.STORAGE,
  sizeBytes: asked.sizeBytes,
  duration: expect.objectContaining({ seconds: 7_200n, nanos: 0 }),
  expiryBehavior: Lease_ExpiryBehavior.HARD_DELETE,
  readAccess: Lease_ReadAccess.OWNER,
  writeAccess: Lease_WriteAccess.OWNER_ONCE,
  deleteOnAccess: true,
  priceMicros: 1_000n,
};

describe.each(doors)("through the %s door", (door) => {
  test("a lease shows the same when it is made, found, uploaded to, read and listed", async () => {
    const tenant = await Tenant.open(leasehold);
    const leases = tenant.leasesAt(door);
    const made = required((await leases.createLease(asked)).lease);
    expect(made).toMatchObject({ ...axes, state: Lease_State.CREATED, labels: asked.labels });
    expect(made.details.value).toMatchObject({
      fileName: "a b.txt",
      contentType: "text/plain; charset=utf-8",
      storedBytes: 0n,
    });
    expect(timestampMs(required(made.expireTime)) - timestampMs(required(made.createTime))).toBe(7_200_000);
    expect([made.activeTime, made.endTime, made.destroyTime, made.unrecoverableTime]).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    expect(await tenant.show(made.leaseId)).toEqual(made);
    const half = required((await leases.uploadContentPart({ leaseId: made.leaseId, data: Buffer.from("half") })).lease);
    expect(half).toMatchObject({ state: Lease_State.CREATED, details: { value: { storedBytes: 4n } } });
    expect(await tenant.show(made.leaseId)).toEqual(half);
    const part = { leaseId: made.leaseId, offset: 4n, data: Buffer.from(" and half"), finish: true };
    const active = required((await leases.uploadContentPart(part)).lease);
    expect(active).toMatchObject({
      ...axes,
      state: Lease_State.ACTIVE,
      labels: asked.labels,
      expireTime: made.expireTime,
    });
    expect(active.activeTime).toBeDefined();
    expect(storageOf(active).sha256).toHaveLength(32);
    expect(await tenant.show(made.leaseId)).toEqual(active);
    for await (const { lease } of leases.downloadContent({ leaseId: made.leaseId })) {
      expect(lease).toEqual(active);
      break;
    }
    expect((await leases.listLeases({})).leases).toEqual([active]);
  });
});

test("what is unset is shown as what it stands for", async () => {
  const tenant = await Tenant.open(leasehold);
  const lease = await tenant.create();
  expect(lease).toMatchObject({
    readAccess: Lease_ReadAccess.OWNER_AND_CLAIM_HOLDERS,
    expiryBehavior: Lease_ExpiryBehavior.HARD_DELETE,
    deleteOnAccess: false,
    details: { value: { fileName: "", contentType: "application/octet-stream" } },
  });
  expect(lease.labels).toEqual({});
});

test("a deleted lease shows when and why it ended and that it is destroyed, and holds no name, type or label", async () => {
  const tenant = await Tenant.open(leasehold);
  const { leaseId } = await tenant.store(Buffer.from("content"), asked);
  const lease = required((await tenant.leases.deleteLease({ leaseId })).lease);
  expect(lease).toMatchObject({
    ...axes,
    state: Lease_State.EXPIRED,
    endReason: Lease_EndReason.OWNER_DELETED,
  });
  expect(lease.labels).toEqual({});
  expect(timestampMs(required(lease.destroyTime))).toBeGreaterThanOrEqual(timestampMs(required(lease.endTime)));
  expect(lease.details.value).toMatchObject({
    fileName: "",
    contentType: "",
    sha256: new Uint8Array(),
    storedBytes: 7n,
  });
  expect(await tenant.show(leaseId)).toEqual(lease);
  expect((await tenant.leases.deleteLease({ leaseId })).lease).toEqual(lease);
});

describe("lists", () => {
  test("show every lease once, newest first, whatever the size of a page", async () => {
    const tenant = await Tenant.open(leasehold);
    const made: string[] = [];
    for (let index = 0; index < 7; index++) {
      made.unshift((await tenant.create()).leaseId);
    }
    for (const pageSize of [1, 3, 7, 1000, 0]) {
      expect(await listed(tenant, { pageSize })).toEqual(made);
    }
  });

  test("show ended leases only when asked to, and pages are not cut short by those that are not shown", async () => {
    const tenant = await Tenant.open(leasehold);
    const made: string[] = [];
    for (let index = 0; index < 6; index++) {
      made.unshift((await tenant.create()).leaseId);
    }
    const isEven = (_: string, index: number) => index % 2 === 0;
    await Promise.all(made.filter(isEven).map((leaseId) => tenant.leases.deleteLease({ leaseId })));
    const live = made.filter((id, index) => !isEven(id, index));
    expect(await listed(tenant, { pageSize: 2 })).toEqual(live);
    expect((await tenant.leases.listLeases({ pageSize: 2 })).leases).toHaveLength(2);
    expect(await listed(tenant, { pageSize: 2, showEnded: true })).toEqual(made);
  });

  test("go on where they were while leases are made and deleted", async () => {
    const tenant = await Tenant.open(leasehold);
    const [oldest, middle, newest] = [await tenant.create(), await tenant.create(), await tenant.create()];
    const page = await tenant.leases.listLeases({ pageSize: 1 });
    expect(page.leases.map(({ leaseId }) => leaseId)).toEqual([newest.leaseId]);
    await tenant.create();
    await tenant.leases.deleteLease({ leaseId: newest.leaseId });
    const next = await tenant.leases.listLeases({ pageSize: 5, pageToken: page.nextPageToken });
    expect(next.leases.map(({ leaseId }) => leaseId)).toEqual([middle.leaseId, oldest.leaseId]);
    expect(next.nextPageToken).toBe("");
  });

  test("of an account without leases are empty", async () => {
    const tenant = await Tenant.open(leasehold);
    expect(await tenant.leases.listLeases({})).toMatchObject({ leases: [], nextPageToken: "" });
  });

  test.each([{ pageSize: -1 }, { pageSize: 1001 }, { pageToken: "next" }])("refuse %o", async (request) => {
    const tenant = await Tenant.open(leasehold);
    expect(await seenReason(tenant.leases.listLeases(request))).toBe("INVALID_FIELD");
  });
});

async function listed(tenant: Tenant, request: { pageSize: number; showEnded?: boolean }): Promise<string[]> {
  const leaseIds: string[] = [];
  for (let pageToken = ""; ; ) {
    const page = await tenant.leases.listLeases({ ...request, pageToken });
    leaseIds.push(...page.leases.map(({ leaseId }) => leaseId));
    pageToken = page.nextPageToken;
    if (pageToken === "") {
      return leaseIds;
    }
  }
}
