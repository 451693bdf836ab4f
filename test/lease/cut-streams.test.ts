/** Design 3: a stream that is under way ends with its lease, by time and when the end was made on another server. */
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { beforeAll, expect, test } from "vitest";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { seenError } from "../server/seen-error.ts";
import { generatedBytes } from "../support/generated-bytes.ts";
import { LogLines } from "../support/log-lines.ts";
import { doors, type HttpRefusal, leaseUuid, type RpcDoor, Tenant } from "../support/tenant.ts";
import { adminToken, TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";

const log = new LogLines();
const first = await TestLeasehold.start({ logger: log.logger });
const second = await TestLeasehold.start({ beside: first });
/** More than all the buffers between two ends of a connection take. */
const large = generatedBytes(1, 0, 48 * 1_048_576);

let tenant: Tenant;
let leaseId = "";
beforeAll(async () => {
  tenant = await Tenant.open(first);
  leaseId = (await tenant.store(large, { sizeBytes: BigInt(large.length) })).leaseId;
});

/** Moves a lease's end to so many seconds from now. */
async function endIn(id: string, seconds: number): Promise<void> {
  const text =
    "update lease set (due_time, expire_time) = (select t, t from (select clock_timestamp() + make_interval(secs => $2) as t)) where lease_id = $1";
  await query(first.database, text, [leaseUuid(id), seconds]);
}

/** A stream that was begun, of which nothing more is read before the server has cut it. */
interface Reading {
  /** Resolves to why the server cut it. */
  readonly cut: Promise<unknown>;
  /** Reads what was sent before, and whatever comes. Resolves if that cannot be taken for the whole body. */
  readonly endsShort: () => Promise<void>;
}

/** The next failure of a method on a door that the server logs. */
async function nextFailure(method: RegExp, door: string): Promise<unknown> {
  const line = await log.find((found) => method.test(String(found.method)) && found.door === door, log.lines.length);
  return { reason: line.reason, metadata: line.metadata };
}

async function download(by: Tenant, door: RpcDoor): Promise<Reading> {
  const cut = nextFailure(/DownloadContent$/, door === "native" ? "native" : "http");
  const stream = by.leasesAt(door).downloadContent({ leaseId })[Symbol.asyncIterator]();
  await stream.next();
  await stream.next();
  const drain = async () => {
    while ((await stream.next()).done !== true) {
      // What was sent before the cut is still read.
    }
  };
  return { cut, endsShort: () => expect(drain()).rejects.toThrow() };
}

async function get(): Promise<Reading> {
  const cut = nextFailure(/^GET /, "http");
  const sent = request(tenant.contentUrl(leaseId), { headers: tenant.headers });
  sent.end();
  const [response]: IncomingMessage[] = await once(sent, "response");
  const endsShort = async () => {
    response?.on("error", () => response.destroy()).resume();
    await new Promise((resolve) => sent.once("close", resolve));
    expect(response?.complete).toBe(false);
  };
  return { cut, endsShort };
}

async function readEverywhere(): Promise<Reading[]> {
  return await Promise.all([...doors.map((door) => download(tenant, door)), get()]);
}

async function expectCut(readings: readonly Reading[], endReason: string): Promise<void> {
  for (const { cut } of readings) {
    expect(await cut).toMatchObject({ reason: "LEASE_ENDED", metadata: { end_reason: endReason } });
  }
  await Promise.all(readings.map(({ endsShort }) => endsShort()));
}

test("uploads under way are cut when their window is over, by stream and by PUT", async () => {
  const [streamed, put] = [await tenant.create(), await tenant.create()];
  await Promise.all([streamed, put].map((lease) => endIn(lease.leaseId, 2)));
  const never = Promise.withResolvers<void>();
  async function* messages() {
    yield { target: { case: "leaseId" as const, value: streamed.leaseId }, data: Buffer.from("some") };
    await never.promise;
  }
  const refusal = { reason: "LEASE_ENDED", metadata: { end_reason: "END_REASON_UPLOAD_ABANDONED" } };
  const putting = request(tenant.contentUrl(put.leaseId), {
    method: "PUT",
    headers: { ...tenant.headers, "content-length": 100 },
  });
  putting.on("error", () => putting.destroy());
  putting.write("some");
  const answered = once(putting, "response");
  expect((await seenError(tenant.nativeLeases.uploadContent(messages()))).details.ErrorInfo).toMatchObject(refusal);
  const [response] = await answered;
  const told: HttpRefusal = JSON.parse(Buffer.concat(await response.toArray()).toString());
  expect(told).toMatchObject({ status: 410, ...refusal });
  putting.destroy();
  never.resolve();
});

test("downloads under way are cut when a key is revoked or the account suspended", async () => {
  const { key, apiKey } = await tenant.accounts.createApiKey({ name: "reader" });
  const [revoked, suspended] = await Promise.all([download(tenant.by(apiKey), "native"), download(tenant, "connect")]);
  await tenant.accounts.revokeApiKey({ keyId: key?.keyId ?? "" });
  const admin = first.client(AdminService, adminToken);
  const { accountId } = tenant.account;
  await admin.suspendAccount({ accountId });
  expect(await revoked.cut).toMatchObject({ reason: "CREDENTIAL_INVALID" });
  expect(await suspended.cut).toMatchObject({ reason: "ACCOUNT_SUSPENDED" });
  await Promise.all([revoked.endsShort(), suspended.endsShort()]);
  await admin.resumeAccount({ accountId });
});

test("downloads under way through every door are cut when the lease's time is over", async () => {
  await endIn(leaseId, 2);
  await expectCut(await readEverywhere(), "END_REASON_DURATION_ELAPSED");
  await endIn(leaseId, 3_600);
});

test("streams under way through every door are cut when the lease is deleted on another server", async () => {
  const readings = await readEverywhere();
  const written = await tenant.create();
  const never = Promise.withResolvers<void>();
  async function* messages() {
    yield { target: { case: "leaseId" as const, value: written.leaseId }, data: Buffer.from("some") };
    await never.promise;
  }
  const upload = seenError(tenant.nativeLeases.uploadContent(messages()));
  await Promise.all([leaseId, written.leaseId].map((id) => tenant.at(second).leases.deleteLease({ leaseId: id })));
  await expectCut(readings, "END_REASON_OWNER_DELETED");
  expect((await upload).details.ErrorInfo).toMatchObject({ reason: "LEASE_ENDED" });
  never.resolve();
});
