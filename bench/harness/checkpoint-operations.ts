/** What the load does with checkpoints. */
import { randomBytes, randomUUID } from "node:crypto";
import { CheckpointService } from "#gen/leasehold/v1/checkpoint_pb.js";
import { LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import type { Operation } from "./load-target.ts";

/** Of the body of one version. */
const stateBytes = 4096;

const state = randomBytes(stateBytes);

export const checkpointOperations = {
  async createCheckpoint({ grpc }) {
    const { lease } = await grpc.unary(LeaseService.method.createLease, {
      sizeBytes: BigInt(stateBytes),
      duration: { seconds: 86_400n },
      variant: { case: "checkpoint", value: { workflowId: randomUUID() } },
    });
    return lease?.leaseId ?? "";
  },

  async putCheckpoint({ grpc }, leaseId) {
    const { checkpoint } = await grpc.unary(CheckpointService.method.putCheckpoint, { leaseId, body: state });
    return `${checkpoint?.version}`;
  },

  async getCheckpoint({ grpc }, leaseId) {
    const { checkpoint } = await grpc.unary(CheckpointService.method.getCheckpoint, { leaseId });
    if (checkpoint?.body.length !== stateBytes) {
      throw new Error(`${checkpoint?.body.length} bytes came instead of ${stateBytes}`);
    }
    return `${checkpoint.version}`;
  },
} as const satisfies Readonly<Record<string, Operation>>;
