/** Promise 7: no tenant sees, guesses or learns of another's lease: an id that is not the caller's is like one that is not. */
import { create, type DescMessage, toJsonString } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { AccountService } from "#gen/leasehold/v1/account_pb.js";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { HandoffService, IssueHandoffRequestSchema, ListHandoffsRequestSchema } from "#gen/leasehold/v1/handoff_pb.js";
import {
  DeleteLeaseRequestSchema,
  GetLeaseRequestSchema,
  LeaseService,
  UploadContentPartRequestSchema,
} from "#gen/leasehold/v1/lease_pb.js";
import {
  AckMessagesRequestSchema,
  ExtendMessagesRequestSchema,
  ListDeadMessagesRequestSchema,
  ListMessagesRequestSchema,
  ListWebhookDeliveriesRequestSchema,
  MailboxService,
  NackMessagesRequestSchema,
  PullMessagesRequestSchema,
  RedriveMessagesRequestSchema,
  RotateDropTokenRequestSchema,
} from "#gen/leasehold/v1/mailbox_pb.js";
import { formatId, newUuid } from "../../src/ids/ids.ts";
import { openMailbox } from "../mailbox/mail.ts";
import { seenError } from "../server/seen-error.ts";
import { doors, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";

const leasehold = await TestLeasehold.start();
const [owner, stranger] = await Promise.all([Tenant.open(leasehold), Tenant.open(leasehold)]);
const body = Buffer.from("nobody else's");

/** Ids that a stranger may try, by what they are. */
const foreign = {
  active: (await owner.store(body)).leaseId,
  created: (await owner.create()).leaseId,
  deleted: await deleted(),
  overdue: await overdue(),
  mailbox: (await openMailbox(owner)).leaseId,
};
const unknown = { "never made": formatId("lse", newUuid<"lse">()), "too large for an id": `lse_z${"0".repeat(25)}` };
const ids = Object.entries({ ...foreign, ...unknown });

async function deleted(): Promise<string> {
  const { leaseId } = await owner.store(body);
  await owner.leases.deleteLease({ leaseId });
  return leaseId;
}

async function overdue(): Promise<string> {
  const { leaseId } = await owner.store(body);
  await owner.age(leaseId, 3_600);
  return leaseId;
}

async function* oneMessage<Message>(message: Message) {
  yield message;
}

const receipts = ["rcp_none"];

/** Each call that takes a lease's id, as a stranger makes it; gives all that the stranger sees. */
const calls: Record<string, (leaseId: string) => Promise<unknown>> = {
  GetLease: (leaseId) => unary("LeaseService/GetLease", GetLeaseRequestSchema, { leaseId }),
  DeleteLease: (leaseId) => unary("LeaseService/DeleteLease", DeleteLeaseRequestSchema, { leaseId }),
  UploadContentPart: (leaseId) =>
    unary("LeaseService/UploadContentPart", UploadContentPartRequestSchema, { leaseId, data: body, finish: true }),
  UploadContent: (leaseId) =>
    seenError(
      stranger.nativeLeases.uploadContent(
        oneMessage({ target: { case: "leaseId" as const, value: leaseId }, data: body }),
      ),
    ),
  DownloadContent: async (leaseId) =>
    await Promise.all(doors.map((door) => seenError(stranger.download(leaseId, door)))),
  ReceiveMessages: async (leaseId) =>
    await Promise.all(
      [
        leasehold.client(MailboxService, stranger.account.apiKey),
        leasehold.nativeClient(MailboxService, stranger.account.apiKey),
      ].map((mailboxes) => seenError(mailboxes.receiveMessages({ leaseId })[Symbol.asyncIterator]().next())),
    ),
  PullMessages: (leaseId) => unary("MailboxService/PullMessages", PullMessagesRequestSchema, { leaseId }),
  ListMessages: (leaseId) => unary("MailboxService/ListMessages", ListMessagesRequestSchema, { leaseId }),
  AckMessages: (leaseId) => unary("MailboxService/AckMessages", AckMessagesRequestSchema, { leaseId, receipts }),
  NackMessages: (leaseId) => unary("MailboxService/NackMessages", NackMessagesRequestSchema, { leaseId, receipts }),
  ExtendMessages: (leaseId) =>
    unary("MailboxService/ExtendMessages", ExtendMessagesRequestSchema, {
      leaseId,
      receipts,
      visibilityTimeout: { seconds: 1n },
    }),
  ListDeadMessages: (leaseId) => unary("MailboxService/ListDeadMessages", ListDeadMessagesRequestSchema, { leaseId }),
  RedriveMessages: (leaseId) => unary("MailboxService/RedriveMessages", RedriveMessagesRequestSchema, { leaseId }),
  RotateDropToken: (leaseId) => unary("MailboxService/RotateDropToken", RotateDropTokenRequestSchema, { leaseId }),
  ListWebhookDeliveries: (leaseId) =>
    unary("MailboxService/ListWebhookDeliveries", ListWebhookDeliveriesRequestSchema, { leaseId }),
  IssueHandoff: (leaseId) => unary("HandoffService/IssueHandoff", IssueHandoffRequestSchema, { leaseId }),
  ListHandoffs: (leaseId) => unary("HandoffService/ListHandoffs", ListHandoffsRequestSchema, { leaseId }),
  "GET content": async (leaseId) => await seen(stranger.get(leaseId)),
  "GET a range of content": async (leaseId) => await seen(stranger.get(leaseId, { range: "bytes=0-1" })),
  "HEAD content": async (leaseId) =>
    await seen(fetch(stranger.contentUrl(leaseId), { method: "HEAD", headers: stranger.headers })),
  "PUT content": async (leaseId) => await seen(stranger.put(leaseId, body)),
  "PUT a range of content": async (leaseId) =>
    await seen(stranger.put(leaseId, body, { "content-range": "bytes 5-17/18" })),
};

/** The answer to a unary call, byte for byte, with its headers. */
async function unary<Desc extends DescMessage>(
  path: string,
  schema: Desc,
  request: Parameters<typeof create<Desc>>[1],
): Promise<unknown> {
  const headers = { ...stranger.headers, "content-type": "application/json" };
  const json = toJsonString(schema, create(schema, request));
  return await seen(fetch(`${leasehold.httpUrl}/leasehold.v1.${path}`, { method: "POST", headers, body: json }));
}

async function seen(answer: Promise<Response>): Promise<unknown> {
  const response = await answer;
  const headers = [...response.headers].filter(([name]) => name !== "date");
  return { status: response.status, headers, body: await response.text() };
}

test("every RPC that takes a lease's id is among the calls that are tried", () => {
  const services = [LeaseService, MailboxService, HandoffService, AccountService, AdminService];
  const taking = services.flatMap(({ methods }) =>
    methods.filter(({ input }) => input.fields.some(({ name }) => name === "lease_id")),
  );
  expect(taking.length).toBeGreaterThan(0);
  for (const { name } of taking) {
    expect(Object.keys(calls)).toContain(name);
  }
});

describe.each(Object.entries(calls))("%s", (name, call) => {
  test("answers a stranger alike, to the byte, for a lease of another's in any state and for none", async () => {
    const answers = new Map<string, unknown>();
    for (const [what, leaseId] of ids) {
      answers.set(what, await call(leaseId));
    }
    const expected = answers.get("never made");
    expect(JSON.stringify(expected)).toMatch(/NOT_FOUND|not_found|404/);
    for (const [what, answer] of answers) {
      expect(answer, what).toEqual(expected);
    }
    expect(JSON.stringify(expected)).not.toContain(owner.account.accountId);
    expect(name).toBeTruthy();
  });
});

test("what strangers try changes nothing", async () => {
  expect(await owner.show(foreign.active)).toMatchObject({ state: 2 });
  expect((await owner.download(foreign.active, "native")).equals(body)).toBe(true);
  expect(await owner.show(foreign.created)).toMatchObject({ state: 1, details: { value: { storedBytes: 0n } } });
});

test("lists show a caller's own leases and entries, also when they go on from another's id", async () => {
  const own = await stranger.create();
  for (const pageToken of ["", foreign.active, formatId("lse", newUuid<"lse">())]) {
    const { leases } = await stranger.leases.listLeases({ showEnded: true, pageToken });
    expect(leases.filter(({ leaseId }) => leaseId !== own.leaseId)).toEqual([]);
  }
  const { entries } = await stranger.accounts.listLedgerEntries({});
  expect(entries.filter(({ leaseId }) => leaseId !== "" && leaseId !== own.leaseId)).toEqual([]);
});
