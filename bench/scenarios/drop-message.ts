/** DropMessage of 1 KiB on one mailbox at 256 callers, against its echo, pg-boss, and the same over 1,000 mailboxes. */
import { endMailboxes, makeMailboxes } from "../harness/make-mailboxes.ts";
import type { RatioSpec, Round, Scenario } from "../harness/measure.ts";
import { prepareEcho } from "../harness/prepare-echo.ts";
import type { Server, Stage } from "../harness/stage.ts";

const callers = 256;
const manyMailboxes = 1000;
const queue = "drop";

export async function dropMessage(stage: Stage): Promise<Scenario> {
  const { leasehold, echo } = await prepareEcho(stage);
  const pgBoss = await stage.pgBoss();
  /** Into mailboxes that are new, so that no round finds what the one before left. */
  const drop = (server: Server, name: string, mailboxCount: number) => async (seconds: number) => {
    const mailboxes = await makeMailboxes(stage, leasehold, mailboxCount);
    const inputs = mailboxes.map(({ dropToken }) => dropToken);
    const run = { operation: "dropMessage", inputs, callers, stop: { seconds } } as const;
    const { measure } = await stage.measure(server, name, run);
    await endMailboxes(stage, leasehold, mailboxes);
    return new Map([[name, measure]]);
  };
  const send = async (seconds: number): Promise<Round> => {
    const inputs = [queue];
    await stage.callPeer(pgBoss, { operation: "createQueue", inputs, stop: "inputs" });
    const run = { operation: "send", inputs, callers, stop: { seconds } } as const;
    const { measure } = await stage.measurePeer(pgBoss, "pg-boss send", run);
    await stage.callPeer(pgBoss, { operation: "deleteQueue", inputs, stop: "inputs" });
    return new Map([["pg-boss send", measure]]);
  };
  return {
    legs: [
      drop(echo, "drop echo", 1),
      drop(leasehold, "drop", 1),
      send,
      drop(leasehold, "drop over many", manyMailboxes),
    ],
    figures: [
      figure("against its echo", "drop echo", 0.5),
      figure("against pg-boss send", "pg-boss send", 4),
      figure(`against over ${manyMailboxes} mailboxes`, "drop over many", 0.8),
    ],
  };
}

function figure(against: string, baseline: string, atLeast: number): RatioSpec {
  const title = `DropMessage of 1 KiB, one mailbox, ${callers} callers, ${against}`;
  return { title, unit: "calls/s", subject: "drop", baseline, atLeast };
}
