/** Promise 7 for checkpoints: a lease or a workflow of another's is like one that never was. */
import { randomUUID } from "node:crypto";
import { create, type DescMessage, toJsonString } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  CheckpointService,
  DownloadCheckpointRequestSchema,
  GetCheckpointRequestSchema,
  ListCheckpointVersionsRequestSchema,
  PutCheckpointRequestSchema,
  WatchCheckpointRequestSchema,
} from "#gen/leasehold/v1/checkpoint_pb.js";
import { formatId, newUuid } from "../../src/ids/ids.ts";
import { seenError } from "../server/seen-error.ts";
import { doors, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { checkpointOf, Workflows } from "./workflow.ts";

const leasehold = await TestLeasehold.start();
const owner = new Workflows(await Tenant.open(leasehold));
const stranger = new Workflows(await Tenant.open(leasehold));

async function targetsOf(state: "active" | "deleted" | "overdue") {
  const lease = await owner.begin({ workflowId: `wf-${randomUUID()}` });
  const { leaseId } = lease;
  const { workflowId } = checkpointOf(lease);
  await owner.put(leaseId, "nobody else's");
  if (state === "deleted") {
    await owner.leases.deleteLease({ leaseId });
  } else if (state === "overdue") {
    await owner.tenant.age(leaseId, 3_600);
  }
  return [{ leaseId }, { workflowId }, { leaseId, workflowId }];
}

const foreign = (await Promise.all((["active", "deleted", "overdue"] as const).map(targetsOf))).flat();
const never = { leaseId: formatId("lse", newUuid<"lse">()), workflowId: `wf-${randomUUID()}` };
const unknown = [{ leaseId: never.leaseId }, { workflowId: never.workflowId }, never];

interface Target {
  readonly leaseId?: string;
  readonly workflowId?: string;
}

/** Each call as a stranger makes it; gives all that the stranger sees. */
const calls: Record<string, (target: Target) => Promise<unknown>> = {
  PutCheckpoint: (target) => unary("PutCheckpoint", PutCheckpointRequestSchema, { ...target, body: Buffer.from("x") }),
  GetCheckpoint: (target) => unary("GetCheckpoint", GetCheckpointRequestSchema, target),
  ListCheckpointVersions: (target) => unary("ListCheckpointVersions", ListCheckpointVersionsRequestSchema, target),
  WatchCheckpoint: (target) => {
    const request = create(WatchCheckpointRequestSchema, target);
    return streamed((door) => stranger.door(door).watchCheckpoint(request)[Symbol.asyncIterator]().next());
  },
  UploadCheckpoint: (target) =>
    streamed((door) => stranger.upload(door, [{ put: target, data: Buffer.from("x"), finish: true }])),
  DownloadCheckpoint: (target) => {
    const request = create(DownloadCheckpointRequestSchema, target);
    return streamed((door) => stranger.door(door).downloadCheckpoint(request)[Symbol.asyncIterator]().next());
  },
};

async function unary<Desc extends DescMessage>(
  name: string,
  schema: Desc,
  request: Parameters<typeof create<Desc>>[1],
) {
  const headers = { ...stranger.tenant.headers, "content-type": "application/json" };
  const body = toJsonString(schema, create(schema, request));
  const url = `${leasehold.httpUrl}/leasehold.v1.CheckpointService/${name}`;
  const response = await fetch(url, { method: "POST", headers, body });
  return {
    status: response.status,
    headers: [...response.headers].filter(([header]) => header !== "date"),
    body: await response.text(),
  };
}

async function streamed(call: (door: (typeof doors)[number]) => Promise<unknown>): Promise<unknown> {
  return await Promise.all(doors.map((door) => seenError(call(door))));
}

test("every RPC of the service is among the calls that are tried", () => {
  expect(Object.keys(calls).sort()).toEqual(CheckpointService.methods.map(({ name }) => name).sort());
});

test.each(Object.entries(calls))(
  "%s answers a stranger alike, to the byte, for what is another's and for what is not",
  async (_, call) => {
    const expected = await call(never);
    expect(JSON.stringify(expected)).toMatch(/NOT_FOUND|not_found|404/);
    for (const target of [...foreign, ...unknown]) {
      expect(await call(target), JSON.stringify(target)).toEqual(expected);
    }
  },
);

test("what strangers try changes nothing", async () => {
  const [active] = foreign;
  expect(await owner.text(active?.leaseId ?? "")).toBe("nobody else's");
  expect((await owner.get(active?.leaseId ?? "")).version).toBe(1n);
});
