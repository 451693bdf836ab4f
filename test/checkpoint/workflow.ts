/** A Checkpoint lease of a test, and all that is done to it, through either door. */
import { randomUUID } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { vi } from "vitest";
import {
  type Checkpoint,
  CheckpointService,
  type CheckpointSpecSchema,
  type PutCheckpointRequestSchema,
  type UploadCheckpointRequestSchema,
} from "#gen/leasehold/v1/checkpoint_pb.js";
import { type Lease, LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import type { Database } from "../../src/database/database.ts";
import { type LeaseInit, leaseUuid, type Reachable, type RpcDoor, required, type Tenant } from "../support/tenant.ts";
import type { TestLeasehold } from "../support/test-leasehold.ts";
import { query } from "../support/test-query.ts";

export type PutInit = MessageInitShape<typeof PutCheckpointRequestSchema>;
export type UploadInit = MessageInitShape<typeof UploadCheckpointRequestSchema>;

/** One caller's view of workflows at one server. */
export class Workflows {
  readonly tenant: Tenant;
  readonly checkpoints: Client<typeof CheckpointService>;
  readonly nativeCheckpoints: Client<typeof CheckpointService>;
  readonly leases: Client<typeof LeaseService>;

  constructor(tenant: Tenant, server: Reachable = tenant.leasehold) {
    this.tenant = tenant;
    this.checkpoints = server.client(CheckpointService, tenant.account.apiKey);
    this.nativeCheckpoints = server.nativeClient(CheckpointService, tenant.account.apiKey);
    this.leases = server.client(LeaseService, tenant.account.apiKey);
  }

  /** The same caller at another server. */
  at(server: Reachable): Workflows {
    return new Workflows(this.tenant.at(server), server);
  }

  door(door: RpcDoor): Client<typeof CheckpointService> {
    return door === "connect" ? this.checkpoints : this.nativeCheckpoints;
  }

  /** Makes a lease for a workflow: of 1 MiB, for an hour, under a new workflow_id, unless said otherwise. */
  async begin(spec: MessageInitShape<typeof CheckpointSpecSchema> = {}, lease: LeaseInit = {}): Promise<Lease> {
    const workflowId = spec.workflowId ?? `wf.${randomUUID()}`;
    const { lease: made } = await this.leases.createLease({
      sizeBytes: 1_048_576n,
      duration: { seconds: 3_600n },
      ...lease,
      variant: { case: "checkpoint", value: { ...spec, workflowId } },
    } as LeaseInit);
    return required(made);
  }

  async put(leaseId: string, body: string | Uint8Array, request: PutInit = {}): Promise<Checkpoint> {
    const { checkpoint } = await this.checkpoints.putCheckpoint({ leaseId, body: Buffer.from(body), ...request });
    return required(checkpoint);
  }

  async get(leaseId: string, version = 0n): Promise<Checkpoint> {
    return required((await this.checkpoints.getCheckpoint({ leaseId, version })).checkpoint);
  }

  async text(leaseId: string, version = 0n): Promise<string> {
    return Buffer.from((await this.get(leaseId, version)).body).toString();
  }

  async upload(door: RpcDoor, messages: AsyncIterable<UploadInit> | Iterable<UploadInit>): Promise<Checkpoint> {
    return required((await this.door(door).uploadCheckpoint(asyncOf(messages))).checkpoint);
  }

  async download(door: RpcDoor, request: { leaseId: string; version?: bigint; offset?: bigint }): Promise<Buffer> {
    const pieces: Uint8Array[] = [];
    for await (const { data } of this.door(door).downloadCheckpoint(request)) {
      pieces.push(data);
    }
    return Buffer.concat(pieces);
  }
}

async function* asyncOf<Item>(items: AsyncIterable<Item> | Iterable<Item>): AsyncGenerator<Item> {
  yield* items;
}

/** A body cut into the messages of an upload. */
export function* uploadOf(put: PutInit, body: Uint8Array, pieceBytes: number): Generator<UploadInit> {
  for (let at = 0; at === 0 || at < body.length; at += pieceBytes) {
    const first = at === 0 ? { put } : {};
    const finish = at + pieceBytes >= body.length;
    yield { ...first, offset: BigInt(at), data: body.subarray(at, at + pieceBytes), finish };
  }
}

/** What only a Checkpoint lease has. */
export function checkpointOf(lease: Lease) {
  if (lease.details.case !== "checkpoint") {
    throw new Error("the lease is not of Checkpoint");
  }
  return lease.details.value;
}

/** How many rows there are of a lease's checkpoints. */
export async function rowsOf(database: Database, leaseId: string) {
  const [row] = await query<{ checkpoints: bigint; versions: bigint; files: bigint; workflows: bigint }>(
    database,
    `select (select count(*) from checkpoint where lease_id = $1) as checkpoints,
      (select count(*) from checkpoint_version where lease_id = $1) as versions,
      (select count(*) from checkpoint_file where lease_id = $1) as files,
      (select count(*) from checkpoint_workflow where lease_id = $1) as workflows`,
    [leaseUuid(leaseId)],
  );
  return required(row);
}

/** Makes the next reader of a file find that something was put before it could open that. */
export function pushedOutWhileRead({ core }: TestLeasehold, put: () => Promise<unknown>): void {
  const { store } = core.checkpoints.files;
  const { openSegment } = store;
  vi.spyOn(store, "openSegment").mockImplementationOnce(async (...asked) => {
    await put();
    return await openSegment.apply(store, asked);
  });
}

/** The files of checkpoints: of one lease, or of all. */
export async function segmentFiles({ core }: TestLeasehold, leaseId?: string): Promise<string[]> {
  const entries = await readdir(join(core.config.contentDir, core.keyFolder.installationId, "checkpoint"), {
    recursive: true,
    withFileTypes: true,
  });
  const files = entries.filter((entry) => entry.isFile());
  const wanted = leaseId === undefined ? files : files.filter((file) => file.parentPath.endsWith(leaseUuid(leaseId)));
  return wanted.map(({ name }) => name).sort();
}
