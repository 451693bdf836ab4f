/** A peer's process: it makes its own calls, since what it is compared by is a library and not a server. */
import { serveCommands } from "./bench-process.ts";
import { type CallsResult, type CallTask, makeCalls } from "./make-calls.ts";

/** What a peer can be asked: runs of its operations. */
export type PeerCommands<Operation extends string> = Readonly<{
  run: (task: CallTask<Operation>) => Promise<CallsResult>;
}>;

/** Runs these operations when asked. An operation is given its input; its answer is kept as the output for that input. */
export function servePeer<Operation extends string>(
  operations: Readonly<Record<Operation, (input: string) => Promise<string>>>,
  close: () => Promise<void>,
): void {
  const commands: PeerCommands<Operation> = {
    run: (task) => makeCalls(task, operations[task.operation]),
  };
  serveCommands(commands, close);
}
