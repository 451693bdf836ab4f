import { describe, expect, test } from "vitest";
import { ListedMessage_State as State } from "#gen/leasehold/v1/mailbox_pb.js";
import { refusedWith } from "../handoff/redeemer.ts";
import { doors, required, Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { MailReceiver, seen } from "./mail-receiver.ts";

const leasehold = await TestLeasehold.start();
const tenant = await Tenant.open(leasehold);

describe("listing messages", () => {
  test.each(doors)("over %s shows each with what is happening to it, and holds none", async (door) => {
    const mailbox = (await MailReceiver.open(tenant, { maxDeliveries: 1 })).at(leasehold, door);
    const { leaseId } = mailbox;
    await mailbox.drop(["dead"]);
    await mailbox.nack(await mailbox.pull());
    await mailbox.drop(["held"], { contentType: "text/plain", attributes: { a: "b" } });
    await mailbox.pull();
    await mailbox.drop(["delayed"], { delay: { seconds: 600n } });
    await mailbox.drop(["ready", "blocked"], { group: "a" });
    const { messages, nextPageToken } = await mailbox.mail.listMessages({ leaseId });
    expect(messages.map(({ message, state }) => [Buffer.from(message?.body ?? []).toString(), state])).toEqual([
      ["dead", State.DEAD],
      ["held", State.HELD],
      ["delayed", State.DELAYED],
      ["ready", State.READY],
      ["blocked", State.BLOCKED],
    ]);
    expect(messages[1]).toMatchObject({ message: { contentType: "text/plain", attributes: { a: "b" } } });
    expect(messages.map(({ visibleTime }) => visibleTime !== undefined)).toEqual([false, true, true, false, false]);
    expect(nextPageToken).toBe("");
    expect(await mailbox.pullBodies()).toEqual(["ready"]);
  });

  test("goes on page by page, each within its size and what fits a message of an RPC", async () => {
    const small = await TestLeasehold.start({
      beside: leasehold,
      settings: { LEASEHOLD_MAX_MESSAGE_BYTES: "131072" },
    });
    const mailbox = await MailReceiver.open(tenant);
    const bodies = ["1", "2".repeat(60_000), "3".repeat(60_000), "4".repeat(60_000), "5", "6", "7"];
    await mailbox.drop(bodies);
    const pages: number[][] = [];
    let pageToken = "";
    do {
      const page = await mailbox.at(small).mail.listMessages({ leaseId: mailbox.leaseId, pageSize: 3, pageToken });
      pages.push(page.messages.map(({ message }) => Number(required(message).sequence)));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(pages).toEqual([[1, 2, 3], [4, 5, 6], [7]]);
    const all = await mailbox.at(small).mail.listMessages({ leaseId: mailbox.leaseId });
    expect(all.messages.length).toBe(3);
  });

  test("refuses a page token that it never gave, and a lease that has ended", async () => {
    const mailbox = await MailReceiver.open(tenant);
    const { leaseId } = mailbox;
    for (const pageToken of ["x", "zzzzzzzzzzz", "00000000000u"]) {
      const refused = refusedWith(seen(mailbox.mail.listMessages({ leaseId, pageToken })));
      expect(await refused).toMatchObject({ reason: "INVALID_FIELD", metadata: { field: "page_token" } });
    }
    await tenant.age(leaseId, 3_600);
    const list = mailbox.mail.listMessages({ leaseId });
    expect(await refusedWith(seen(list))).toMatchObject({ reason: "LEASE_ENDED" });
    const dead = mailbox.mail.listDeadMessages({ leaseId });
    expect(await refusedWith(seen(dead))).toMatchObject({ reason: "LEASE_ENDED" });
  });
});
