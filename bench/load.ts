/** The load: a process that makes calls to the servers as so many callers would. */

import { type Commands, serveCommands } from "./harness/bench-process.ts";
import { type DropStream, dropToReceiver } from "./harness/drop-to-receiver.ts";
import { GrpcConnection } from "./harness/grpc-connection.ts";
import { type LoadOperation, loadOperations } from "./harness/load-operations.ts";
import { type CallsResult, type CallTask, makeCalls } from "./harness/make-calls.ts";

/** Where a server is, and the credential that is shown to it. */
export interface LoadAddress {
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly bearer: string;
}

/** A run of one operation. */
export type LoadTask = CallTask<LoadOperation> & LoadAddress;

/** Drops to one server while a receiver waits at another. */
export interface WakeTask extends DropStream {
  readonly dropAt: LoadAddress;
  readonly receiveAt: LoadAddress;
}

const connections = new Map<string, GrpcConnection>();

const commands = {
  async run(task: LoadTask): Promise<CallsResult> {
    const { httpPort, bearer } = task;
    const target = { grpc: connectionTo(task), httpPort, bearer };
    const operation = loadOperations[task.operation];
    return await makeCalls(task, (input) => operation(target, input));
  },

  async wake(task: WakeTask): Promise<CallsResult> {
    return await dropToReceiver(task, connectionTo(task.dropAt), connectionTo(task.receiveAt));
  },
} satisfies Commands;

export type LoadCommands = typeof commands;

function connectionTo({ grpcPort, bearer }: LoadAddress): GrpcConnection {
  const key = `${grpcPort} ${bearer}`;
  const grpc = connections.get(key) ?? new GrpcConnection(grpcPort, bearer);
  connections.set(key, grpc);
  return grpc;
}

serveCommands(commands, async () => {
  for (const connection of connections.values()) {
    connection.close();
  }
});
