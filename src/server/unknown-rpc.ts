/** Answers every RPC that there is not. grpc-js would answer it without a reason. */
import { Health } from "#gen/grpc/health/v1/health_pb.js";
import { unknownMethod } from "./call-failures.ts";
import type { RpcMethod } from "./service-implementation.ts";

/** Its descriptor stands for a request that is never read. */
export const unknownRpc: RpcMethod = {
  descriptor: Health.method.check,
  name: "leasehold.Unknown/Unknown",
  kind: "unary",
  run: () => Promise.reject(unknownMethod("RPC of this name")),
  servedWhileDraining: true,
};
