/** Promise 3: nothing is readable, writable, claimable or shown as active past its time, with no sweeper about. */
import { afterAll, describe, expect, test, vi } from "vitest";
import { HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { Lease_EndReason, Lease_State } from "#gen/leasehold/v1/lease_pb.js";
import { Callers } from "../../src/account/caller.ts";
import { LongTimer } from "../../src/server/long-timer.ts";
import { StorageUploads } from "../../src/storage/storage-uploads.ts";
import { seenError, seenReason } from "../server/seen-error.ts";
import { fakeCall } from "../support/fake-call.ts";
import { lockWaiters } from "../support/lock-wait.ts";
import { doors, leaseUuid, refusalOf, storageOf, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold);
const body = Buffer.from("what is to be gone in time");
const named = {
  labels: { job: "nightly" },
  variant: { case: "storage", value: { fileName: "report.txt", contentType: "text/plain" } },
} as const;

/** An active lease whose time has just come, with a token for it. No sweep has been by. */
async function overdue() {
  const { leaseId, expireTime } = await tenant.store(body, named);
  const { claimToken } = await tenant.handoffs.issueHandoff({ leaseId, maxClaims: 3 });
  await tenant.age(leaseId, 3_600);
  return { leaseId, claimToken, expireTime };
}

/** What a call for the content of a lease that is over is refused with. */
const ended = {
  reason: "LEASE_ENDED",
  metadata: { end_reason: "END_REASON_DURATION_ELAPSED", end_time: expect.any(String) },
};

async function* oneMessage<Message>(message: Message) {
  yield message;
}

test("up to its time a lease is active, and from then on it is shown as ended, with its name, type and labels gone", async () => {
  const { leaseId } = await tenant.store(body, named);
  await tenant.age(leaseId, 3_590);
  expect(await tenant.show(leaseId)).toMatchObject({
    state: Lease_State.ACTIVE,
    labels: named.labels,
    details: { value: { fileName: "report.txt" } },
  });
  await tenant.age(leaseId, 10);
  const shown = await tenant.show(leaseId);
  expect(shown).toMatchObject({ state: Lease_State.EXPIRED, endReason: Lease_EndReason.DURATION_ELAPSED, labels: {} });
  expect(shown.labels).toEqual({});
  expect(shown.endTime).toEqual(shown.expireTime);
  expect(shown.details.value).toMatchObject({ fileName: "", contentType: "", storedBytes: BigInt(body.length) });
  expect(storageOf(shown).sha256).toHaveLength(0);
  expect(shown.destroyTime).toBeUndefined();
});

test("past its time a lease is listed among the ended ones only", async () => {
  const other = await Tenant.open(leasehold);
  const [over, live] = [await other.store(body), await other.store(body)];
  await other.age(over.leaseId, 3_600);
  const idsOf = async (showEnded: boolean) =>
    (await other.leases.listLeases({ showEnded })).leases.map(({ leaseId }) => leaseId);
  expect(await idsOf(false)).toEqual([live.leaseId]);
  expect(await idsOf(true)).toEqual([live.leaseId, over.leaseId]);
});

describe.each(doors)("past its time, through the %s door,", (door) => {
  test("a body is not read", async () => {
    const { leaseId } = await overdue();
    expect((await seenError(tenant.download(leaseId, door))).details.ErrorInfo).toMatchObject(ended);
  });

  test("a lease that waits for its content is not written", async () => {
    const { leaseId } = await tenant.create();
    await tenant.age(leaseId, 3_600);
    const refusal = { reason: "LEASE_ENDED", metadata: { end_reason: "END_REASON_UPLOAD_ABANDONED" } };
    const part = tenant.leasesAt(door).uploadContentPart({ leaseId, data: body, finish: true });
    expect((await seenError(part)).details.ErrorInfo).toMatchObject(refusal);
    if (door === "native") {
      const message = { target: { case: "leaseId" as const, value: leaseId }, data: body, finish: true };
      const stream = tenant.nativeLeases.uploadContent(oneMessage(message));
      expect((await seenError(stream)).details.ErrorInfo).toMatchObject(refusal);
    }
  });

  test("a token is not issued, not looked at and not redeemed", async () => {
    const { leaseId, claimToken } = await overdue();
    expect((await seenError(tenant.handoffs.issueHandoff({ leaseId }))).details.ErrorInfo).toMatchObject(ended);
    const receiver = door === "connect" ? leasehold.client(HandoffService) : leasehold.nativeClient(HandoffService);
    const claim = (async () => {
      for await (const { part } of receiver.claimHandoff({ claimToken })) {
        expect.unreachable(`${part.case} was sent`);
      }
    })();
    expect((await seenError(claim)).details.ErrorInfo).toMatchObject(ended);
    expect((await seenError(receiver.inspectHandoff({ claimToken }))).details.ErrorInfo).toMatchObject(ended);
  });
});

test("past its time no plain route reads, writes or redeems", async () => {
  const { leaseId, claimToken } = await overdue();
  for (const headers of [{}, { range: "bytes=0-3" }]) {
    expect(await refusalOf(await tenant.get(leaseId, headers))).toMatchObject({ status: 410, ...ended });
  }
  const head = await fetch(tenant.contentUrl(leaseId), { method: "HEAD", headers: tenant.headers });
  expect(head.status).toBe(410);
  expect(await refusalOf(await tenant.put(leaseId, body))).toMatchObject({ status: 410, ...ended });
  const claim = await fetch(`${leasehold.httpUrl}/api/claim/${claimToken}`, { method: "POST" });
  expect(await refusalOf(claim)).toMatchObject({ status: 410, ...ended });
});

test("a delete past its time changes neither the time nor the reason of the end", async () => {
  const { leaseId } = await overdue();
  const { lease } = await tenant.leases.deleteLease({ leaseId });
  expect(lease).toMatchObject({ state: Lease_State.EXPIRED, endReason: Lease_EndReason.DURATION_ELAPSED });
  expect(lease?.endTime).toEqual(lease?.expireTime);
  expect(lease?.destroyTime).toBeDefined();
});

describe("a write that waits for a lock while its lease's time comes", () => {
  /** Runs a call that waits for the lease's row, while the lease's time comes: after the call began, and before its turn. */
  async function whileTimePasses<Result>(leaseId: string, call: () => Promise<Result>): Promise<Result> {
    const { result } = await leasehold.database.transaction(async (transaction) => {
      await query(transaction, "select from lease where lease_id = $1 for update", [leaseUuid(leaseId)]);
      const waiting = call();
      waiting.catch(() => "told by whoever awaits it");
      await lockWaiters(leasehold.database, 1);
      await query(
        transaction,
        `update lease set (due_time, expire_time) = (select now, now from (select clock_timestamp() as now) as clock)
        where lease_id = $1`,
        [leaseUuid(leaseId)],
      );
      return { result: waiting };
    });
    return await result;
  }

  const abandoned = { reason: "LEASE_ENDED", metadata: { end_reason: "END_REASON_UPLOAD_ABANDONED" } };

  test("does not begin an upload", async () => {
    const { leaseId } = await tenant.create();
    const caller = await new Callers(leasehold.database).of(fakeCall({ bearer: tenant.account.apiKey }));
    const start = {
      offset: 0n,
      restart: false,
      leastBytes: 0n,
      mostBytes: undefined,
      signal: new AbortController().signal,
    };
    const begin = whileTimePasses(leaseId, () =>
      new StorageUploads(leasehold.core).begin(caller, leaseUuid(leaseId), start),
    );
    await expect(begin).rejects.toMatchObject(abandoned);
  });

  test("does not restart an upload", async () => {
    const { leaseId } = await tenant.create();
    await tenant.leases.uploadContentPart({ leaseId, data: body });
    const put = await whileTimePasses(leaseId, () => tenant.put(leaseId, body));
    expect(await refusalOf(put)).toMatchObject({ status: 410, ...abandoned });
  });

  test("does not finish an upload", async () => {
    const { leaseId } = await tenant.create();
    const goOn = Promise.withResolvers<void>();
    async function* messages() {
      yield { target: { case: "leaseId" as const, value: leaseId }, data: body };
      await goOn.promise;
      yield { offset: BigInt(body.length), finish: true };
    }
    const upload = tenant.nativeLeases.uploadContent(messages());
    while (
      (await query(leasehold.database, "select from storage_content where lease_id = $1", [leaseUuid(leaseId)]))
        .length === 0
    ) {
      // The row is the signal that the upload has begun.
    }
    const finish = whileTimePasses(leaseId, async () => {
      goOn.resolve();
      return await upload;
    });
    expect((await seenError(finish)).details.ErrorInfo).toMatchObject(abandoned);
    expect((await tenant.show(leaseId)).state).toBe(Lease_State.EXPIRED);
  });

  test("does not issue a token", async () => {
    const { leaseId } = await tenant.store(body);
    const issue = whileTimePasses(leaseId, () => tenant.handoffs.issueHandoff({ leaseId }));
    expect((await seenError(issue)).details.ErrorInfo).toMatchObject(ended);
  });

  test("does not redeem a token", async () => {
    const { leaseId } = await tenant.store(body);
    const { claimToken } = await tenant.handoffs.issueHandoff({ leaseId });
    const claim = await whileTimePasses(leaseId, () =>
      fetch(`${leasehold.httpUrl}/api/claim/${claimToken}`, { method: "POST" }),
    );
    expect(await refusalOf(claim)).toMatchObject({ status: 410, ...ended });
  });

  test("does not take the place of the lease's own end", async () => {
    const { leaseId } = await tenant.store(body);
    const { lease } = await whileTimePasses(leaseId, () => tenant.leases.deleteLease({ leaseId }));
    expect(lease?.endReason).toBe(Lease_EndReason.DURATION_ELAPSED);
    expect(lease?.endTime).toEqual(lease?.expireTime);
  });
});

describe("a timer of more than 2^31-1 ms", () => {
  afterAll(() => vi.useRealTimers());

  test("fires once, when its time has come", () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    const fire = vi.fn();
    const day = 86_400_000;
    const timer = new LongTimer(60 * day, fire);
    vi.advanceTimersByTime(60 * day - 1);
    expect(fire).not.toHaveBeenCalled();
    expect(timer.remainingMs).toBe(1);
    vi.advanceTimersByTime(1);
    expect(fire).toHaveBeenCalledTimes(1);
    vi.advanceTimersByTime(60 * day);
    expect(fire).toHaveBeenCalledTimes(1);
  });

  test("does not fire once it is cancelled, whichever of its parts is running", () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    const fire = vi.fn();
    const day = 86_400_000;
    const timer = new LongTimer(60 * day, fire);
    vi.advanceTimersByTime(30 * day);
    timer.cancel();
    vi.advanceTimersByTime(60 * day);
    expect(fire).not.toHaveBeenCalled();
  });
});

test("a lease of a year is read and written like any other", async () => {
  const { leaseId } = await tenant.store(body, { duration: { seconds: 31_536_000n } });
  for (const door of doors) {
    expect((await tenant.download(leaseId, door)).equals(body)).toBe(true);
  }
});

test("a refusal of a lease that is over comes before what else is wrong with the call", async () => {
  const { leaseId } = await overdue();
  expect(await seenReason(tenant.leases.uploadContentPart({ leaseId, offset: 7n, data: body }))).toBe("LEASE_ENDED");
  expect(await seenReason(tenant.download(leaseId, "native", { offset: 10_000n }))).toBe("LEASE_ENDED");
});
