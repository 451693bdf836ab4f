/** Makes mailboxes to measure with, through the API and not measured, and ends them. */
import type { Server, Stage } from "./stage.ts";

/** A mailbox with room for any run. */
export interface BenchMailbox {
  readonly leaseId: string;
  readonly dropToken: string;
}

/** Empty mailboxes. */
export async function makeMailboxes(stage: Stage, server: Server, count: number): Promise<readonly BenchMailbox[]> {
  const made = await stage.call(server, { operation: "createMailbox", stop: { calls: count } });
  return made.map((output) => {
    const [leaseId = "", dropToken = ""] = output.split(" ");
    return { leaseId, dropToken };
  });
}

/** Destroys what is in them, too. */
export async function endMailboxes(stage: Stage, server: Server, mailboxes: readonly BenchMailbox[]): Promise<void> {
  const inputs = mailboxes.map(({ leaseId }) => leaseId);
  await stage.call(server, { operation: "deleteLease", inputs, stop: "inputs" });
}
