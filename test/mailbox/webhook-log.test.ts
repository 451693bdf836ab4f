/** Issue 3: the owner reads what became of each notification. */
import { expect, test } from "vitest";
import { ApiKey_Scope } from "#gen/leasehold/v1/account_pb.js";
import { MailboxService } from "#gen/leasehold/v1/mailbox_pb.js";
import { mostAttempts, retryDelaySeconds, retrySpanSeconds } from "../../src/mailbox/webhook-schedule.ts";
import { seenReason } from "../server/seen-error.ts";
import { Tenant } from "../support/tenant.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { AnnouncedMailbox } from "./webhook-receiver.ts";

const leasehold = await TestLeasehold.start();

test("the log comes in pages, newest first, each notification once", async () => {
  const mailbox = await AnnouncedMailbox.open(leasehold, "http://127.0.0.1:9/");
  const { leaseId } = mailbox;
  const ids = await mailbox.drop(..."abcde");
  const shown: string[] = [];
  let pageToken = "";
  do {
    const page = await mailbox.mailboxes.listWebhookDeliveries({ leaseId, pageSize: 2, pageToken });
    shown.push(...page.deliveries.map(({ messageId }) => messageId));
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  expect(shown).toEqual(ids.reverse());
  const { deliveries } = await mailbox.log();
  const sequences = deliveries.map(({ sequence }) => sequence);
  expect(sequences).toEqual(sequences.toSorted((one, other) => Number(other - one)));
});

test("a mailbox without a webhook has an empty log", async () => {
  const mailbox = await AnnouncedMailbox.open(leasehold, "");
  await mailbox.drop("a");
  expect((await mailbox.log()).deliveries).toEqual([]);
});

test("the log is refused to others, of other leases, and once the lease has ended", async () => {
  const mailbox = await AnnouncedMailbox.open(leasehold, "http://127.0.0.1:9/");
  const { leaseId, tenant } = mailbox;
  await mailbox.drop("a");
  const stranger = leasehold.client(MailboxService, (await Tenant.open(leasehold)).account.apiKey);
  expect(await seenReason(stranger.listWebhookDeliveries({ leaseId }))).toBe("NOT_FOUND");
  const { leaseId: storageId } = await tenant.create();
  expect(await seenReason(mailbox.mailboxes.listWebhookDeliveries({ leaseId: storageId }))).toBe("WRONG_VARIANT");
  const badToken = mailbox.mailboxes.listWebhookDeliveries({ leaseId, pageToken: "x" });
  expect(await seenReason(badToken)).toBe("INVALID_FIELD");
  const writer = await tenant.accounts.createApiKey({ name: "writer", scopes: [ApiKey_Scope.WRITE] });
  const byWriter = leasehold.client(MailboxService, writer.apiKey);
  expect(await seenReason(byWriter.listWebhookDeliveries({ leaseId }))).toBe("SCOPE_MISSING");
  await tenant.age(leaseId, 3_601);
  expect(await seenReason(mailbox.log())).toBe("LEASE_ENDED");
});

test("the delays between attempts are those that are published, less at most a tenth", async () => {
  const published = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
  for (const [place, delay] of published.entries()) {
    const chosen = retryDelaySeconds(place + 1);
    expect(chosen).toBeLessThanOrEqual(delay);
    expect(chosen).toBeGreaterThanOrEqual(delay * 0.9);
  }
  expect(retryDelaySeconds(published.length + 1)).toBeUndefined();
  const tenant = await Tenant.open(leasehold);
  const limits = (await tenant.leases.getPricing({})).pricing?.limits ?? [];
  const limitOf = (name: string) => limits.find((limit) => limit.name === name)?.value;
  expect(limitOf("webhook_attempts")).toBe(BigInt(mostAttempts));
  expect(limitOf("webhook_retry_seconds")).toBe(BigInt(retrySpanSeconds));
  expect([mostAttempts, retrySpanSeconds]).toEqual([10, published.reduce((sum, delay) => sum + delay)]);
});
