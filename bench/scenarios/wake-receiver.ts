/** How long a message takes from its drop to a receiver that waits on another server process, at 1,000 drops a second. */
import { endMailboxes, makeMailboxes } from "../harness/make-mailboxes.ts";
import type { Scenario } from "../harness/measure.ts";
import type { Stage } from "../harness/stage.ts";

const dropsPerSecond = 1000;

export async function wakeReceiver(stage: Stage): Promise<Scenario> {
  const dropping = await stage.leasehold("main");
  const receiving = await stage.siblingOf(dropping);
  const wake = async (seconds: number) => {
    const mailboxes = await makeMailboxes(stage, dropping, 1);
    const [{ leaseId, dropToken } = { leaseId: "", dropToken: "" }] = mailboxes;
    const drops = { leaseId, dropToken, dropsPerSecond, seconds };
    const measure = await stage.measureWake({ dropping, receiving }, "wake", drops);
    await endMailboxes(stage, dropping, mailboxes);
    return new Map([["wake", measure]]);
  };
  return {
    legs: [wake],
    figures: [
      {
        title: `Drop to a receiver on another process, ${dropsPerSecond} drops/s`,
        unit: "messages/s",
        latencyOf: "wake",
      },
    ],
  };
}
