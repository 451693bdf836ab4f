import { readFileSync } from "node:fs";
import { create, type DescMethod } from "@bufbuild/protobuf";
import { ConnectError, createClient } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { AccountService, ApiKey_Scope } from "#gen/leasehold/v1/account_pb.js";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { CheckpointService } from "#gen/leasehold/v1/checkpoint_pb.js";
import { CronService } from "#gen/leasehold/v1/cron_pb.js";
import { HandoffService } from "#gen/leasehold/v1/handoff_pb.js";
import { Lease_Variant, LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { MailboxService } from "#gen/leasehold/v1/mailbox_pb.js";
import { ScratchpadService } from "#gen/leasehold/v1/scratchpad_pb.js";
import { scopeOfRpc } from "../../src/account/rpc-scopes.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";

const leasehold = await TestLeasehold.start();
const owner = await leasehold.account();
const leaseId = `lse_${"0".repeat(26)}`;
const storage = { case: "storage", value: {} } as const;
const duration = { seconds: 3600n };

/** A request of each RPC that its rules let through. */
const requests: Readonly<Record<string, object>> = {
  QuoteLease: { variant: Lease_Variant.STORAGE, sizeBytes: 1n, duration },
  CreateLease: { sizeBytes: 1n, duration, variant: storage },
  GetLease: { leaseId },
  DeleteLease: { leaseId },
  UploadContent: { target: { case: "leaseId", value: leaseId } },
  UploadContentPart: { leaseId },
  DownloadContent: { leaseId },
  ReceiveMessages: { leaseId },
  PullMessages: { leaseId },
  ListMessages: { leaseId },
  AckMessages: { leaseId, receipts: ["none"] },
  NackMessages: { leaseId, receipts: ["none"] },
  ExtendMessages: { leaseId, receipts: ["none"], visibilityTimeout: { seconds: 1n } },
  ListDeadMessages: { leaseId },
  RedriveMessages: { leaseId },
  RotateDropToken: { leaseId },
  ListWebhookDeliveries: { leaseId },
  PutCheckpoint: { leaseId },
  GetCheckpoint: { leaseId },
  ListCheckpointVersions: { leaseId },
  WatchCheckpoint: { leaseId },
  UploadCheckpoint: { put: { leaseId } },
  DownloadCheckpoint: { leaseId },
  SetEntry: { leaseId, key: "a" },
  GetEntry: { leaseId, key: "a" },
  DeleteEntry: { leaseId, key: "a" },
  ListEntries: { leaseId },
  AppendToEntry: { leaseId, key: "a" },
  IncrementEntry: { leaseId, key: "a" },
  WatchEntries: { leaseId },
  PauseCron: { leaseId },
  ResumeCron: { leaseId },
  ListCronRuns: { leaseId },
  IssueHandoff: { leaseId },
  ListHandoffs: { leaseId },
  RevokeHandoff: { handoffId: `hnd_${"0".repeat(26)}` },
  RevokeApiKey: { keyId: `key_${"0".repeat(26)}` },
};

/** The scope in each RPC's comment: the table that callers read. */
function scopesInComments(): Map<string, string> {
  const scopes = new Map<string, string>();
  for (const file of ["lease", "mailbox", "checkpoint", "scratchpad", "cron", "handoff", "account", "admin"]) {
    const proto = readFileSync(`proto/leasehold/v1/${file}.proto`, "utf8");
    for (const [, comment = "", rpc = ""] of proto.matchAll(/((?:^ {2}\/\/.*\n)+) {2}rpc (\w+)\(/gm)) {
      scopes.set(rpc, /Scope: (\w+)/.exec(comment)?.[1] ?? "missing");
    }
  }
  return scopes;
}

const scopes = scopesInComments();
const methods = [
  LeaseService,
  MailboxService,
  CheckpointService,
  ScratchpadService,
  CronService,
  HandoffService,
  AccountService,
].flatMap((service) => service.methods);
const scoped = methods.filter((method) => scopes.get(method.name) !== "none");

test("every RPC's comment gives its scope", () => {
  const all = [...methods, ...AdminService.methods].map((method) => [
    method.name,
    scopes.get(method.name) ?? "missing",
  ]);
  expect(all.filter(([, scope]) => scope === "missing")).toEqual([]);
});

test("the server's own table of scopes is the one in the comments", () => {
  const table = methods.map((method) => [method.name, scopeOfRpc(method) ?? "none"]);
  expect(table).toEqual(methods.map((method) => [method.name, scopes.get(method.name)]));
});

test.each(scoped.map((method) => [method.name, method] as const))(
  "%s needs the scope in its comment, and no other",
  async (name, method) => {
    const scope = scopes.get(name) ?? "";
    const without = await keyWith(allScopes.filter((one) => one !== scope));
    expect(await refusalOf(method, without)).toEqual({ reason: "SCOPE_MISSING", scope });
    const only = await keyWith([scope]);
    expect((await refusalOf(method, only))?.reason).not.toBe("SCOPE_MISSING");
  },
);

test.each(scoped.map((method) => [method.name, method] as const))("%s is refused without a key", async (_, method) => {
  expect((await refusalOf(method, undefined))?.reason).toBe("CREDENTIAL_MISSING");
});

test.each(scoped.filter((method) => method.name in requests).map((method) => [method.name, method] as const))(
  "%s says that the key is missing, unknown or lacks the scope before it says what is wrong with the request",
  async (name, method) => {
    const scope = scopes.get(name) ?? "";
    const invalid = { leaseId: "no id", handoffId: "no id", keyId: "no id", sizeBytes: -1n, offset: -1n };
    expect((await refusalOf(method, undefined, invalid))?.reason).toBe("CREDENTIAL_MISSING");
    const without = await keyWith(allScopes.filter((one) => one !== scope));
    expect((await refusalOf(method, without, invalid))?.reason).toBe("SCOPE_MISSING");
    expect((await refusalOf(method, owner.apiKey, invalid))?.reason).toBe("INVALID_FIELD");
  },
);

test.each(AdminService.methods.map((method) => [method.name, method] as const))(
  "%s takes the admin token and no API key",
  async (_, method) => {
    const accountId = owner.accountId;
    const request = { name: "x", accountId, amountMicros: 1n };
    expect((await refusalOf(method, undefined, request))?.reason).toBe("CREDENTIAL_MISSING");
    expect((await refusalOf(method, owner.apiKey, request))?.reason).toBe("CREDENTIAL_INVALID");
  },
);

const allScopes = ["read", "write", "create", "account"];

async function keyWith(names: readonly string[]): Promise<string> {
  const values = names.map((name) => ApiKey_Scope[name.toUpperCase() as keyof typeof ApiKey_Scope]);
  const { apiKey } = await leasehold.of(owner).account.createApiKey({ name: names.join(), scopes: values });
  return apiKey;
}

async function refusalOf(method: DescMethod, bearer: string | undefined, request = requests[method.name] ?? {}) {
  const client = createClient(method.parent, leasehold.transport("connect", bearer));
  const names = method.input.members.map((member) => member.localName);
  const known = Object.fromEntries(Object.entries(request).filter(([field]) => names.includes(field)));
  const message = create(method.input, known);
  const call = Reflect.get(client, method.localName) as (input: unknown) => unknown;
  try {
    switch (method.methodKind) {
      case "client_streaming":
        await call(
          (async function* () {
            yield message;
          })(),
        );
        break;
      case "server_streaming":
        for await (const _ of call(message) as AsyncIterable<unknown>) {
          break;
        }
        break;
      default:
        await call(message);
    }
    return undefined;
  } catch (error) {
    const [info] = ConnectError.from(error).findDetails(ErrorInfoSchema);
    return { reason: info?.reason, ...info?.metadata };
  }
}
