/** Where the load's operations go, and what an operation is. */
import type { GrpcConnection } from "./grpc-connection.ts";

/** A server, as an operation reaches it. */
export interface LoadTarget {
  readonly grpc: GrpcConnection;
  readonly httpPort: number;
  readonly bearer: string;
}

/** Makes one call. `input` is what the bench gave for it; the answer is kept as the output for that input. */
export type Operation = (target: LoadTarget, input: string) => Promise<string>;
